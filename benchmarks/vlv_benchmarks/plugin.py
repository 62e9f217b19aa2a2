"""What vlv_benchmarks offers through the hooks: its cases."""

from collections.abc import Iterable

from vlv_core import hookimpl
from vlv_core.specs import BenchCaseSpec

COMPOSED = ("torch", "transformers", "tokenizers", "diffusers", "onnx_ir", "onnxscript",
            "onnxruntime", "ml_dtypes")  # fmt: skip
"""what composing and exporting an encoder of real size takes"""


CASES = "vlv_benchmarks.cases"


@hookimpl
def vlv_bench_cases() -> Iterable[BenchCaseSpec]:
    return [
        _case("single", "one picture to its caption: first token, every token, whole"),
        _case("offline", "PNG files to written captions, pictures a second"),
        _case("embed", "pictures to caption embeddings, in batches"),
        _case("reconstruct", "pictures redrawn, by steps and guidance"),
        _case("coldstart", "a fresh process to its first caption"),
        _case("server", "vlv serve under load: requests a second in time", alone=True),
        _case("decode", "the language model alone, beside other programs", alone=True),
        _case(
            "encoder",
            "an encoder of real size alone, random weights",
            alone=True,
            requires=COMPOSED,
        ),
        _case("parity", "quality alone: an artefact's proof, run again", alone=True),
        _case("export", "seconds and memory of an export", alone=True),
        _case("train", "both training stages beside the method's plain loop", alone=True),
        BenchCaseSpec(
            name="train-large",
            summary="the same with models of the paper's smaller sizes",
            plan=f"{CASES}.train:plan_large",
            run=f"{CASES}.train:run",
            alone=True,
        ),
    ]


def _case(
    name: str, summary: str, *, alone: bool = False, requires: tuple[str, ...] = ()
) -> BenchCaseSpec:
    module = f"{CASES}.{name}"
    return BenchCaseSpec(
        name=name,
        summary=summary,
        plan=f"{module}:plan",
        run=f"{module}:run",
        alone=alone,
        requires=requires,
        extra="bench" if requires else None,
    )
