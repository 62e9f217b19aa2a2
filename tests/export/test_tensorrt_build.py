"""Real engines of a tiny model, built by tensorrt-rtx without a GPU; and what must be refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from tests.export.conftest import Tiny
from vlv_core.errors import NotProved, UsageError, VlvError
from vlv_export.lowering._engine import build_engine_graphs
from vlv_export.manifest import GraphEntry
from vlv_export.tensorrt import memory, process
from vlv_export.tensorrt.job import BuildJob, BuildResult, Dtype, Profile, job_to_json
from vlv_export.tensorrt.layers import read_layers_file
from vlv_export.tensorrt.libraries import library
from vlv_export.tensorrt.precision import DATATYPES
from vlv_export.tensorrt.process import build
from vlv_export.tensorrt.profiles import plan_profiles

pytestmark = pytest.mark.skipif(
    library("rtx").version is None, reason="tensorrt-rtx is not installed"
)
CAPACITY = 32
Graphs = Callable[[Dtype], tuple[dict[str, Path], dict[str, GraphEntry]]]


@pytest.fixture(scope="module")
def graphs(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """Encoder and head of the tiny model as graphs for engines, by dtype."""
    made: dict[str, tuple[dict[str, Path], dict[str, GraphEntry]]] = {}

    def of(dtype: Dtype) -> tuple[dict[str, Path], dict[str, GraphEntry]]:
        if dtype not in made:
            folder = tmp_path_factory.mktemp(dtype)
            neutral = {part: tiny[1][part] for part in ("encoder", "head")}
            entries = build_engine_graphs(neutral, folder, dtype=dtype, capacities=[CAPACITY])
            made[dtype] = {part: folder / each.file for part, each in entries.items()}, entries
        return made[dtype]

    return of


@pytest.fixture
def job(tiny: Tiny, graphs: Graphs, tmp_path: Path) -> Callable[[Dtype], BuildJob]:
    """A job for both parts of the tiny model."""

    def of(dtype: Dtype) -> BuildJob:
        files, entries = graphs(dtype)
        axes = {part: tiny[0][part].axes for part in files}
        return BuildJob(
            library="rtx",
            graphs=files,
            out=tmp_path,
            dtype=dtype,
            profiles=plan_profiles(axes, batches=(4,), prefix_length=4),
            aliases={part: entry.aliases for part, entry in entries.items()},
            sm=(86, 120),
        )

    return of


def head_only(job: BuildJob) -> BuildJob:
    return replace(job, graphs={"head": job.graphs["head"]})


def quiet(text: str) -> None:
    pass


def edited(job: BuildJob, part: str, edit: Callable[[ir.Graph], None]) -> BuildJob:
    """The job with one graph changed, beside the original, whose weights it shares."""
    source = job.graphs[part]
    model = ir.load(source)
    edit(model.graph)
    # Each test has its own copy: graphs are shared within the module.
    path = source.with_name(f"{part}-{job.out.name}.onnx")
    ir.save(model, path)
    return replace(job, graphs={part: path})


@pytest.mark.parametrize("dtype", DATATYPES)
def test_engines_of_each_type(dtype: Dtype, job: Callable[[Dtype], BuildJob]) -> None:
    said: list[str] = []
    task = job(dtype)
    result = build(task, tell=said.append)

    assert result.package == "tensorrt-rtx" and result.version == library("rtx").version
    assert result.sm == (86, 120)
    assert {part: engine.file for part, engine in result.engines.items()} == {
        "encoder": "encoder.engine",
        "head": "head.engine",
    }
    for engine in result.engines.values():
        assert (task.out / engine.file).stat().st_size == engine.bytes > engine.weights_bytes > 0
        assert max(engine.precision, key=engine.precision.__getitem__) == DATATYPES[dtype]
        assert engine.activation_bytes > 0 and engine.seconds > 0
    assert "head: parsing" in said and any("building engine" in text for text in said)
    assert sorted(path.name for path in task.out.iterdir()) == [
        "encoder.engine",
        "head.engine",
        "layers.json",
    ]


def test_what_is_said_of_a_head(job: Callable[[Dtype], BuildJob]) -> None:
    task = head_only(job("fp16"))
    alone = [{**each, "batch": (1, 1, 1)} for each in task.profiles["head"]]
    task = replace(task, profiles={"head": (*alone, *task.profiles["head"])})
    result = build(task, tell=quiet)
    head = result.engines["head"]
    assert head.aliases == task.aliases["head"]
    assert head.profiles == task.profiles["head"] and len(head.profiles) == 4
    kinds = {each.name: (each.dtype, each.shape) for each in head.inputs}
    assert kinds["tokens"] == ("int64", ("batch", "length"))
    assert kinds["k"] == ("int64", (1,))
    assert kinds["past.0.key"][0] == "float16" and kinds["past.0.key"][1][2] == CAPACITY
    assert {"top_log_probs", "top_ids", "logits", "present.0.key"} <= {
        each.name for each in head.outputs
    }
    assert result.host_bytes > 10**8
    layers = read_layers_file(task.out / "layers.json")
    assert len(layers["head"]) == head.layers
    nodes = {node for layer in layers["head"] for node in layer.nodes}
    assert any("TensorScatter" in node for node in nodes)
    assert any("Attention" in node for node in nodes)


def test_graphs_are_checked_without_building(job: Callable[[Dtype], BuildJob]) -> None:
    task = replace(job("bf16"), check_only=True, sm=())
    result = build(task, tell=quiet)
    assert list(result.engines) == ["encoder", "head"] and result.sm == ()
    assert result.engines["head"].aliases == task.aliases["head"]
    assert result.engines["head"].bytes == 0
    assert list(task.out.iterdir()) == []


def test_a_float32_graph_sold_as_float16_is_caught(job: Callable[[Dtype], BuildJob]) -> None:
    task = replace(head_only(job("fp32")), dtype="fp16")
    with pytest.raises(
        NotProved, match="part 'head' is to be fp16, and its graph multiplies float32"
    ):
        build(task, tell=quiet)
    assert list(task.out.iterdir()) == []


def test_one_matrix_in_float32_is_caught(job: Callable[[Dtype], BuildJob]) -> None:
    def widen(graph: ir.Graph) -> None:
        node = next(node for node in graph if node.op_type == "MatMul")
        for index, value in enumerate(node.inputs):
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
            graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])
        uses = list(node.outputs[0].uses())
        back = ir.node("Cast", [node.outputs[0]], {"to": ir.DataType.FLOAT16})
        graph.insert_after(node, back)
        for user, index in uses:
            user.replace_input_with(index, back.outputs[0])

    task = edited(job("fp16"), "encoder", widen)
    with pytest.raises(
        NotProved, match="is to be fp16, and its graph multiplies float32 in 'node_"
    ):
        build(task, tell=quiet)


def test_a_copied_cache_is_caught(job: Callable[[Dtype], BuildJob]) -> None:
    def copy(graph: ir.Graph) -> None:
        """present.0.key is computed from the updated cache, not the updated cache itself."""
        present = next(value for value in graph.outputs if value.name == "present.0.key")
        last = present.producer()
        assert last is not None
        present.name = "updated"
        out = ir.Value(name="present.0.key", type=present.type, shape=present.shape)
        graph.append(ir.node("Neg", [present], outputs=[ir.Value(name="negated")]))
        graph.append(ir.node("Neg", [graph[-1].outputs[0]], outputs=[out]))
        graph.outputs[list(graph.outputs).index(present)] = out

    task = edited(job("fp16"), "head", copy)
    with pytest.raises(
        NotProved,
        match=r"cache 'past\.0\.key' is copied to 'present\.0\.key', not updated in place",
    ):
        build(task, tell=quiet)


def test_swapped_caches_are_caught(job: Callable[[Dtype], BuildJob]) -> None:
    task = head_only(job("fp16"))
    pairs = dict(task.aliases["head"])
    pairs["past.0.key"], pairs["past.0.value"] = pairs["past.0.value"], pairs["past.0.key"]
    with pytest.raises(NotProved, match=r"'past\.0\.key' is copied to 'present\.0\.value'"):
        build(replace(task, aliases={"head": pairs}), tell=quiet)


def test_unsupported_operators_are_all_named(job: Callable[[Dtype], BuildJob]) -> None:
    def replace_activations(graph: ir.Graph) -> None:
        adds = [node for node in graph if node.op_type == "Add"][:2]
        for index, node in enumerate(adds):
            other = ir.node(
                "Mystery", list(node.inputs), outputs=[ir.Value(name=f"m{index}")],
                name=f"mystery_{index}", domain="vlv",
            )  # fmt: skip
            graph.insert_before(node, other)
            node.replace_input_with(0, other.outputs[0])
        graph.opset_imports["vlv"] = 1

    task = edited(job("fp32"), "encoder", replace_activations)
    with pytest.raises(VlvError, match="the compiler refuses part 'encoder': Mystery") as caught:
        build(task, tell=quiet)
    assert "'mystery_0': there is no such operator; Mystery 'mystery_1'" in caught.value.message
    assert "operators that TensorRT has" in (caught.value.hint or "")


def test_a_cache_of_open_length_is_refused_with_the_mend(job: Callable[[Dtype], BuildJob]) -> None:
    def open_length(graph: ir.Graph) -> None:
        for value in (*graph.inputs, *graph.outputs):
            if (value.name or "").startswith(("past.", "present.")):
                assert value.shape is not None
                value.shape = ir.Shape([*value.shape[:2], "capacity", value.shape[3]])

    task = edited(job("fp16"), "head", open_length)
    with pytest.raises(VlvError, match="refuses part 'head': TensorScatter 'node_TensorScatter"):
        build(task, tell=quiet)


def test_an_axis_without_a_range_is_named(job: Callable[[Dtype], BuildJob]) -> None:
    task = head_only(job("fp16"))
    short: tuple[Profile, ...] = ({"batch": (1, 2, 4), "k": (1, 2, 8)},)
    with pytest.raises(UsageError, match="profile 0 of part 'head' gives no range for length"):
        build(replace(task, profiles={"head": short}), tell=quiet)


def test_a_target_that_does_not_exist_is_refused(job: Callable[[Dtype], BuildJob]) -> None:
    with pytest.raises(UsageError, match="does not build for sm90"):
        build(replace(job("fp16"), sm=(90,)), tell=quiet)
    with pytest.raises(UsageError, match="no compute capability is named"):
        build(replace(job("fp16"), sm=()), tell=quiet)


def test_an_absent_graph_is_named(job: Callable[[Dtype], BuildJob], tmp_path: Path) -> None:
    task = replace(job("fp16"), graphs={"head": tmp_path / "none.onnx"})
    with pytest.raises(UsageError, match=r"graph .*none\.onnx of part 'head' is missing"):
        build(task, tell=quiet)


def test_a_damaged_graph_is_refused(job: Callable[[Dtype], BuildJob], tmp_path: Path) -> None:
    path = tmp_path / "head.onnx"
    path.write_bytes(b"\x0a\x00not onnx")
    task = replace(job("fp16"), graphs={"head": path}, check_only=True)
    with pytest.raises(VlvError, match="part 'head'"):
        build(task, tell=quiet)


def test_a_full_disk_leaves_nothing(
    job: Callable[[Dtype], BuildJob], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other process may write files of a few KiB at most."""
    task = head_only(job("fp16"))
    resource = pytest.importorskip("resource")
    real = subprocess.Popen

    def limited(*args: Any, **kwargs: Any) -> Any:
        return real(
            *args,
            **kwargs,
            preexec_fn=lambda: (
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
            ),
        )

    monkeypatch.setattr(process.subprocess, "Popen", limited)
    with pytest.raises(VlvError, match=r"head\.engine cannot be written: File too large") as caught:
        build(task, tell=quiet)
    assert "make room" in (caught.value.hint or "")
    assert list(task.out.iterdir()) == []


