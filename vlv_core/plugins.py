"""Discovery: entry points of the group `vlv` and local files -> `Plugins`.

The loop is our own, because pluggy's loader skips the second of two plugins with one name, dies on
the first broken plugin, and lets a misspelt hook pass. Each implementation is called by itself, so
that every spec knows its owner and a failing plugin costs nothing but itself.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distributions
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from vlv_core import hookspecs
from vlv_core.errors import PluginError, nearest
from vlv_core.registry import ROLES, Broken, Hook, Owner, Plugins, Registered
from vlv_core.specs import Spec

logger = logging.getLogger(__name__)

GROUP = "vlv"
OURS = "vlv"
"""the distribution that is not third-party"""
REFERENCES = (
    "build",
    "diffusion",
    "complete",
    "pretrained",
    "diffusion_pretrained",
    "open",
    "evaluate",
    "plan",
    "run",
    "command",
    "folder",
)
_NAME = re.compile(r"[a-z0-9]+((-|(?<=\d)\.(?=\d))[a-z0-9]+)*")
_REFERENCE = re.compile(r"[^\s:]+:[^\s:]+")


def load_plugins(
    *, block: Sequence[str] = (), files: Sequence[Path] = (), third_party: bool | None = None
) -> Plugins:
    """Find every plugin and ask it what it offers. Imports plugins' modules and builds nothing.

    block: distributions, plugins, or `distribution:plugin`, to leave out
    files: local Python files to take as plugins
    third_party: whether plugins of other distributions than vlv count; None asks the environment,
        where an empty VLV_PLUGINS turns them off

    Broken plugins end up in `Plugins.broken`. Raises PluginError if `block` names nothing.
    """
    if third_party is None:
        third_party = os.environ.get("VLV_PLUGINS") != ""
    discovery = _Discovery(block)
    for owner, load in _installed(discovery):
        discovery.add(owner, load, wanted=third_party or owner.distribution == OURS)
    for path in {path.resolve(): path for path in files}.values():
        owner = Owner(str(path), "", path.stem)
        discovery.add(owner, partial(_import_file, path))
    discovery.check_block()
    return Plugins(tuple(discovery.registered), tuple(discovery.broken), tuple(discovery.left_out))


class _Discovery:
    """One run: a fresh manager, and what it has found so far."""

    def __init__(self, block: Sequence[str]) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.block = tuple(block)
        self.seen: list[Owner] = []
        self.registered: list[Registered] = []
        self.broken: list[Broken] = []
        self.left_out: list[Owner] = []

    def add(self, owner: Owner, load: Callable[[], Any], *, wanted: bool = True) -> None:
        """Load one plugin and collect what it offers, or record why that is impossible."""
        self.seen.append(owner)
        if not wanted or any(owner.is_called(name) for name in self.block):
            self.left_out.append(owner)
            return
        try:
            plugin = load()
        except (Exception, SystemExit) as error:
            self.fail(owner, f"cannot be imported: {_told(error)}", error=error)
            return
        first = self.manager.get_name(plugin)
        if first is not None:
            self.fail(owner, f"offers the module that {first} registered already")
            return
        try:
            self.manager.register(plugin, name=str(owner))
        except Exception as error:
            self.fail(owner, _told(error), error=error)
            return
        self.collect(plugin, owner)

    def fail(self, owner: Owner, reason: str, *, error: BaseException | None = None) -> None:
        logger.debug("plugin %s: %s", owner, reason, exc_info=error)
        self.broken.append(Broken(owner, reason))

    def collect(self, plugin: Any, owner: Owner) -> None:
        """Call the plugin's implementations, one at a time. Hooks without a specification are
        those that pluggy's `check_pending` would stop at; here they are records."""
        known = [hook.name for hook in ROLES.values()]
        callers = self.manager.get_hookcallers(plugin) or []
        if not callers:
            self.fail(owner, "implements no hook; is its function under @hookimpl?")
        for caller in callers:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                if caller.has_spec():
                    role = next(role for role, hook in ROLES.items() if hook.name == caller.name)
                    self.call(role, implementation.function, owner)
                elif not implementation.optionalhook:
                    other = nearest(caller.name, known) or f"; hooks: {', '.join(known)}"
                    self.fail(owner, f"no hook is called {caller.name!r}{other}")

    def call(self, role: str, function: Callable[[], Any], owner: Owner) -> None:
        """Call one implementation; keep its good specs and record the others."""
        hook = ROLES[role]
        try:
            returned = function()
            if isinstance(returned, str | Spec) or not isinstance(returned, Iterable):
                due = f"an iterable of {hook.record.__name__} is due"
                raise TypeError(f"it returned {type(returned).__name__}; {due}")
            offered = list(returned)
        except Exception as error:
            self.fail(owner, f"hook {hook.name}: {_told(error)}", error=error)
            return
        names: set[str] = set()
        for spec in offered:
            fault = _fault(spec, hook)
            if fault is None and spec.name in names:
                fault = f"offers {role} {spec.name!r} twice"
            if fault is not None:
                self.fail(owner, f"hook {hook.name}: {fault}")
                continue
            names.add(spec.name)
            self.registered.append(Registered(role, spec, owner))

    def check_block(self) -> None:
        for name in self.block:
            if not any(owner.is_called(name) for owner in self.seen):
                known = sorted({owner.distribution for owner in self.seen})
                raise PluginError(
                    f"--block {name!r} matches no plugin{nearest(name, known)}; "
                    f"installed: {', '.join(known)}",
                    hint="name a distribution, a plugin, or distribution:plugin",
                )


