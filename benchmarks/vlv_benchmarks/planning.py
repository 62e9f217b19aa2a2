"""From an order to the rows that will run, and those that cannot, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlv_benchmarks.backends import check_rows, chosen
from vlv_benchmarks.job import CasePlan, Order, Planned
from vlv_benchmarks.record import Workload
from vlv_core.errors import PluginError, UsageError
from vlv_core.registry import available
from vlv_core.specs import BenchCaseSpec, resolve


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All cases of a run."""

    rows: tuple[Planned, ...]
    runs: dict[str, str]
    """case -> `module:function` of a turn"""
    workload: dict[str, Workload]
    draws: tuple[tuple[int, float], ...]

    @property
    def runnable(self) -> list[Planned]:
        return [each for each in self.rows if not each.refusal]

    @property
    def refused(self) -> dict[str, str]:
        return {each.row.key: each.refusal for each in self.rows if each.refusal}

    @property
    def images(self) -> int:
        """The most pictures that a case uses."""
        return max((each.images for each in self.workload.values()), default=0)


def make_plan(order: Order) -> Plan:
    """Raises UsageError for unknown cases and rows, PluginError for a case that plans nonsense."""
    specs = _cases(order)
    plans = {spec.name: _planned(spec, order) for spec in specs}
    every = [row for plan in plans.values() for row in plan.rows]
    check_rows(every, order.rows)
    rows = chosen(every, order.rows)
    _check_keys(rows)
    used = {each.row.case for each in rows}
    return Plan(
        rows=tuple(rows),
        runs={spec.name: spec.run for spec in specs},
        workload={name: plan.workload for name, plan in plans.items() if name in used},
        draws=tuple(dict.fromkeys(pair for plan in plans.values() for pair in plan.draws)),
    )


def _cases(order: Order) -> list[BenchCaseSpec]:
    """Those named; without names, all that are not marked `alone`."""
    specs = [item.spec for item in order.plugins.all("bench-case")]
    if order.cases:
        return [order.plugins.get("bench-case", name).spec for name in dict.fromkeys(order.cases)]
    found = [spec for spec in specs if not spec.alone]
    if not found:
        raise UsageError("no case is installed", hint="'vlv plugins' lists what was found")
    return found


def _planned(spec: BenchCaseSpec, order: Order) -> CasePlan:
    plan = resolve(spec.plan)(order)
    if not isinstance(plan, CasePlan):
        raise PluginError(
            f"bench-case {spec.name!r}: its plan is a {type(plan).__name__}; CasePlan is due"
        )
    wrong = next((each.row.case for each in plan.rows if each.row.case != spec.name), None)
    if wrong is not None:
        raise PluginError(f"bench-case {spec.name!r}: it planned a row of the case {wrong!r}")
    missing = available(spec)
    if missing:
        refused = tuple(replace(each, refusal=missing) for each in plan.rows)
        return replace(plan, rows=refused)
    return plan


def _check_keys(rows: Sequence[Planned]) -> None:
    seen: dict[str, Any] = {}
    for each in rows:
        if each.row.key in seen:
            raise PluginError(f"two rows are called {each.row.key}")
        seen[each.row.key] = each
