"""The official release's state dict, sorted into pieces by name.

    VLV_model.model.*            Florence-2, in the original's names    -> vision, language
    VLV_model.query_embed        (1, K, D)                              -> queries
    VLV_model.language_proj.*    phi                                    -> phi
    VLV_model.text_encoder.*     CLIP's text encoder                    -> text_encoder
    VLV_model.unet.*, .vae.*     often left out of stage 2              -> unet, vae
    mlp.layers.*                 psi                                    -> connector
    qwen2_model.*                the language model                     -> llm

Stage 1 has no `VLV_model.`, `mlp` and `qwen2_model`. Whatever else stands before these names is
found by the names that only one piece can have.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from vlv_core.errors import ModelError
from vlv_plugins._florence_names import (
    LANGUAGE,
    PROJECTION,
    SHARED,
    VISION,
    native_name,
    only_table,
    unused,
)

QUERIES = "query_embed"
FLORENCE = "model."
LM = "qwen2_model."
_EMBEDDINGS = re.compile(r"^(.*?)model\.embed_tokens\.weight$")
_PSI = re.compile(r"^(.*?)mlp\.layers\.\d+\.(?:weight|bias)$")
_STRANGER = "it belongs to no part of the official layout"
_POSITIONS = "the numbers of positions, which are no weights"
_FREQUENCIES = "rotary_emb.inv_freq"
"""of rotary positions, which older versions of the library store"""

Piece = Literal[
    "vision", "language", "queries", "phi", "text_encoder", "unet", "vae", "connector", "llm"
]
Sorted = tuple[Piece, str]


@dataclass
class Layout:
    """Every key of a checkpoint: in a piece, or unused with a reason."""

    pieces: dict[Piece, dict[str, Tensor]] = field(default_factory=dict)
    """piece -> name in the piece's own library -> tensor"""
    used: dict[str, Sorted] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    @property
    def stage(self) -> Literal[1, 2]:
        """2 if anything of what stage 2 adds is there."""
        return 2 if self.pieces.get("connector") or self.pieces.get("llm") else 1

    def piece(self, name: Piece) -> dict[str, Tensor]:
        """Its tensors; none if the checkpoint lacks it."""
        return self.pieces.get(name, {})

    def drop(self, name: Piece, reason: str) -> None:
        """Move a piece's keys to the unused ones."""
        self.pieces.pop(name, None)
        for key in [key for key, (piece, _) in self.used.items() if piece == name]:
            del self.used[key]
            self.unused[key] = reason


def sort(tensors: Mapping[str, Tensor]) -> Layout:
    """Raises ModelError if it is not the release's layout."""
    body, psi, llm = _prefixes(tensors)
    florence = f"{body}{FLORENCE}"
    table = only_table(key.removeprefix(florence) for key in tensors if key.startswith(florence))
    layout = Layout()
    for key, tensor in tensors.items():
        found = _sort_one(key, body=body, psi=psi, llm=llm)
        if table is not None and key == f"{florence}{table}":
            found = ("language", SHARED)
        if isinstance(found, str):
            layout.unused[key] = found
            continue
        piece, name = found
        layout.used[key] = found
        layout.pieces.setdefault(piece, {})[name] = _turned(key, tensor)
    _check(layout)
    return layout


def _sort_one(key: str, *, body: str, psi: str | None, llm: str | None) -> Sorted | str:
    """Where a key belongs, or why it is unused."""
    if llm is not None and key.startswith(llm):
        return _POSITIONS if key.endswith(_FREQUENCIES) else ("llm", key.removeprefix(llm))
    if psi is not None and key.startswith(f"{psi}mlp.layers."):
        return "connector", key.removeprefix(f"{psi}mlp.")
    if not key.startswith(body):
        return _STRANGER
    name = key.removeprefix(body)
    if name == QUERIES:
        return "queries", "queries"
    for start, place in _BODY.items():
        if name.startswith(start):
            return place(name.removeprefix(start))
    return _STRANGER


def _florence(name: str) -> Sorted | str:
    native = native_name(name)
    if reason := unused(native):
        return reason
    if native.startswith(VISION):
        return "vision", native
    return ("language", native) if native.startswith(LANGUAGE) else _STRANGER


def _text_encoder(name: str) -> Sorted | str:
    return _POSITIONS if name.endswith("position_ids") else ("text_encoder", name)


_BODY: Mapping[str, Callable[[str], Sorted | str]] = {
    FLORENCE: _florence,
    "language_proj.": lambda name: ("phi", f"phi.{name}"),
    "text_encoder.": _text_encoder,
    "unet.": lambda name: ("unet", name),
    "vae.": lambda name: ("vae", name),
}


def _turned(key: str, tensor: Tensor) -> Tensor:
    """As the library keeps it: the projection transposed, queries without a batch axis."""
    if key.endswith(PROJECTION):
        return tensor.T
    if key.endswith(QUERIES):
        return tensor.reshape(tensor.shape[-2:]) if tensor.ndim > 1 else tensor
    return tensor


def _prefixes(keys: Iterable[str]) -> tuple[str, str | None, str | None]:
    """What stands before Florence-2 and its kin, before psi, and before the language model."""
    keys = list(keys)
    queries = [key for key in keys if key == QUERIES or key.endswith(f".{QUERIES}")]
    if len(queries) != 1:
        known = ", ".join(sorted({key.partition(".")[0] for key in keys})[:12])
        raise ModelError(
            f"this is no checkpoint of the official release: it has {len(queries)} {QUERIES!r}, "
            f"1 is due; its names start with {known}",
            hint="stage 2 of the release has qwen2_model, mlp, VLV_model; stage 1 model, unet",
        )
    body = queries[0].removesuffix(QUERIES)
    rest = [key for key in keys if not (body and key.startswith(body))]
    psi = next((match[1] for key in rest if (match := _PSI.match(key))), None)
    literal = next((key[: key.find(LM)] + LM for key in rest if LM in key), None)
    found = next((match[1] for key in rest if (match := _EMBEDDINGS.match(key))), None)
    return body, psi, literal or found


def _check(layout: Layout) -> None:
    shape = tuple(layout.piece("queries")["queries"].shape)
    if len(shape) != 2:
        raise ModelError(f"{QUERIES!r} is {shape} in the checkpoint, but (1, K, D) is due")
    for name in ("phi", "connector"):
        if layout.stage == 1 and name == "connector":
            continue
        _check_mlp(layout.piece(name), name)


def _check_mlp(tensors: Mapping[str, Tensor], piece: str) -> None:
    if not tensors:
        raise ModelError(
            f"the checkpoint has no {piece}: language_proj (phi) is due in both stages, "
            "mlp (psi) in stage 2"
        )


def layers(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The matrices of an MLP in their order."""
    found = {int(n.split(".")[-2]): t for n, t in tensors.items() if n.endswith(".weight")}
    return [found[index] for index in sorted(found)]
