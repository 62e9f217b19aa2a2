"""Batches built ahead in background threads, so that decoding overlaps with computing."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Job = tuple[int, range]


def prefetch(
    build: Callable[[int, range], T],
    jobs: Iterable[Job],
    *,
    workers: int,
    begin: Callable[[], None] | None = None,
) -> Generator[T, None, None]:
    """build(*job) for each job, in order; at most workers + 1 results wait in memory.

    Each thread calls `begin` once before its first job. An error of `build` is raised at its own
    turn. Closing the iterator stops the threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vlv-batch", initializer=begin)
    waiting: deque[Future[T]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(build, *job))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
