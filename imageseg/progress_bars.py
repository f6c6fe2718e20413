"""Progress bars over files, on standard error, for work that goes through many."""

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
    """Gives a function to call with (done, in all). The bar appears with the first call and goes with the last.

    Args:
        what: stands before the bar.
        lines_in_logs: where standard error is no terminal, print ten lines on the way; without, nothing.
        console: where to; unset, standard error.
    """
    with _bar(what, MofNCompleteColumn(), lines_in_logs=lines_in_logs, console=console) as update:
        yield update


@contextlib.contextmanager
def byte_progress(what: str) -> Iterator[Update]:
    """The same for (bytes done, bytes in all), with the speed."""
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
                console.print(f"{what} {done}/{total}") if lines_in_logs and _ends_a_tenth(done, total) else None
            )
        )
        return
    columns = (TextColumn(what), *counts, BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(what, total=None)

    def update(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()  # only now, because what was kept needs no bar; starting again does nothing

    try:
        yield update
    finally:
        bar.stop()


def _ends_a_tenth(done: int, total: int) -> bool:
    return 10 * done // total > 10 * (done - 1) // total
