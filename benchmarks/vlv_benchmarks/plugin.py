"""What vlv_benchmarks offers through the hooks: its cases."""

from collections.abc import Iterable

from vlv_core import hookimpl
from vlv_core.specs import BenchCaseSpec


@hookimpl
def vlv_bench_cases() -> Iterable[BenchCaseSpec]:
    return []
