"""Computations of frozen parts whose results may come from the cache instead."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlv_core.errors import ConfigError
from vlv_core.training.cache import DIGEST, Layout, Store, component_digest
from vlv_core.training.freeze import is_frozen

GIB = 2**30


class FrozenPass:
    """prepare(views) on the host, then compute on the device, without gradients.

    With a store, rows that it knows skip both; others are computed and stored.
    """

    def __init__(
        self,
        name: str,
        *,
        modules: dict[str, nn.Module],
        prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
        compute: Callable[[Tensor], Tensor],
    ) -> None:
        self.name, self.modules = name, modules
        self.prepare, self.compute = prepare, compute
        self.store: Store | None = None
        self.seconds = 0.0
        """spent in computing since the last `take_seconds`, if there is a store"""

    def open(self, folder: Path, *, layout: Layout, most_rows: int, config: str) -> None:
        """Use the cache below `folder`. Raises ConfigError if a part of this pass is trained."""
        self.check_frozen()
        digest = component_digest(list(self.modules.values()), config=config)
        self.store = Store(folder / f"{self.name}-{digest}", layout=layout, most_rows=most_rows)

    def check_frozen(self) -> None:
        trained = [name for name, module in self.modules.items() if not is_frozen(module)]
        if trained:
            raise ConfigError(
                f"{self.name} cannot be cached: {' and '.join(trained)} trains in this stage, "
                "so that every step changes them",
                hint='set cache = "off", or leave it out of train',
            )

    def collate(self, views: NDArray[np.uint8], digests: Sequence[bytes]) -> dict[str, Tensor]:
        """views (B, S, S, 3) -> what `run` wants of this batch."""
        if self.store is None:
            return {f"{self.name}.input": torch.from_numpy(self.prepare(views))}
        rows, missing = self.store.get(digests)
        packed = np.frombuffer(b"".join(digests[at] for at in missing), np.uint8)
        return {
            f"{self.name}.rows": rows,
            f"{self.name}.missing": torch.tensor(missing, dtype=torch.int64),
            f"{self.name}.digests": torch.from_numpy(packed.copy()).view(-1, DIGEST),
            f"{self.name}.input": torch.from_numpy(self.prepare(views[missing])),
        }

    @torch.no_grad()
    def run(self, tensors: dict[str, Tensor]) -> Tensor:
        """The pass' output for the whole batch (B, ...)."""
        source = tensors[f"{self.name}.input"]
        if self.store is None:
            return self.compute(source)
        rows = tensors[f"{self.name}.rows"]
        if not len(source):
            return rows
        _wait(source.device)
        started = time.perf_counter()
        computed = self.compute(source).to(rows.dtype)
        _wait(source.device)
        self.seconds += time.perf_counter() - started
        packed = tensors[f"{self.name}.digests"].cpu().numpy()
        self.store.put([digest.tobytes() for digest in packed], computed)
        return rows.index_copy(0, tensors[f"{self.name}.missing"], computed)

    def layout(self, view_size: int, *, device: torch.device) -> Layout:
        """What a row is, found by trying a black view."""
        view = self.prepare(np.zeros((1, view_size, view_size, 3), np.uint8))
        with torch.no_grad():
            out = self.compute(torch.from_numpy(view).to(device))
        return Layout(tuple(out.shape[1:]), out.dtype)

    def take_seconds(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def open_caches(
    passes: Sequence[tuple[FrozenPass, Layout]],
    folder: Path,
    *,
    samples: int,
    cap_gib: float,
    required: bool,
    config: str,
) -> list[str]:
    """Give each pass a store while all fit under the cap and the disk; says what each will take.

    Raises ConfigError if one does not fit and caches are required.
    """
    lines = []
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / GIB
    left = cap_gib
    for frozen, layout in passes:
        size = samples * layout.row_bytes / GIB
        said = f"cache of {frozen.name}: {samples:,} samples x {layout.row_bytes:,} bytes"
        said += f" = {size:.2f} GiB"
        room = min(left, free)
        if size > room:
            limit = (
                f"{left:.2f} GiB are left of cache_gib"
                if left <= free
                else (f"{free:.2f} GiB are free on the disk")
            )
            if required:
                raise ConfigError(
                    f"{said}, but {limit}", hint="raise cache_gib or set cache = auto"
                )
            lines.append(f"{said}: not kept, {limit}")
            continue
        frozen.open(folder, layout=layout, most_rows=samples, config=config)
        left, free = left - size, free - size
        lines.append(f"{said}, {len(frozen.store or ()):,} of them there already")
    return lines


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
