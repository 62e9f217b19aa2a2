"""What was found: each spec with its owner, each failure with its reason, and look-up by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from vlv_core import specs
from vlv_core.errors import MissingExtra, PluginError, nearest, pip_line


class Hook(NamedTuple):
    """The hook that declares a role, and the record that it returns."""

    name: str
    record: type[specs.Spec]


ROLES: Mapping[str, Hook] = {
    "encoder": Hook("vlv_encoders", specs.EncoderSpec),
    "bottleneck": Hook("vlv_bottlenecks", specs.BottleneckSpec),
    "decoder": Hook("vlv_decoders", specs.DecoderSpec),
    "connector": Hook("vlv_connectors", specs.ConnectorSpec),
    "head": Hook("vlv_heads", specs.HeadSpec),
    "dataset": Hook("vlv_datasets", specs.DatasetSpec),
    "evaluator": Hook("vlv_evaluators", specs.EvaluatorSpec),
    "importer": Hook("vlv_importers", specs.ImporterSpec),
    "model": Hook("vlv_models", specs.ModelSpec),
    "opener": Hook("vlv_openers", specs.OpenerSpec),
    "exporter": Hook("vlv_exporters", specs.ExporterSpec),
    "bench-case": Hook("vlv_bench_cases", specs.BenchCaseSpec),
}


@dataclass(frozen=True)
class Owner:
    """Who offers something: one plugin of an installed distribution, or a local file."""

    distribution: str
    """the distribution's name, or the path of a local file"""
    version: str
    """empty for a local file"""
    plugin: str
    """name of the entry point, or stem of the local file"""

    def __str__(self) -> str:
        if self.is_local:
            return self.distribution
        return f"{self.distribution} {self.version} (plugin {self.plugin!r})"

    @property
    def is_local(self) -> bool:
        """Whether it is a file that the user named by `--plugin FILE`."""
        return not self.version

    def is_called(self, name: str) -> bool:
        """Whether `--block NAME` means this one: distribution, plugin, or distribution:plugin."""
        return name in (self.distribution, self.plugin, f"{self.distribution}:{self.plugin}")


@dataclass(frozen=True)
class Registered:
    """A spec that a plugin offers."""

    role: str
    spec: Any
    """the record of the role: `EncoderSpec` for 'encoder', and so on"""
    owner: Owner


@dataclass(frozen=True)
class Broken:
    """A plugin, or one thing that it offers, that cannot be used, and why."""

    owner: Owner
    reason: str

    def __str__(self) -> str:
        return f"{self.owner}: {self.reason}"


@dataclass(frozen=True)
class Plugins:
    """The outcome of one discovery. Nothing is global: it is passed down to those who build."""

    registered: tuple[Registered, ...] = ()
    broken: tuple[Broken, ...] = ()
    left_out: tuple[Owner, ...] = ()
    """installed, but blocked or turned off"""

    def all(self, role: str | None = None) -> list[Registered]:
        """Everything offered (in one role), duplicates included, by role and then by name."""
        order = list(ROLES)
        found = [item for item in self.registered if role in (None, item.role)]
        return sorted(found, key=lambda item: (order.index(item.role), item.spec.name))

    def names(self, role: str) -> list[str]:
        """The names offered in a role, each once, sorted."""
        return sorted({item.spec.name for item in self.all(_known(role))})

    def get(self, role: str, name: str) -> Registered:
        """The one spec of this role and name.

        Raises PluginError if nobody offers it, or if more than one plugin does.
        """
        matches = [item for item in self.all(_known(role)) if item.spec.name == name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise _ambiguous(role, name, [item.owner for item in matches])
        raise self._unknown(role, name)

    def require_local(self) -> None:
        """Raise PluginError if a file that the user named is broken: to go on would surprise."""
        for record in self.broken:
            if record.owner.is_local:
                raise PluginError(str(record), hint="'vlv plugins' lists what was found")

    def _unknown(self, role: str, name: str) -> PluginError:
        names = self.names(role)
        message = f"no {role} named {name!r}{nearest(name, names)}; "
        message += f"installed: {', '.join(names) or 'none'}"
        if self.broken:
            message += f"; broken plugins: {'; '.join(map(str, self.broken))}"
        hint = f"pip install a package whose plugin offers this {role}, or name a local file "
        hint += "by --plugin FILE; 'vlv plugins' lists what was found"
        if self.left_out:
            hint += f"; left out by --block or VLV_PLUGINS: {', '.join(map(str, self.left_out))}"
        return PluginError(message, hint=hint)


def available(spec: specs.Spec) -> str | None:
    """None if the libraries that a spec requires are installed, else what is missing and the pip
    line that supplies it. Looks libraries up without importing them."""
    missing = _missing(spec)
    return f"needs {', '.join(missing)}: {pip_line(missing, spec.extra)}" if missing else None


def require(spec: specs.Spec, named: str) -> None:
    """Raises MissingExtra, with the libraries' names, for `named`, of this spec, if any is absent.

    Looks them up without importing them.
    """
    if missing := _missing(spec):
        raise MissingExtra(*missing, extra=spec.extra, needed_by=named)


def _missing(spec: specs.Spec) -> list[str]:
    return [name for name in spec.requires if find_spec(name.partition(".")[0]) is None]


def ways_out(owners: Sequence[Owner]) -> list[str]:
    """For each owner the `--block` option that leaves it out, and no other of them."""
    distributions = [owner.distribution for owner in owners]
    return [
        f"--block {owner.distribution}"
        if distributions.count(owner.distribution) == 1
        else f"--block {owner.distribution}:{owner.plugin}"
        for owner in owners
    ]


def _ambiguous(role: str, name: str, owners: Sequence[Owner]) -> PluginError:
    return PluginError(
        f"{role} {name!r} is offered by {' and by '.join(map(str, owners))}",
        hint=f"leave one of them out: {' or '.join(ways_out(owners))}",
    )


def _known(role: str) -> str:
    if role not in ROLES:
        raise PluginError(f"no role {role!r}{nearest(role, ROLES)}; roles: {', '.join(ROLES)}")
    return role