def _installed(discovery: _Discovery) -> Iterator[tuple[Owner, Callable[[], Any]]]:
    """Each plugin that is installed, ours first. Like an import, a distribution that stands twice
    on sys.path counts where it is found first."""
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        # Metadata holds whole READMEs: parsing everybody's takes longer than all else here.
        if _offers(distribution) and (name := _distribution_name(distribution)):
            found.setdefault(name, _first(name, distribution))
    for name in sorted(found, key=lambda name: (name != OURS, name)):
        try:
            version = found[name].version or "unknown"
            points = found[name].entry_points.select(group=GROUP)
        except Exception as error:
            owner = Owner(name, "unknown", "?")
            discovery.fail(owner, f"its metadata cannot be read: {_told(error)}", error=error)
            continue
        for point in points:
            yield Owner(name, version, point.name), point.load


def _offers(distribution: Distribution) -> bool:
    """Whether it may have entry points of the group; those that cannot be read count."""
    try:
        return f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")
    except Exception:
        return True


def _first(name: str, otherwise: Distribution) -> Distribution:
    """The one of a name that an import would meet; it may offer nothing."""
    try:
        return Distribution.from_name(name)
    except PackageNotFoundError:
        return otherwise


def _distribution_name(distribution: Distribution) -> str | None:
    """The name as packaging normalises it, or None where the metadata is damaged."""
    try:
        name = distribution.metadata["Name"]
    except Exception:
        return None
    return re.sub(r"[-_.]+", "-", name).lower() if name else None


def _import_file(path: Path) -> ModuleType:
    """Import a local file under its stem, so that `build="my_encoder:build"` finds it later."""
    name, path = path.stem, path.resolve()
    if not path.is_file():
        raise PluginError("no such file")
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    namesake = find_spec(name) if loaded is None else loaded.__spec__
    if loaded is not None or (namesake is not None and namesake.origin != str(path)):
        where = namesake.origin if namesake else "this process"
        raise PluginError(f"module {name!r} exists already in {where}; rename the file")
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError("not a Python file (.py)")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _fault(spec: Any, hook: Hook) -> str | None:
    """What is wrong with a returned record, or None."""
    if not isinstance(spec, hook.record):
        return f"returned a {type(spec).__name__}; {hook.record.__name__} is due"
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        return f"name {spec.name!r} is not kebab-case, such as 'siglip-b16'"
    wrong = _wrong_field(spec)
    return f"{spec.name!r}: {wrong}" if wrong else None


def _wrong_field(spec: Spec) -> str | None:
    if not isinstance(spec.summary, str) or not spec.summary.strip() or "\n" in spec.summary:
        return f"summary must be one line, got {spec.summary!r}"
    if not isinstance(spec.requires, tuple):
        return f"requires must be a tuple of import names, got {spec.requires!r}"
    for field in fields(spec):
        value = getattr(spec, field.name)
        if field.name in REFERENCES and value is not None and not _is_reference(value):
            return f"{field.name}={value!r} is not of the form 'package.module:attribute'"
    config = getattr(spec, "config", None)
    if config is not None and not _is_frozen_dataclass(config):
        return f"config must be a frozen dataclass type, got {config!r}"
    return None


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def _is_frozen_dataclass(kind: Any) -> bool:
    # `__dataclass_params__` is how dataclasses itself looks a base's frozenness up
    return isinstance(kind, type) and is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def _told(error: BaseException) -> str:
    """An exception on one line; our own messages need no class name."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"
