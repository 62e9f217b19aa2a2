"""What a plugin declares: frozen records that name things and say how to build them, lazily.

A reference such as `build="my_package._encoder:build"` is imported only when it is used, so that
listing plugins never imports torch.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from vlv_core.errors import ConfigError, PluginError

Fit = Literal["crop", "squash", "pad"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
Prediction = Literal["epsilon", "v", "flow"]
Role = Literal["encoder", "bottleneck", "decoder", "connector", "head"]


@dataclass(frozen=True)
class View:
    """How a picture becomes the one uint8 (S, S, 3) picture that every part starts from."""

    size: int
    """edge S, pixels"""
    fit: Fit = "crop"
    """crop: shorter side to S, centre crop; squash: both sides to S; pad: longer side to S"""
    resample: Resample = "bilinear"
    """antialiased, as Pillow does it"""


@dataclass(frozen=True)
class PixelSpec:
    """How an encoder turns the view into pixels: resize on the host, the rest in the graph."""

    size: int
    """edge of the encoder's square input, pixels"""
    fit: Fit = "squash"
    resample: Resample = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """per channel, of values in 0..1"""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """per channel, of values in 0..1"""
    edge: int | None = None
    """fit "crop" alone: the shorter side is resized to this, pixels, before the centre is cut out;
    None takes `size`"""

    def __post_init__(self) -> None:
        if self.edge is not None and (self.fit != "crop" or self.edge < self.size):
            raise ConfigError(
                f"pixels: edge {self.edge} does not go with fit {self.fit!r} and size {self.size}",
                hint="edge is for fit 'crop', and at least size",
            )


@dataclass(frozen=True)
class Near:
    """The neighbours' plain sizes that a part is built against; 0 where there is none yet."""

    view_size: int = 0
    num_tokens: int = 0
    """N, from the encoder"""
    token_dim: int = 0
    """De, from the encoder"""
    num_queries: int = 0
    """K, from the bottleneck"""
    embedding_dim: int = 0
    """Dz, from the condition"""
    max_queries: int = 0
    """the condition's longest input"""
    context_dim: int = 0
    """Dc, from the condition"""
    head_dim: int = 0
    """Dl, from the head"""


@dataclass(frozen=True)
class Source:
    """Where pretrained weights come from: a local folder, or a repository at a pinned revision."""

    location: str
    """folder; or `package:NAME`, the folder of an installed Python package; or repository id"""
    revision: str | None = None
    """of a repository: tag, branch or commit; None takes its main branch"""
    files: tuple[str, ...] = ()
    """patterns of the files that are read, such as "unet/*.safetensors"; all if empty"""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What all declarations share. `name` is kebab-case and unique within its hook."""

    name: str
    summary: str
    """one line for `vlv plugins`"""
    extra: str | None = None
    """the pip extra of vlv that supplies this one's libraries"""
    requires: tuple[str, ...] = ()
    """import names without which this cannot be built; only looked up, never imported"""


@dataclass(frozen=True, kw_only=True)
class ComponentSpec(Spec):
    """A component: `build(config, near) -> nn.Module` makes the architecture, reads no weights."""

    build: str
    config: type[Any] | None = None
    """a frozen dataclass; recipes fill it"""
    complete: str | None = None
    """`(config, fetch) -> config`: what a recipe leaves to the pretrained model's own files is
    filled in, so that `build` needs none; `fetch(source) -> folder`. Used by training only; what it
    answers is what `model.toml` keeps."""
    pretrained: str | None = None
    """`(config) -> Source`, used by training only; the modules then have `load_pretrained(folder)`,
    see `protocols.Pretrained`"""


@dataclass(frozen=True, kw_only=True)
class EncoderSpec(ComponentSpec):
    """Turns the view into visual tokens; see `protocols.Encoder`."""


@dataclass(frozen=True, kw_only=True)
class BottleneckSpec(ComponentSpec):
    """Turns tokens into caption embeddings z; see `protocols.Bottleneck`."""


@dataclass(frozen=True, kw_only=True)
class DecoderSpec(ComponentSpec):
    """A frozen text-to-image model in two halves: `build` makes the condition (text encoders, part
    of every captioner), `diffusion` makes the rest. See `protocols.Condition` and `Diffusion`."""

    diffusion: str
    """`(config, near) -> nn.Module`"""
    diffusion_pretrained: str | None = None
    """the diffusion's own `(config) -> Source`, so that captioning does not fetch its weights;
    None takes that of the condition"""


@dataclass(frozen=True, kw_only=True)
class ConnectorSpec(ComponentSpec):
    """Turns context into the head's prefix; see `protocols.Connector`."""


@dataclass(frozen=True, kw_only=True)
class HeadSpec(ComponentSpec):
    """The language model; see `protocols.Head`."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """`open(config, root) -> protocols.Dataset`; relative paths in config start at `root`."""

    open: str
    config: type[Any] | None = None
    synthetic: bool = False
    """needs no files and no options: `vlv train --random-weights` can use it for absent data"""


@dataclass(frozen=True, kw_only=True)
class EvaluatorSpec(Spec):
    """`evaluate(captioner, options, *, watcher=None) -> dict` of figures, for `vlv eval`; see
    `evaluation`, also for `watcher`. Useful options: captions, reconstructions, guidance, steps,
    seed, batch, full."""

    evaluate: str
    config: type[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ImporterSpec(Spec):
    """A reader of foreign checkpoints: the click command behind `vlv import NAME`.

    It gets the `console.Session` by `click.pass_obj`, and raises `errors.VlvError` for bad input.
    """

    command: str


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """A bundled model: a folder inside an installed package."""

    folder: str
    """`package:relative/folder`"""


@dataclass(frozen=True, kw_only=True)
class OpenerSpec(Spec):
    """`open(folder, options) -> captioner`, chosen by the marker file that the folder holds."""

    marker: str
    open: str


@dataclass(frozen=True)
class ExporterOption:
    """An option that an exporter adds to the command line. Exporters may share one by its name."""

    name: str
    """without the dashes, such as "capacity" """
    metavar: str
    """what its value looks like; an option without one is a flag, whose value is "yes" """
    help: str


@dataclass(frozen=True, kw_only=True)
class ExporterSpec(Spec):
    """A `vlv-export` target; its name is its flag."""

    run: str
    """`() -> exporter`; with options `(options: Mapping[str, str]) -> exporter`, those given"""
    options: tuple[ExporterOption, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BenchCaseSpec(Spec):
    """A `vlv-bench` case: `plan(order) -> CasePlan` names its rows and what they are given, without
    torch; `run(job) -> Measured` is one turn of one row, in a fresh process. See
    `vlv_benchmarks.job`."""

    plan: str
    run: str
    alone: bool = False
    """runs only when it is named: it takes long, or needs what a model does not bring"""


@dataclass(frozen=True)
class OpenOptions:
    """How to open a captioner."""

    parts: Literal["caption", "all"] = "caption"
    """'caption' never opens the diffusion"""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N"""
    dtype: str = "float32"
    threads: int | None = None
    plugins: Any = field(default=None, compare=False, repr=False)
    """the `Plugins` to build with; None loads them"""


def resolve(reference: str) -> Any:
    """The object that `package.module:attribute` names, imported now.

    Raises PluginError if the reference is malformed or names nothing.
    """
    module, _, attribute = reference.partition(":")
    if not module or not attribute:
        raise PluginError(f"{reference!r} is not of the form 'package.module:attribute'")
    try:
        return getattr(import_module(module), attribute)
    except AttributeError:
        raise PluginError(f"module {module!r} has no attribute {attribute!r}") from None
