"""Parallel processing of many files, with results in order and one-line errors."""

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
"""Function called with (number done, total number)."""

_CHUNKS_AHEAD = 4
_LARGEST_CHUNK = 16


def in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Apply a function to every item in worker processes, and yield the results in the order of the items.

    Processes are spawned, not forked, because the caller may hold threads (torch, a progress bar) that a fork would lose.
    Therefore ``function`` must be importable, and its module should import no more than it needs.

    Args:
        function: Function defined in a module, or a ``functools.partial`` of one.
        items: Items to process; they and the results must be picklable.
        workers: Number of processes. If not set, one per CPU core. With 1 worker or 1 item, everything runs in this process.
        progress: Function called after each item.

    Raises:
        InputError: ``function`` raised it, or a worker process died.
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
    InputError: This process is a worker that is still importing the script that started it, so the script has no main guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself checks
        raise InputError(
            "a script that starts worker processes needs 'if __name__ == \"__main__\":', because the processes import it"
        )


def _spawned(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    size = max(1, min(_LARGEST_CHUNK, len(items) // (4 * workers)))
    chunks = deque(items[start : start + size] for start in range(0, len(items), size))
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        # Only a few chunks are pending at a time, so that results do not pile up before they are used.
        running: deque[Future[list[Result]]] = deque()
        while chunks or running:
            while chunks and len(running) < _CHUNKS_AHEAD * workers:
                running.append(pool.submit(_each, function, chunks.popleft()))
            yield from running.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died: it ran out of memory (use fewer workers), or your script lacks "
            "'if __name__ == \"__main__\":'"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _begin() -> None:
    """Initialize a worker process."""
    # Ctrl-C reaches all processes of a terminal: the main process ends the workers, which would each print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _single_threaded()


def _end_with_parent() -> None:
    """End this worker when its parent was killed; otherwise it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _single_threaded() -> None:
    """Use one CPU core per process; OpenCV would start one thread per core in each of them."""
    import cv2

    cv2.setNumThreads(1)
