"""What is checked: one variant of a folder, opened as users open it, and its golden values."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlv_core.files import contained
from vlv_core.protocols import Encoded
from vlv_export.golden import Golden
from vlv_export.manifest import Manifest, VariantEntry
from vlv_export.parity.simulated import SimulatedSessions, simulates
from vlv_export.parity.thresholds import Limits, limits_of
from vlv_export.preflight import Parts, check_artefact
from vlv_export.runtime import Runtime
from vlv_export.runtime.backend import ArtefactBackend
from vlv_export.runtime.captioner import open_checked, sessions_of
from vlv_export.yardstick import YARDSTICK, Yardstick, read_yardstick

BATCH = 8
"""pictures at once, as when golden values were written"""
DRAWING = ("denoiser", "vae_decoder")


@dataclass(frozen=True)
class Target:
    """The runtime is opened when it is first needed."""

    folder: Path
    manifest: Manifest
    variant: str
    golden: Golden
    threads: int | None = None

    @property
    def entry(self) -> VariantEntry:
        return self.manifest.variant(self.variant)

    @property
    def limits(self) -> Limits:
        """Raises UsageError for a dtype that the table lacks."""
        return limits_of(self.entry.dtype)

    @property
    def draws(self) -> bool:
        return all(part in self.entry.graphs for part in DRAWING)

    @cached_property
    def yardstick(self) -> Yardstick | None:
        """None if the export wrote none, as for variants of float32."""
        if YARDSTICK not in self.manifest.files:
            return None
        return read_yardstick(contained(self.folder, YARDSTICK))

    @cached_property
    def runtime(self) -> Runtime:
        """Raises ModelError if the variant cannot be opened."""
        parts: Parts = "all" if self.draws else "caption"
        # Not Runtime.open, which proves first what nobody has proved: by this very module.
        manifest = check_artefact(self.folder, variant=self.variant, parts=parts)
        make = SimulatedSessions if simulates(self.entry) else sessions_of
        sessions = make(self.folder, manifest, self.variant, self.threads)
        return open_checked(sessions, manifest, parts=parts)

    @property
    def backend(self) -> ArtefactBackend:
        return self.runtime.backend

    @cached_property
    def encoded(self) -> Encoded:
        """The golden file's captioned pictures, by the artefact's encoder."""
        return self.encode(self.golden.pixels)

    @cached_property
    def said(self) -> Golden:
        """The golden values with captions as long as this variant's cache holds beside a prefix."""
        room = self.backend.limits.max_length - self.encoded.prefix.shape[1]
        return self.golden.shortened(room)

    def encode(self, pixels: NDArray[np.uint8]) -> Encoded:
        """Pictures at the encoder's own size (N, s, s, 3), a batch after the other."""
        found = [
            self.backend.sessions.run("encoder", {"view": pixels[start : start + BATCH]})
            for start in range(0, len(pixels), BATCH)
        ]
        joined = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        return Encoded(joined["z"], joined["context"], joined.get("pooled"), joined["prefix"])
