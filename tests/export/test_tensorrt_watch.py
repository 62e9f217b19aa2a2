"""What a compiler says: its messages, its refusals, its progress; and the wish to stop."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlv_core.errors import VlvError
from vlv_export.tensorrt import _build, _network
from vlv_export.tensorrt._watch import Log, Progress, Stopped, progress_monitor, verbose_logger


def opener(answer: str | None) -> Any:
    """The calls that open an engine and ask for its layers, which need a GPU."""
    inspector = SimpleNamespace(get_engine_information=lambda form: answer)
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.engine_host_code_allowed = False

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            assert self.engine_host_code_allowed
            return None if answer is None else engine

    return SimpleNamespace(Runtime=Runtime, LayerInformationFormat=SimpleNamespace(JSON="json"))


def test_layers_that_the_builder_does_not_tell_are_asked_of_the_engine() -> None:
    inspected = _build._layers(opener('{"Layers": [{"Name": "a"}]}'), b"plan", Log())
    assert inspected == {"Layers": [{"Name": "a"}]}


def test_layers_that_nobody_tells_prove_nothing() -> None:
    with pytest.raises(VlvError, match="told no layers, and its engine cannot be opened here"):
        _build._layers(opener(None), b"plan", Log())


def refusal(code: str, reason: str, *, node: str = "node_1") -> Any:
    return SimpleNamespace(
        code=lambda: SimpleNamespace(name=code), desc=lambda: reason, node_name=lambda: node,
        node_operator=lambda: "Gather",
    )  # fmt: skip


def test_a_parser_error_is_told_with_its_mend() -> None:
    errors = [refusal("UNSUPPORTED_NODE_DYNAMIC", "Assertion failed: (a == b): must be static")]
    error = _network._refused(errors, "head", Path("head.onnx"))
    assert error.message == "the compiler refuses part 'head': Gather 'node_1': must be static"
    assert error.hint == "give the axis a fixed length, as the cache's is"


def test_of_many_parser_errors_the_first_are_told() -> None:
    errors = [refusal("INTERNAL_ERROR", "why", node=f"n{index}") for index in range(20)]
    error = _network._refused(errors, "head", Path("head.onnx"))
    assert error.message.count("Gather") == 8 and error.message.endswith("and 12 more")
    assert error.hint is None


def test_a_parser_that_says_nothing_is_not_silent() -> None:
    error = _network._refused([], "head", Path("head.onnx"))
    assert error.message.startswith("head.onnx of part 'head' cannot be parsed")


Words = tuple[str, str, int, int]
BASES = SimpleNamespace(ILogger=object, IProgressMonitor=object)


def test_messages_that_are_asked_for_are_kept() -> None:
    log = Log()
    say: Callable[[Any, str], None] = verbose_logger(BASES, log).log
    error, verbose = SimpleNamespace(name="ERROR"), SimpleNamespace(name="VERBOSE")
    say(verbose, "Total Activation Memory: 100 bytes")
    say(verbose, "Total Activation Memory: 250 bytes")
    say(verbose, "Layers:\nName: a")
    say(verbose, "Fusing things")
    say(error, "In a:\n  " + "x" * 5000)
    assert log.numbers("Total Activation Memory") == [100, 250]
    assert log.numbers("Total Weights Memory") == []
    assert log.last("Layers:") == "Layers:\nName: a" and log.last("Fusing") is None
    assert log.errors[0].startswith("In a: xxx") and len(log.errors[0]) < 500


def test_progress_is_said_a_few_times_a_second() -> None:
    said: list[Words] = []
    progress = Progress(lambda *words: said.append(words))
    progress.part = "head"
    monitor = progress_monitor(BASES, progress)
    monitor.phase_start("Timing", None, 5000)
    assert all(monitor.step_complete("Timing", step) for step in range(5000))
    monitor.phase_finish("Timing")
    assert said[0] == ("head", "Timing", 0, 5000)
    assert len(said) < 20


def test_the_compiler_is_told_to_stop_and_meets_no_exception() -> None:
    progress = Progress(lambda *words: None)
    monitor = progress_monitor(BASES, progress)
    progress.stop.set()
    monitor.phase_start("Timing", "Building", 3)
    assert monitor.step_complete("Timing", 0) is False
    with pytest.raises(Stopped, match="the build was stopped"):
        progress.check()
