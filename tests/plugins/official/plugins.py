"""The plugins that an imported model is made of, whatever is installed."""

from types import ModuleType

from vlv_core import builtin
from vlv_core.registry import ROLES, Owner, Plugins, Registered
from vlv_plugins import causal_lm, florence2, official, stable_diffusion


def plugins() -> Plugins:
    """As discovery would find them."""
    modules = (builtin, causal_lm, florence2, official, stable_diffusion)
    return Plugins(tuple(item for module in modules for item in offered(module)))


def offered(module: ModuleType) -> list[Registered]:
    owner = Owner("vlv", "0", module.__name__)
    return [
        Registered(role, spec, owner)
        for role, hook in ROLES.items()
        if hasattr(module, hook.name)
        for spec in getattr(module, hook.name)()
    ]
