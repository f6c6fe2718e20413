"""Progress bars over files: a bar in a terminal, lines in a log where they are asked for, else nothing."""

import io

import pytest
from rich.console import Console

from imageseg.progress_bars import file_progress


@pytest.mark.parametrize(("total", "lines"), [(1, [1]), (3, [1, 2, 3]), (25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25])])
def test_a_log_gets_ten_lines_where_they_are_asked_for(total: int, lines: list[int]) -> None:
    logs = {asked: io.StringIO() for asked in (True, False)}
    for asked, log in logs.items():
        with file_progress("pack", lines_in_logs=asked, console=Console(file=log)) as progress:
            for done in range(1, total + 1):
                progress(done, total)
    assert logs[True].getvalue() == "".join(f"pack {done}/{total}\n" for done in lines)
    assert logs[False].getvalue() == ""


@pytest.mark.parametrize("is_used", [True, False])
def test_a_terminal_gets_a_bar_once_there_is_something_to_show(is_used: bool) -> None:
    terminal = io.StringIO()
    with file_progress("pack", console=Console(file=terminal, force_terminal=True, width=80)) as progress:
        if is_used:
            progress(7, 20)
    assert ("7/20" in terminal.getvalue()) == is_used
    assert ("pack" in terminal.getvalue()) == is_used
