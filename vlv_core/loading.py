"""Opening a captioner by name or folder. Imports torch only if the opener needs it."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError, nearest
from vlv_core.plugins import load_plugins
from vlv_core.registry import Plugins, Registered, require
from vlv_core.specs import OpenOptions, resolve


def load(
    name: str | Path,
    *,
    parts: Literal["caption", "all"] = "caption",
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    plugins: Plugins | None = None,
) -> Captioner:
    """A captioner from a folder or a bundled model's name.

    `parts="all"` opens the diffusion too, which `reconstruct` needs. Raises ModelError if there is
    no such folder or name, or the folder is damaged.
    """
    plugins = plugins or load_plugins()
    folder = find_model(name, plugins=plugins)
    opener = _opener(folder, plugins)
    require(opener.spec, f"{folder}")
    options = OpenOptions(parts=parts, device=device, dtype=dtype, threads=threads, plugins=plugins)
    return resolve(opener.spec.open)(folder, options)


def find_model(name: str | Path, *, plugins: Plugins) -> Path:
    """The folder that `name` means: a folder that exists, or a bundled model."""
    folder = Path(name)
    if folder.is_dir():
        return folder
    known = plugins.names("model")
    if str(name) not in known:
        raise ModelError(
            f"no model folder and no bundled model named {str(name)!r}{nearest(str(name), known)}; "
            f"bundled: {', '.join(known) or 'none'}",
            hint="give the folder that holds model.toml or manifest.json",
        )
    package, _, relative = plugins.get("model", str(name)).spec.folder.partition(":")
    return Path(str(files(package))) / relative


def _opener(folder: Path, plugins: Plugins) -> Registered:
    markers = {item.spec.marker: item for item in plugins.all("opener")}
    for marker, opener in markers.items():
        if (folder / marker).is_file():
            return opener
    raise ModelError(
        f"{folder} holds none of {', '.join(sorted(markers))}, so it is no model",
        hint="a run's model is in RUN/model",
    )
