"""Print the hook reference of plugins/README.md from the code, for cog.

python docs/hooks.py
"""

import inspect
import re
import sys
from dataclasses import MISSING, fields
from typing import Any

from vlv_core import hookspecs, protocols
from vlv_core.registry import ROLES
from vlv_core.specs import Spec


def main() -> None:
    sys.stdout.write("\n".join([*hooks(), "", *records(), "", *offers(), ""]))


def hooks() -> list[str]:
    """One row a hook: its name, what it returns, what that is."""
    rows = ["| hook | each record | what it declares |", "|---|---|---|"]
    for hook in ROLES.values():
        told = _doc(getattr(hookspecs, hook.name))
        rows.append(f"| `{hook.name}()` | `{hook.record.__name__}` | {told} |")
    return rows


def records() -> list[str]:
    """One row a record: the fields beyond those that all share."""
    shared = {field.name for field in fields(Spec)}
    rows = ["| record | its own fields | |", "|---|---|---|"]
    for hook in ROLES.values():
        own = [_field(field) for field in fields(hook.record) if field.name not in shared]
        rows.append(f"| `{hook.record.__name__}` | {', '.join(own)} | {_doc(hook.record)} |")
    return rows


def offers() -> list[str]:
    """One row a component role: what the built part maps, and the attributes it has."""
    rows = ["| built part | what it does | attributes and methods |", "|---|---|---|"]
    for name in ("Encoder", "Bottleneck", "Condition", "Diffusion", "Connector", "Head", "Stepper"):
        part = getattr(protocols, name)
        methods = [f"`{key}()`" for key in vars(part) if inspect.isfunction(vars(part)[key])]
        public = [key for key in methods if not key.startswith("`_")]
        attributes = [f"`{key}`" for key in part.__annotations__]
        rows.append(f"| `{name}` | {_doc(part)} | {', '.join(attributes + public)} |")
    return rows


def _doc(thing: Any) -> str:
    """The first paragraph of a docstring, on one line, fit for a table."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return re.sub(r"\s+", " ", paragraph).replace("|", "\\|")


def _field(field: Any) -> str:
    optional = field.default is not MISSING or field.default_factory is not MISSING
    return f"`{field.name}`" + (" (optional)" if optional else "")


if __name__ == "__main__":
    main()
