"""A quick run of the bundled model and of what is exported of it, held to what may not vary:
`benchmarks/expected/quick.json`. If a change of it is meant, make that file anew:

    vlv-export mini -o A --onnx --dtype fp32,int8 && vlv-bench run --quick ... -o OUT
    vlv-bench gate OUT benchmarks/expected/quick.json --write
"""

import json
from pathlib import Path

import pytest

from vlv_benchmarks.cli import app
from vlv_benchmarks.folder import read_record, read_turns
from vlv_benchmarks.verify import mismatches
from vlv_core.console import run
from vlv_export.cli import app as export_app

EXPECTED = Path(__file__).parents[2] / "benchmarks" / "expected" / "quick.json"
ROWS = "torch-eager,onnx-fp32,onnx-int8"
pytestmark = pytest.mark.timeout(900)
OPERATIONS = {"encode": 153_616_384, "prefill": 27_918_336, "decode": 33_890_560}
BYTES = {"encode": 7_650_816, "prefill": 3_674_624, "decode": 68_586_048}
"""of a call in the mean over eight pictures: of the model, so that no machine changes them"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run."""
    home = tmp_path_factory.mktemp("quick")
    artefact, out = str(home / "artefact"), home / "out"
    args = ["export", "mini", "-o", artefact, "--onnx", "--dtype", "fp32,int8", "--threads", "1"]
    assert run(export_app, name="vlv-export", args=args) == 0
    args = ["run", "--quick", "--artefact", artefact, "--rows", ROWS, "--turns", "1",
            "--threads", "1", "-o", str(out)]  # fmt: skip
    assert run(app, name="vlv-bench", args=args) == 0
    return out


def test_what_may_not_vary_is_what_is_due(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(app, name="vlv-bench", args=["gate", str(out), str(EXPECTED)])
    said = capsys.readouterr()
    assert code == 0, said.out


def test_the_gate_knows_all_that_does_not_vary() -> None:
    rows = json.loads(EXPECTED.read_text())["rows"]
    assert {key.partition("/")[0] for key in rows} == {
        "coldstart", "embed", "offline", "reconstruct", "single"
    }  # fmt: skip
    facts = rows["single/onnxruntime/mini/onnx-int8/int8/b1/cpu/t1"]["facts"]
    assert set(facts) == {
        "artefact_bytes", "encoder_nodes", "head_nodes", "step_kib", "tokens_per_caption"
    }  # fmt: skip
    assert rows["single/torch-eager/mini/fp32/b1/cpu/t1"]["facts"]["step_allocations"] > 0
    assert all(each["outputs"] for each in rows.values())


def test_work_is_what_the_models_sizes_say(out: Path) -> None:
    record = read_record(out)
    (eager,) = [each for each in record.result
                if each.row.case == "single" and each.row.backend == "torch-eager"]  # fmt: skip
    stages = {name: eager.roofline[name] for name in OPERATIONS}
    assert {name: bound.operations for name, bound in stages.items()} == OPERATIONS
    assert {name: bound.bytes for name, bound in stages.items()} == BYTES
    assert eager.facts["tokens_per_caption"] == 18.125


def test_all_rows_are_right_and_follow_from_the_samples(out: Path) -> None:
    record = read_record(out)
    ran = [each for each in record.result if each.status != "not run"]
    assert record.run.quick and len(ran) == len(read_turns(out)) == 13
    assert all(each.timed and each.quality.parity == "passed" for each in ran)
    assert record.workload["single"].images == len(json.loads((out / "pictures.json").read_text()))
    assert not mismatches(out)
    assert "not for publication" in (out / "REPORT.md").read_text()
