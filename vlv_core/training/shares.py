"""How much of a step each frozen pass takes, and how much of that the cache gives back."""

import time
from collections.abc import Mapping
from statistics import median


class Shares:
    """Tells steps that computed frozen passes from steps that read them all from the cache."""

    def __init__(self) -> None:
        self.cold: list[float] = []
        """seconds of steps that computed"""
        self.warm: list[float] = []
        self.passes: dict[str, list[float]] = {}
        """seconds that each pass took in the cold steps"""
        self._started = 0.0
        self._step = -1
        self._spent: dict[str, float] = {}

    def begin(self, step: int) -> None:
        """A micro-batch of `step` begins; a new step ends the one before."""
        if step == self._step:
            return
        now = time.perf_counter()
        if self._step >= 0:
            self._end(now - self._started)
        self._started, self._step, self._spent = now, step, {}

    def spent(self, name: str, seconds: float) -> None:
        """A pass computed rows that the cache did not know."""
        if seconds:
            self._spent[name] = self._spent.get(name, 0.0) + seconds

    def lines(self) -> list[str]:
        """The report, medians over steps; [] if nothing was computed for the cache."""
        if not self.cold:
            return []
        cold = median(self.cold)
        parts = {name: median(seconds) for name, seconds in self.passes.items()}
        said = [f"cache of {n}: {s / cold:.0%} of a step that computes" for n, s in parts.items()]
        if self.warm:
            gain, due = cold - median(self.warm), sum(parts.values())
            said.append(
                f"cache: a step takes {cold:.3f} s computing and {median(self.warm):.3f} s from "
                f"the cache; {gain / due:.0%} of the passes' {due:.3f} s is gained"
            )
        return said

    def report(self) -> Mapping[str, float]:
        """Medians in seconds: cold, warm, and each pass by name."""
        table = {name: median(seconds) for name, seconds in self.passes.items()}
        for name in ("cold", "warm"):
            if getattr(self, name):
                table[name] = median(getattr(self, name))
        return table

    def _end(self, seconds: float) -> None:
        if not self._spent:
            self.warm.append(seconds)
            return
        self.cold.append(seconds)
        for name, spent in self._spent.items():
            self.passes.setdefault(name, []).append(spent)
