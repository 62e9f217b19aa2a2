"""The house's figures, printed, and the hard ones enforced."""

import io
import tokenize
import tomllib
from collections.abc import Sequence
from statistics import median

import pytest

import vlv_core
from tests.source import ROOT, Function, Module, everything, suite

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
MOST_PUBLIC_NAMES = 32
MOST_DEPENDENCIES = 8


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def comments(module: Module) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def figures(code: Sequence[Module], tested: Sequence[Module]) -> dict[str, str]:
    """The columns of the table."""
    sizes = [module.lines for module in code]
    functions = [function for module in code for function in module.functions()]
    lengths = [length(function) for function in functions]
    typed = sum(function.returns is not None for function in functions)
    return {
        "files": f"{len(code)}",
        "median file": f"{median(sizes):.0f}",
        "biggest": f"{max(sizes)}",
        "median function": f"{median(lengths):.0f}",
        "longest": f"{max(lengths)}",
        "return types": f"{100 * typed / len(functions):.1f} %",
        "tests : code": f"{sum(module.lines for module in tested) / sum(sizes):.2f}",
        "public names": f"{len(vlv_core.__all__)}",
        "comments / 100 lines": f"{100 * sum(map(comments, code)) / sum(sizes):.1f}",
    }


def test_figures_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    table = figures(everything(), suite())
    with capsys.disabled():
        print("\n| " + " | ".join(table) + " |")
        print("| " + " | ".join(table.values()) + " |")
    assert all(table.values())


def test_files_stay_small() -> None:
    big = {m.shown: m.lines for m in [*everything(), *suite()] if m.lines > MOST_LINES}
    assert not big, f"files above {MOST_LINES} lines: {big}"


def test_functions_stay_small() -> None:
    long = {
        f"{module.shown}:{function.lineno} {function.name}": length(function)
        for module in [*everything(), *suite()]
        for function in module.functions()
        if length(function) > MOST_LINES_OF_A_FUNCTION
    }
    assert not long, f"functions above {MOST_LINES_OF_A_FUNCTION} lines: {long}"


def test_every_function_says_what_it_returns() -> None:
    silent = [
        f"{module.shown}:{function.lineno} {function.name}"
        for module in everything()
        for function in module.functions()
        if function.returns is None
    ]
    assert not silent, f"functions without a return type: {silent}"


def test_the_surface_stays_small() -> None:
    assert len(vlv_core.__all__) <= MOST_PUBLIC_NAMES
    assert all(hasattr(vlv_core, name) for name in vlv_core.__all__)


def test_the_base_installation_stays_small() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= MOST_DEPENDENCIES
