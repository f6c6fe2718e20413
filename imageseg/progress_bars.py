"""Progress bars on standard error for work on many files or bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Update = Callable[[int, int], None]


@contextlib.contextmanager
def file_progress(what: str, *, lines_in_logs: bool = False, console: Console | None = None) -> Iterator[Update]:
    """Provide a function to call with (files done, total number of files). The bar appears with the first call.

    Args:
        what: Description in front of the bar.
        lines_in_logs: Whether to print ten lines in total, instead of nothing, if standard error is not a terminal.
        console: Console to print on. If not set, standard error.
    """
    with _bar(what, MofNCompleteColumn(), lines_in_logs=lines_in_logs, console=console) as update:
        yield update


@contextlib.contextmanager
def byte_progress(what: str) -> Iterator[Update]:
    """Provide the same function for (bytes done, total bytes); the bar also shows the speed."""
    with _bar(what, DownloadColumn(), TransferSpeedColumn()) as update:
        yield update


@contextlib.contextmanager
def _bar(
    what: str, *counts: ProgressColumn, lines_in_logs: bool = False, console: Console | None = None
) -> Iterator[Update]:
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield (
            lambda done, total: (
                console.print(f"{what} {done}/{total}") if lines_in_logs and _completes_a_tenth(done, total) else None
            )
        )
        return
    columns = (TextColumn(what), *counts, BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(what, total=None)

    def update(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()  # only now, because cached results need no bar; starting again has no effect

    try:
        yield update
    finally:
        bar.stop()


def _completes_a_tenth(done: int, total: int) -> bool:
    return 10 * done // total > 10 * (done - 1) // total
