"""The three published models that a checkpoint was made from: their files, and their weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from vlv_core.compose import Choice
from vlv_core.errors import ModelError
from vlv_core.hub import fetch
from vlv_core.specs import Source, resolve
from vlv_plugins._florence_names import LANGUAGE, VISION, to_native
from vlv_plugins._hub import read_weights
from vlv_plugins.official._layout import Piece

TEXT, DIFFUSION = "model", "diffusion_pytorch_model"
FILES: Mapping[str, Mapping[str, Piece]] = {
    "encoder": {TEXT: "vision"},
    "bottleneck": {TEXT: "language"},
    "condition": {f"text_encoder/{TEXT}": "text_encoder"},
    "diffusion": {f"unet/{DIFFUSION}": "unet", f"vae/{DIFFUSION}": "vae"},
    "head": {TEXT: "llm"},
}
"""part -> weight file in the layout of its library, without extension -> piece that fills it"""
_STARTS: Mapping[Piece, tuple[str, ...]] = {"vision": VISION, "language": (LANGUAGE,)}


@dataclass(frozen=True)
class Locations:
    """Folders, or names on the hub."""

    florence2: str
    stable_diffusion: str
    llm: str

    def of(self, role: str) -> str:
        """The location behind a component."""
        if role in ("encoder", "bottleneck"):
            return self.florence2
        return self.llm if role == "head" else self.stable_diffusion


@dataclass
class Published:
    """One part's published model; what is fetched is fetched once."""

    choice: Choice
    part: str
    here: Callable[[Source], Path]
    option: str
    """of the command, for hints"""
    scratch: Path
    """where folders of weights may stand for a while"""
    _cache: dict[Piece, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def location(self) -> str:
        return self._source.location

    @property
    def is_folder(self) -> bool:
        """Whether it is on this machine by the user's own word."""
        return Path(self.location).expanduser().is_dir()

    def small_files(self) -> Path | None:
        """The folder with configuration and tokenizer; None if the part reads none."""
        wanted = tuple(name for name in self._source.files if ".safetensors" not in name)
        if not wanted and not self.is_folder:
            return None
        return self.here(Source(self.location, self._source.revision, wanted))

    def has(self, file: str) -> bool:
        """Whether it can be expected to hold a weight file: repositories do."""
        folder = Path(self.location).expanduser()
        names = (f"{file}.safetensors", f"{file}.safetensors.index.json")
        return not self.is_folder or any((folder / name).is_file() for name in names)

    def weights(self, file: str) -> dict[str, Tensor]:
        """A piece's published weights by the names that the checkpoint's have after sorting.

        Raises ModelError if they cannot be had.
        """
        piece = FILES[self.part][file]
        if piece not in self._cache:
            inner, _, stem = file.rpartition("/")
            tensors = read_weights(self.here(self._source) / inner, stem)
            starts = _STARTS.get(piece)
            if starts is not None:
                tensors = {n: t for n, t in to_native(tensors).items() if n.startswith(starts)}
            self._cache[piece] = tensors
        return self._cache[piece]

    @property
    def _source(self) -> Source:
        source: Source = resolve(self.choice.spec.pretrained or "")(self.choice.config)
        return source


def local(source: Source) -> Path:
    """The folder of a source, a relative one from where the command runs."""
    return fetch(source, root=Path.cwd()).folder


def lacking(published: Published, file: str, error: ModelError | None = None) -> ModelError:
    """What to say where neither the checkpoint nor the folder has what a part needs."""
    piece = FILES[published.part][file]
    said = f": {error.message}" if error else ""
    hint = f"give {published.option} a folder, or a repository, that holds these weights"
    if published.part == "diffusion":
        hint += ", or --no-diffusion to import for captioning alone"
    return ModelError(
        f"the checkpoint lacks weights of {piece!r}, and {published.location!r} does not have "
        f"them{said}",
        hint=hint,
    )
