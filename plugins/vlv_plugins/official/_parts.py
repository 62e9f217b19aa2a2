"""From a sorted checkpoint to built parts with their weights.

Each part is given its weights in the layout of its own library, in a scratch folder, and reads them
as it reads a published model: strictly, and without this plugin knowing what is inside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlv_core import weights
from vlv_core.compose import Choice, build_parts
from vlv_core.errors import ConfigError, ModelError
from vlv_plugins.official._layout import Layout
from vlv_plugins.official._sources import FILES, Published, lacking

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".gguf")
OWN = {"bottleneck": ("queries", "phi"), "connector": ("connector",)}
"""part -> pieces that no published model has, named as in the part's own state dict"""
WIDTHS = {
    "bottleneck": "queries are as wide as the language model of --florence2, and phi ends in the "
    "width of --stable-diffusion's text encoder",
    "connector": "psi goes from the width of --stable-diffusion's text encoder to that of --llm",
}
"""part -> what its own pieces must agree with"""


@dataclass
class Filled:
    """Where one part's weights came from."""

    plugin: str
    parameters: int
    from_checkpoint: int
    """tensors"""
    taken: dict[str, list[str]] = field(default_factory=dict)
    """location -> names that the checkpoint lacks"""


def build(
    choices: Mapping[str, Choice], *, view_size: int, diffusion: bool
) -> dict[str, nn.Module]:
    """The parts that there are choices for, without memory: stage 1 has no connector and head."""
    with weights.skeleton():
        parts = build_parts(choices, view_size=view_size, diffusion=diffusion)
    queries, most = parts["bottleneck"].num_queries, parts["condition"].max_queries
    if queries > most:
        raise ConfigError(
            f"the checkpoint has {queries} queries, but this text encoder reads at most {most}",
            hint="give --stable-diffusion the model that the checkpoint was trained with",
        )
    return parts


def fill(
    part: str, module: Any, layout: Layout, *, choice: Choice, published: Published | None
) -> Filled:
    """Give a part its weights. Raises ModelError if they do not fit, or do not suffice."""
    weights.materialise(module)
    names: set[str] = set()
    told = Filled(choice.spec.name, sum(p.numel() for p in module.parameters()), 0)
    if published is not None:
        names |= _read(part, module, layout, published, told)
    for piece in OWN.get(part, ()):
        tensors = {n: t.float() for n, t in layout.piece(piece).items()}  # type: ignore[arg-type]
        try:
            weights.assign(module, tensors, part=part, partly=True)
        except ModelError as error:
            raise ModelError(error.message, hint=WIDTHS[part]) from error
        names |= set(tensors)
        told.from_checkpoint += len(tensors)
    if missing := sorted(set(weights.distinct(module)) - names):
        raise ModelError(f"{part}: the checkpoint lacks {', '.join(missing[:12])}")
    return told


def _read(part: str, module: Any, layout: Layout, published: Published, told: Filled) -> set[str]:
    """First with the checkpoint's tensors alone; where they do not suffice, with published ones."""
    given = {file: layout.piece(piece) for file, piece in FILES[part].items()}
    told.from_checkpoint += sum(map(len, given.values()))
    for file in [file for file, tensors in given.items() if not tensors]:
        if not published.has(file):
            raise lacking(published, file)
        given[file] = published.weights(file)
        told.taken.setdefault(published.location, []).extend(sorted(given[file]))
    try:
        return _load(module, given, published)
    except ModelError as error:
        more = _supplement(given, published, told)
        if more is None:
            raise ModelError(
                f"{part}: {error.message}",
                hint=f"{published.option} must be the model that the checkpoint was trained from, "
                "with its configuration and tokenizer; weights that the checkpoint lacks are taken "
                "from that folder if it has them",
            ) from error
    return _load(module, more, published)


def _supplement(
    given: Mapping[str, Mapping[str, Tensor]], published: Published, told: Filled
) -> dict[str, dict[str, Tensor]] | None:
    """The checkpoint's tensors and those that only the user's folder has; None if it adds none."""
    more: dict[str, dict[str, Tensor]] = {}
    for file, tensors in given.items():
        other = published.weights(file) if published.is_folder and published.has(file) else {}
        added = {name: t for name, t in other.items() if _is_new(name, t, other, tensors)}
        more[file] = {**added, **tensors}
        if added:
            told.taken.setdefault(published.location, []).extend(sorted(added))
    return more if any(len(more[file]) > len(given[file]) for file in given) else None


def _is_new(
    name: str, tensor: Tensor, other: Mapping[str, Tensor], mine: Mapping[str, Tensor]
) -> bool:
    """Not in the checkpoint, under no name: a tied weight's copy would undo the checkpoint's."""
    if name in mine:
        return False
    twins = (t for twin, t in other.items() if twin in mine and t.shape == tensor.shape)
    return not any(torch.equal(tensor, twin) for twin in twins)


def _load(module: Any, files: Mapping[str, Mapping[str, Tensor]], published: Published) -> set[str]:
    published.scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".vlv-import-", dir=published.scratch) as scratch:
        folder = Path(scratch)
        small = published.small_files()
        if small is not None:
            _link(small, folder)
        for file, tensors in files.items():
            target = folder / f"{file}.safetensors"
            target.parent.mkdir(parents=True, exist_ok=True)
            save_file(_apart(tensors), target)
        try:
            return set(module.load_pretrained(folder))
        except ModelError as error:
            # The scratch folder is nobody's: what it lacks, the published one lacks.
            said = error.message.replace(str(folder), published.location)
            raise ModelError(said, hint=error.hint) from error


def _link(source: Path, folder: Path) -> None:
    """Everything but weights, which come from the checkpoint."""
    for path in source.rglob("*"):
        weight = path.suffix in WEIGHT_SUFFIXES or path.name.endswith(".index.json")
        if path.is_file() and not weight:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.resolve())


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tied weights as copies, which safetensors wants: the module ties them again."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        shared = tensor.untyped_storage().data_ptr() in seen
        seen.add(tensor.untyped_storage().data_ptr())
        apart[name] = tensor.clone() if shared else tensor.contiguous()
    return apart
