"""Work on many files in parallel processes, with results in order and errors in one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from imageseg.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Called with (done, in all)."""

_CHUNKS_AHEAD = 4
_LARGEST_CHUNK = 16


def in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """``function`` of every item, in the order of the items.

    Processes are spawned, not forked: the caller may hold threads (torch, a progress bar) that a fork would lose. So
    ``function`` must be importable, and its module should import no more than it needs.

    Args:
        function: a module's own function, or a ``functools.partial`` of one.
        items: must be picklable, as must the results.
        workers: how many processes; unset, one per processor. With 1, or with few items, everything runs in this process.
        progress: called after each item.

    Raises:
        InputError: what ``function`` raised, or that a process died.
    """
    require_main_guard()
    workers = min(workers or os.cpu_count() or 1, len(items))
    results = map(function, items) if workers <= 1 else _spawned(function, items, workers)
    for done, result in enumerate(results, start=1):
        if progress is not None:
            progress(done, len(items))
        yield result


def require_main_guard() -> None:
    """Raises:
    InputError: this process is a worker that is still importing the script that started it, which starts work again.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise InputError(
            "a script that starts worker processes needs 'if __name__ == \"__main__\":', for they import it"
        )


def _spawned(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    size = max(1, min(_LARGEST_CHUNK, len(items) // (4 * workers)))
    chunks = deque(items[start : start + size] for start in range(0, len(items), size))
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        # Only a few chunks wait at a time, so that results do not pile up before they are asked for.
        running: deque[Future[list[Result]]] = deque()
        while chunks or running:
            while chunks and len(running) < _CHUNKS_AHEAD * workers:
                running.append(pool.submit(_each, function, chunks.popleft()))
            yield from running.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died: for want of memory (pass fewer workers), or because a script of yours that starts this lacks "
            "its 'if __name__ == \"__main__\":'"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _begin() -> None:
    """What every worker process does first."""
    # Ctrl-C reaches all processes of a terminal: the first one ends the others, which would print a traceback each.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _single_threaded()


def _end_with_parent() -> None:
    """A killed parent cannot end its workers; they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _single_threaded() -> None:
    """One processor per process: OpenCV would start a thread for each of them in each of them."""
    import cv2

    cv2.setNumThreads(1)