def test_a_crash_of_the_compiler_is_an_error(job: Callable[[Dtype], BuildJob]) -> None:
    task = job("fp16")

    def crash(text: str) -> None:
        os.kill(_child(), signal.SIGSEGV)

    with pytest.raises(VlvError, match="the compiler's process was ended by SIGSEGV") as caught:
        build(task, tell=crash)
    assert "the compiler crashed" in (caught.value.hint or "")
    assert list(task.out.iterdir()) == []


def test_want_of_memory_is_told_from_a_crash(job: Callable[[Dtype], BuildJob]) -> None:
    with pytest.raises(VlvError, match="ended by SIGKILL") as caught:
        build(job("fp16"), tell=lambda text: os.kill(_child(), signal.SIGKILL))
    assert "for want of memory" in (caught.value.hint or "")


def test_too_little_memory_starts_nothing(
    job: Callable[[Dtype], BuildJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**6)
    monkeypatch.setattr(process.subprocess, "Popen", None)
    with pytest.raises(VlvError, match="building needs about"):
        build(job("fp16"), tell=quiet)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_compiler_ends_it_without_a_trace(
    number: signal.Signals, job: Callable[[Dtype], BuildJob]
) -> None:
    task = job("fp16")

    def stop(text: str) -> None:
        if "cloning" in text:
            os.kill(_child(), number)

    with pytest.raises(VlvError, match="the build was stopped; nothing of it is left"):
        build(task, tell=stop)
    assert list(task.out.iterdir()) == []


def test_an_interrupt_stops_the_compiler_and_keeps_what_was_there(
    job: Callable[[Dtype], BuildJob],
) -> None:
    task = job("fp16")
    (task.out / "head.engine").write_text("of an earlier build")
    children: list[int] = []

    def interrupt(text: str) -> None:
        if "cloning" in text:
            children.append(_child())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(task, tell=interrupt)
    assert not Path(f"/proc/{children[0]}").exists()
    assert [path.name for path in task.out.iterdir()] == ["head.engine"]
    assert (task.out / "head.engine").read_text() == "of an earlier build"


def _child() -> int:
    """The compiler's process: the only child that is Python with our module."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return next(
        int(each)
        for each in children
        if b"vlv_export.tensorrt" in Path(f"/proc/{each}/cmdline").read_bytes()
    )


ALONE = """
import sys
for name in ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "onnxscript"):
    sys.modules[name] = None
