"""How often torch's allocator is asked."""

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def asked(call: Callable[[], object]) -> int:
    """Allocations on the CPU while `call` runs, as torch's own profiler records them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    # its table of events has those alone that belong to no operation
    raw: Any = seen.profiler
    return sum(
        event.name() == "[memory]" and event.nbytes() > 0 for event in raw.kineto_results.events()
    )
