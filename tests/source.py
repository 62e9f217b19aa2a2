"""The repository's own source as syntax trees, for the tests that read it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "vlv_core": ROOT / "vlv_core",
    "vlv_plugins": ROOT / "plugins" / "vlv_plugins",
    "vlv_export": ROOT / "export" / "vlv_export",
    "vlv_benchmarks": ROOT / "benchmarks" / "vlv_benchmarks",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file: `name` as it is imported."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(ROOT))

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def imports(self, *, at_import: bool) -> Iterator[str]:
        """What it imports, `package.module.name` for from-imports: at import time only, or at all
        (in functions and for type checkers too)."""
        for node in _eager(self.tree) if at_import else ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package(name: str) -> list[Module]:
    """The modules of one import package; none where the package has not been started."""
    root = PACKAGES[name]
    return [Module(_import_name(path, root.parent), path) for path in _python(root)]


def everything() -> list[Module]:
    return [module for name in PACKAGES for module in package(name)]


def suite() -> list[Module]:
    """The tests themselves."""
    root = ROOT / "tests"
    return [Module(_import_name(path, ROOT), path) for path in _python(root)]


def _python(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


def _import_name(path: Path, above: Path) -> str:
    parts = path.relative_to(above).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _eager(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _eager(child)
