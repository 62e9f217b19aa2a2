"""A run as it might come out of an afternoon, without measuring anything: rows that end well, badly
and not at all, made from a seed alone."""

from hashlib import sha256
from pathlib import Path
from random import Random

from vlv_benchmarks.folder import SAMPLES, line, samples_of, write_record
from vlv_benchmarks.record import (
    Ceiling,
    Env,
    ModelFacts,
    Record,
    Row,
    Run,
    Samples,
    Workload,
)
from vlv_benchmarks.results import summarise
from vlv_benchmarks.turn import Probe, Quality, Rates, Turn, Work

CEILING = {"cpu": Ceiling(
    gflops={"float32": 121.0, "int8": 610.0}, gbps=18.5,
    measured="matrix product of 2048, copy of 256 MB, best of 5, 2 threads",
)}  # fmt: skip
STAGES = {"read": 0.04, "encode": 0.42, "prefill": 0.09, "decode": 0.4}
"""shares of a call; the rest is nobody's"""
WEIGHTS = {"fp32": 16e6, "int8": 4e6, "int4": 2.3e6}
PASSED = Quality(parity="passed", figures={"same captions": 1.0, "worst cosine": 0.99998})
WRONG = Quality(parity="failed", reason="captions equal in 61 %, allowed 90 %")
REFUSED = {"torch.compile": "no C++ compiler is installed"}


def row(case: str = "single", label: str = "vlv onnx fp32", **options: object) -> Row:
    """A row of backend `label`, all else as usual."""
    settings = {"model": "mini", "dtype": "fp32", "threads": 2, "backend": label.replace(" ", "-")}
    return Row(case=case, label=label, **{**settings, **options})  # type: ignore[arg-type]


def turn(
    of: Row,
    number: int,
    *,
    ms: float,
    calls: int = 20,
    noise: float = 0.01,
    drifted: float = 0.0,
    seed: int = 0,
    split: bool = True,
    quality: Quality | None = None,
) -> Turn:
    """A turn whose calls take `ms` on average, give or take noise and a rare slow one."""
    draw = Random(f"{of.key} {number} {seed}")
    luck = draw.gauss(1, noise)
    total = [ms * luck * abs(draw.gauss(1, noise)) * (1.6 if draw.random() < 0.02 else 1)
             for _ in range(calls)]  # fmt: skip
    shares = STAGES if split else {}
    stages = {name: tuple(t * share for t in total) for name, share in shares.items()}
    rates = Rates(gflops=118 * draw.gauss(1, 0.004), gbps=17.9 * draw.gauss(1, 0.004))
    after = Rates(gflops=rates.gflops * (1 - drifted), gbps=rates.gbps)
    return Turn(
        row=of.key,
        turn=number,
        started=f"2026-11-22T08:{number:02d}:00Z",
        stages={"total": tuple(total), **stages},
        discarded={"total": (ms * 2.5, ms * 1.2)},
        counts={} if of.case == "coldstart" else counts(of, calls),
        measures={"startup_seconds": ms / 5e3} if of.case == "coldstart" else {},
        work=work(of, calls) if split else {},
        facts={"graph_nodes": 412 if of.dtype == "fp32" else 655, "tokens_per_caption": 24},
        peak_memory_mb=310 + 4 * of.batch + (420 if of.peer else 0),
        output_sha256=sha256(of.dtype.encode()).hexdigest(),
        quality=quality or PASSED,
        probe=Probe(before=rates, after=after),
    )  # fmt: skip


def counts(of: Row, calls: int) -> dict[str, float]:
    return {"images": calls * of.batch, "tokens": calls * of.batch * 24}


def work(of: Row, calls: int) -> dict[str, Work]:
    arithmetic = "float32" if of.dtype == "fp32" else "int8"
    weights, each = WEIGHTS[of.dtype], calls * of.batch
    return {
        "encode": Work(operations=0.35e9 * each, bytes=calls * weights, arithmetic=arithmetic),
        "prefill": Work(operations=0.02e9 * each, bytes=calls * weights, arithmetic=arithmetic),
        "decode": Work(
            operations=0.012e9 * each, bytes=calls * 24 * weights * 0.2, arithmetic=arithmetic
        ),
    }


