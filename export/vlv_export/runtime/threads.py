"""How many threads a graph should run on, unless the user says."""

import os
from pathlib import Path

from vlv_core.errors import UsageError

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def pick_threads(threads: int | None) -> int:
    """The given number, or the physical cores that this process may use.

    Two hardware threads of one core share its multipliers: a second thread there only disturbs the
    first. Raises UsageError for a number below 1.
    """
    if threads is None:
        return default_threads()
    if threads < 1:
        raise UsageError(f"threads is {threads}; use 1 or more", hint="leave it out for all cores")
    return threads


def default_threads() -> int:
    """Physical cores within the process' affinity and its container's quota; at least 1."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = {_core(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(len(allowed))))


def _core(cpu: int) -> str:
    """What hardware threads of one core have in common."""
    try:
        return Path(_SIBLINGS.format(cpu)).read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota(otherwise: int) -> int:
    """Whole processors that the container may use."""
    try:
        limit, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, int(limit) // int(period))
    except (OSError, ValueError):
        return otherwise
