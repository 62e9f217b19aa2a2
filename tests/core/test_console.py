"""Errors become exit codes and lines in one place; subcommands are imported when they run."""

import errno
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from vlv_core.console import EXTRAS, Lazy, LazyGroup, Session, run
from vlv_core.errors import (
    ConfigError,
    Inconclusive,
    MissingExtra,
    NotProved,
    PluginError,
    SomeInputsFailed,
    VlvError,
)


def group(**bodies: Callable[..., Any]) -> LazyGroup:
    """A group whose commands run these bodies; each receives the session."""
    for name, body in bodies.items():
        command = click.Command(name, callback=click.pass_obj(body), params=[])
        sys.modules[f"vlv_test_command_{name}"] = SimpleNamespace(command=command)  # type: ignore[assignment]
    table = {name: Lazy(f"vlv_test_command_{name}", f"Does {name}.") for name in bodies}
    return LazyGroup(name="tool", help="A tool.", epilog="", table=table)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in ("vlv_core", "vlv_plugins")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for name in [name for name in sys.modules if name.startswith("vlv_test_command_")]:
        del sys.modules[name]


def raising(error: BaseException) -> LazyGroup:
    def body(session: Session) -> None:
        raise error

    return group(go=body)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VlvError("it broke"), 1),
        (ConfigError("it broke"), 2),
        (Inconclusive("it broke"), 3),
        (SomeInputsFailed("it broke"), 4),
        (NotProved("it broke"), 5),
    ],
)
def test_our_errors_have_their_codes(
    error: VlvError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error), name="tool", args=["go"]) == code
    assert capsys.readouterr().err == "error: it broke\n"


def test_hints_stand_below(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(MissingExtra("rope", extra="climb")), name="tool", args=["go"]) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "error: rope is not installed",
        "hint: pip install 'vlv[climb]' supplies it",
    ]
    assert printed.out == ""


def test_the_unforeseen_is_1_and_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(ZeroDivisionError("oh")), name="tool", args=["go"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed and "raise error" in printed
    assert "error: ZeroDivisionError: oh\n" in printed
    assert "report it" in printed


@pytest.mark.parametrize(("library", "extra"), EXTRAS.items())
def test_a_missing_library_names_its_extra(
    library: str, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ModuleNotFoundError(f"No module named {library}", name=f"{library}.nn")
    assert run(raising(error), name="tool", args=["go"]) == 2
    assert f"pip install 'vlv[{extra}]'" in capsys.readouterr().err


def test_another_tool_brings_its_own_extras(capsys: pytest.CaptureFixture[str]) -> None:
    error = ModuleNotFoundError("No module named 'ort'", name="ort")
    app = raising(error)
    assert run(app, name="tool", args=["go"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert run(app, name="tool", args=["go"], extras={"ort": "runtime"}) == 2
    assert "vlv[runtime]" in capsys.readouterr().err


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (4, 4), ("text", 0)])
def test_a_command_may_return_its_code(returned: Any, code: int) -> None:
    assert run(group(go=lambda session: returned), name="tool", args=["go"]) == code


def test_context_exit_is_heard() -> None:
    def body(session: Session) -> None:
        click.get_current_context().exit(5)

    assert run(group(go=body), name="tool", args=["go"]) == 5


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["gone"], "error: no command 'gone'; did you mean 'go'?; commands: go", "'tool --help'"),
        (["go", "--x"], "error: no such option", "'tool go --help' shows the usage"),
        (["go", "extra"], "error: got unexpected extra argument (extra)", "'tool go --help'"),
        (["--plugin"], "error: option '--plugin' requires an argument", "'tool --help'"),
    ],
)
def test_wrong_usage_is_2(
    args: list[str], error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(group(go=lambda session: None), name="tool", args=args) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(error)
    assert second.startswith(f"hint: {hint}")


def test_a_bare_group_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(group(go=lambda session: None), name="tool", args=[]) == 0
    assert "go  Does go." in capsys.readouterr().out


def test_help_imports_no_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    app = LazyGroup(name="tool", help="", epilog="", table={"x": Lazy("no.such", "Does x.")})
    assert run(app, name="tool", args=["--help"]) == 0
    assert "x  Does x." in capsys.readouterr().out


def test_session_options_count_before_and_after_the_subcommand() -> None:
    seen: list[Session] = []
    app = group(go=seen.append)
    args = ["--plugin", "a.py", "--block", "x", "go", "--plugin", "b.py", "--block", "y"]
    assert run(app, name="tool", args=[*args, "--verbose"]) == 0
    assert seen == [Session([Path("a.py"), Path("b.py")], ["x", "y"], True)]
    assert run(app, name="tool", args=["go"]) == 0
    assert seen[1] == Session(), "a second run starts afresh"


def test_the_session_refuses_a_broken_file_unless_it_only_lists(tmp_path: Path) -> None:
    session = Session(files=[tmp_path / "absent.py"])
    assert session.find_plugins().broken
    with pytest.raises(PluginError, match=r"absent\.py: cannot be imported: no such file"):
        session.plugins()


def test_the_session_passes_its_block_on() -> None:
    assert "query" in Session().plugins().names("bottleneck")
    assert "query" not in Session(block=["vlv:core"]).plugins().names("bottleneck")


PROCESS = """
import sys, types, click
from vlv_core.console import Lazy, LazyGroup, run
from vlv_core.errors import ConfigError

def body():
    raise eval(sys.argv[1])

sys.modules["m"] = types.SimpleNamespace(command=click.Command("go", callback=body))
app = LazyGroup(name="t", help="", epilog="", table={"go": Lazy("m", "")})
sys.exit(run(app, name="t", args=["go", *sys.argv[2:]]))
"""


def process(error: str, *args: str) -> subprocess.CompletedProcess[str]:
    """A tool in a process of its own, whose command raises this error."""
    command = [sys.executable, "-c", PROCESS, error, *args]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_verbose_shows_where_an_error_was_raised() -> None:
    quiet = process("ConfigError('bad')")
    assert (quiet.returncode, quiet.stderr) == (2, "error: bad\n")
    loud = process("ConfigError('bad')", "--verbose")
    assert loud.returncode == 2
    assert "Traceback" in loud.stderr and "in body" in loud.stderr


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(KeyboardInterrupt()), name="tool", args=["go"]) == 130
    assert capsys.readouterr().err.strip() == "stopped by Ctrl-C"


def test_end_of_file_is_no_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(EOFError("short read")), name="tool", args=["go"]) == 1
    assert "error: EOFError: short read" in capsys.readouterr().err


def test_sigterm_unwinds_the_stack_and_is_143(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned: list[bool] = []

    def body(session: Session) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert run(group(go=body), name="tool", args=["go"]) == 143
    assert cleaned == [True]
    assert capsys.readouterr().err.strip() == "stopped by SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_closed_pipe_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    # in a process of its own, because click replaces the streams then
    done = process(f"BrokenPipeError({errno.EPIPE}, 'Broken pipe')")
    assert (done.returncode, done.stderr) == (1, "")