def afternoon() -> tuple[list[Row], list[Turn]]:
    """Rows of three cases, and their turns."""
    eager = row(label="torch eager", reference=True)
    fp32, int8 = row(), row(label="vlv onnx int8", dtype="int8")
    int4 = row(label="vlv onnx int4", dtype="int4")
    genai = row(label="ONNX Runtime GenAI", peer=True, dtype="int8")
    plain = row(label="transformers generate", peer=True)
    compiled, llama = row(label="torch.compile"), row(label="llama.cpp", peer=True)
    rows = [eager, fp32, int8, int4, genai, plain, compiled, llama]
    turns = [
        each
        for number in range(5)
        for each in (
            turn(eager, number, ms=31.2, calls=80),
            turn(fp32, number, ms=19.4, calls=80),
            turn(int8, number, ms=11.6, calls=80),
            turn(int4, number, ms=9.1, quality=WRONG),
            turn(genai, number, ms=15.8, calls=80, noise=0.02, drifted=0.06),
            turn(plain, number, ms=31.4, noise=0.03, split=False),
        )
    ]  # fmt: skip
    turns.append(
        Turn(row=llama.key, turn=0, started="2026-11-22T08:09:00Z",
             error="its process ended by signal 9 after 41 s")
    )  # fmt: skip
    for batch in (1, 4, 16, 64):
        for label, dtype, ms in (("torch eager", "fp32", 30.0), ("vlv onnx int8", "int8", 11.0)):
            of = row("offline", label, batch=batch, dtype=dtype, reference=dtype == "fp32")
            rows.append(of)
            turns += [turn(of, n, ms=ms * (0.35 + 0.65 * batch**0.93), calls=12) for n in range(5)]
    cold = [row("coldstart", "vlv onnx int8", dtype="int8"), row("coldstart", "torch eager")]
    turns += [turn(each, n, ms=ms, calls=1, split=False, quality=Quality()) for n in range(5)
              for each, ms in zip(cold, (240.0, 3900.0), strict=True)]  # fmt: skip
    return [*rows, *cold], turns


def record(rows: list[Row], turns: list[Turn], samples: Samples, *, quick: bool = False) -> Record:
    """The record of a run of rows."""
    refused = {each.key: REFUSED[each.label] for each in rows if each.label in REFUSED}
    return Record(
        run=Run(
            id="20261122-mini-cpu",
            argv=("vlv-bench", "run", "--model", "mini", "-o", "OUT"),
            git_commit="4f85aa1c0ffee4f85aa1c0ffee4f85aa1c0ffee0",
            git_dirty=False,
            seed=0,
            started="2026-11-22T08:00:00Z",
            quick=quick,
            price_per_hour_usd=0.19,
        ),
        env=Env(
            os="Linux 6.8",
            cpu_model="Some Processor 8481C @ 2.70 GHz",
            cpu_isa=("avx2", "avx512f", "avx512_vnni", "amx_int8"),
            cpu_threads=2,
            memory_mb=25200,
            libraries={"numpy": "2.3.1", "onnxruntime": "1.31.1", "torch": "2.13.0"},
            variables={"OMP_NUM_THREADS": "2"},
        ),
        model={"mini": ModelFacts(
            sha256=sha256(b"mini").hexdigest(),
            plugins=("mini",),
            parameters={"encoder": 2_400_000, "bottleneck": 310_000, "head": 1_290_000},
            dtypes=dict.fromkeys(("encoder", "bottleneck", "head"), "float32"),
        )},
        workload={
            case: Workload(summary=summary, images=64, images_sha256=sha256(b"images").hexdigest(),
                           prompt="Describe it.", output_tokens=24)
            for case, summary in (
                ("single", "One picture in memory to its caption, one after another."),
                ("offline", "Pictures from disk to written captions."),
                ("coldstart", "A fresh process to its first caption."),
            )
        },
        ceiling=CEILING,
        samples=samples,
        result=summarise(rows, turns, refused=refused, ceiling=CEILING, seed=0),
    )  # fmt: skip


def folder(path: Path, rows: list[Row], turns: list[Turn], *, quick: bool = False) -> Path:
    """The files of a run."""
    path.mkdir(exist_ok=True)
    (path / SAMPLES).write_bytes(b"".join(map(line, turns)))
    write_record(path, record(rows, turns, samples_of(path, turns), quick=quick))
    return path