from pathlib import Path
from vlv_export.tensorrt.job import job_from_json
from vlv_export.tensorrt.process import build
print(sorted(build(job_from_json(sys.stdin.read()), tell=lambda text: None).engines))
assert "tensorrt_rtx" not in sys.modules
"""


def test_engines_are_built_without_torch_and_onnx(job: Callable[[Dtype], BuildJob]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], input=job_to_json(head_only(job("fp16"))), text=True,
        capture_output=True, check=False, env=environment,
    )  # fmt: skip
    assert done.stdout == "['head']\n", done.stderr[-500:]


def test_the_other_process_ends_with_its_parent(job: Callable[[Dtype], BuildJob]) -> None:
    """Its input ends, as it does when the parent is killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "vlv_export.tensorrt"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env=environment,
    ) as child:  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(job_to_json(job("fp16")) + "\n")
        child.stdin.flush()
        json.loads(child.stdout.readline())
        child.stdin.close()
        started = time.monotonic()
        rest = child.stdout.read()
        assert child.wait(30) in (0, 1)
    assert "result" not in rest and time.monotonic() - started < 20


def test_results_are_of_their_own_class(job: Callable[[Dtype], BuildJob]) -> None:
    assert isinstance(build(replace(job("fp16"), check_only=True), tell=quiet), BuildResult)
