"""Who may import whom, what imports without torch, and what may not stand in the core."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.source import Module, everything, package

MAY_IMPORT = {
    "vlv_core": {"vlv_core"},
    "vlv_plugins": {"vlv_core", "vlv_plugins"},
    "vlv_export": {"vlv_core", "vlv_export"},
    "vlv_benchmarks": {"vlv_core", "vlv_export", "vlv_benchmarks"},
}
FOREIGN = re.compile(r"florence|qwen|stable.?diffusion|onnx|tensorrt", re.IGNORECASE)
HEAVY = {"transformers", "diffusers", "onnx", "onnxruntime", "tensorrt"}
TORCHLESS = {
    *("hookspecs", "specs", "registry", "plugins", "errors", "config", "overrides", "recipe"),
    *("console", "preprocess", "generation", "sampling", "jobs", "serving", "data", "cli"),
}
"""modules and packages of the core that import without torch; `_*.py` below them may need it"""


def offences(modules: Sequence[Module], offends: Callable[[Module, str], bool]) -> list[str]:
    """`file imports name`, for each import that offends."""
    return [
        f"{module.shown} imports {name}"
        for module in modules
        for name in module.imports(at_import=False)
        if offends(module, name)
    ]


def test_packages_import_downwards_only() -> None:
    def upwards(module: Module, name: str) -> bool:
        allowed = MAY_IMPORT[module.name.partition(".")[0]]
        return name.startswith("vlv_") and name.partition(".")[0] not in allowed

    assert not offences(everything(), upwards)


def test_a_plugin_imports_no_sibling() -> None:
    def sibling(module: Module, name: str) -> bool:
        parts = name.split(".")
        if parts[0] != "vlv_plugins" or parts[1:2] == module.name.split(".")[1:2]:
            return False
        # `_*.py` beside the families is what they share
        return not parts[1].startswith("_")

    assert not offences(package("vlv_plugins"), sibling)


def test_nobody_imports_a_command_line() -> None:
    def command_line(module: Module, name: str) -> bool:
        exempt = ".cli" in module.name or module.name.endswith(".__main__")
        return not exempt and re.match(r"vlv_\w+\.cli\b", name) is not None

    assert not offences(everything(), command_line)


def test_the_core_names_no_model_family_and_no_runtime() -> None:
    found = [
        f"{module.shown}:{number}: {line.strip()}"
        for module in package("vlv_core")
        for number, line in enumerate(module.text.splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert not found, "\n".join(found)


def test_heavy_libraries_are_imported_late() -> None:
    found = {
        module.shown: heavy
        for module in everything()
        if not is_private(module)
        and (heavy := {name.partition(".")[0] for name in module.imports(at_import=True)} & HEAVY)
    }
    assert not found


def test_importing_has_no_side_effects() -> None:
    calls = [
        f"{module.shown}:{node.lineno}: {ast.unparse(node)}"
        for module in everything()
        if not module.name.endswith(".__main__")
        for node in module.tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert not calls, calls


def test_nobody_edits_the_path() -> None:
    edit = re.compile(r"sys\.path(?:\.\w+\(|\s*\+?=[^=]|\[.*\]\s*=)")
    assert not [module.shown for module in everything() if edit.search(module.text)]


UNPICKLES = re.compile(
    r"pickle\.loads?\(|torch\.save\(|weights_only=False|allow_pickle=True|Unpickler\("
)


def test_nobody_pickles() -> None:
    """torch.load of other people's checkpoints takes tensors alone, and says so."""
    found = [module.shown for module in everything() if UNPICKLES.search(module.text)]
    loads = [module.shown for module in everything() if "torch.load(" in module.text]
    assert not found, found
    assert len(loads) == 1 and loads[0].endswith("official/_checkpoint.py")


def test_no_import_cycles() -> None:
    names = {module.name for module in everything()}
    graph = {
        module.name: {_module_of(name, names) for name in module.imports(at_import=True)} & names
        for module in everything()
    }
    cycle = _cycle(graph)
    assert not cycle, " -> ".join(cycle)


def torchless() -> list[str]:
    """Modules that must import where torch is absent."""
    core = [
        module.name
        for module in package("vlv_core")
        if module.name == "vlv_core" or module.name.split(".")[1] in TORCHLESS
    ]
    plugins = [m.name for m in package("vlv_plugins") if m.path.name == "__init__.py"]
    benchmarks = [m.name for m in package("vlv_benchmarks") if re.search(r"\.cli\b", m.name)]
    every = [*package("vlv_core"), *package("vlv_export"), *package("vlv_benchmarks")]
    private = {module.name for module in every if is_private(module)}
    return sorted({*core, *plugins, *benchmarks, *deployed()} - private)


def deployed() -> list[str]:
    """Modules of an artefact's runtime, its command and its proof: all but `_*.py`, which write
    graphs."""
    return [module.name for module in package("vlv_export") if not is_private(module)]


def is_private(module: Module) -> bool:
    """`_*.py`, where heavy code may sit; such a file is imported inside functions."""
    return module.path.name.startswith("_") and not module.path.name.startswith("__")


IMPORT_ALL = """
import importlib, sys, traceback
absent, *names = sys.argv[1:]
sys.modules.update(dict.fromkeys(absent.split()))  # None, as if they were not installed
for name in names:
    try:
        importlib.import_module(name)
    except Exception:
        print(name, traceback.format_exc())
"""


def test_declaring_listing_and_preparing_need_no_torch() -> None:
    assert not failing(torchless(), absent=["torch"])


def test_running_artefacts_needs_nothing_that_writes_them() -> None:
    writing = ["torch", "transformers", "diffusers", "onnx", "onnx_ir", "onnxscript", "ml_dtypes"]
    # onnxruntime itself is imported when a graph is opened
    assert not failing(deployed(), absent=[*writing, "onnxruntime"])


def failing(modules: Sequence[str], *, absent: Sequence[str]) -> str:
    """What goes wrong when modules are imported where libraries are absent."""
    command = [sys.executable, "-c", IMPORT_ALL, " ".join(absent), *modules]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_list_of_torchless_modules_is_not_empty_by_mistake() -> None:
    known = {"vlv_core", "vlv_core.plugins", "vlv_core.cli.plugins", "vlv_plugins.mini"}
    assert known | {"vlv_export.runtime", "vlv_export.cli"} <= set(torchless())
    core = {module.name.split(".")[1] for module in package("vlv_core") if "." in module.name}
    assert core >= TORCHLESS, "a module of the rule is gone or renamed"


SOURCE = """
import a
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import checked
try:
    from b.c import d
except ImportError:
    pass
class C:
    import e
    def method(self) -> None:
        import late
"""


def test_imports_are_told_apart_by_when_they_run(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    module = Module("module", path)
    eager = {"a", "typing.TYPE_CHECKING", "b.c.d", "e"}
    assert set(module.imports(at_import=True)) == eager
    assert set(module.imports(at_import=False)) == eager | {"checked", "late"}


def test_a_cycle_would_be_found() -> None:
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def _module_of(name: str, names: set[str]) -> str:
    """`package.module` of an imported `package.module.name`, or the name if it is a module."""
    return name if name in names else name.rpartition(".")[0]


def _cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The first cycle that a depth-first search meets, closed; empty if there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for target in sorted(graph[name]):
                if found := visit(target, [*path, name]):
                    return found
            done.add(name)
        return []

    for name in sorted(graph):
        if found := visit(name, []):
            return found
    return []
