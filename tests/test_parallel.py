"""in_processes: results in order, errors as they are, the dead named, nothing computed far ahead."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from imageseg.errors import InputError
from imageseg.parallel import in_processes


def square(number: int) -> int:
    return number * number


def refuse_seven(number: int) -> int:
    if number == 7:
        raise InputError(f"seven.png: cannot be read ({number})")
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def process_of(number: int) -> int:
    time.sleep(0.02)  # so that one process cannot take all
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 57])
def test_results_come_in_order_and_progress_counts_them(workers: int, count: int) -> None:
    seen: list[tuple[int, int]] = []
    results = list(
        in_processes(square, range(count), workers=workers, progress=lambda done, total: seen.append((done, total)))
    )
    assert results == [number * number for number in range(count)]
    assert seen == [(done, count) for done in range(1, count + 1)]


def test_arguments_may_be_bound() -> None:
    assert list(in_processes(partial(pow, 2), [1, 2, 3], workers=2)) == [2, 4, 8]


def test_two_workers_are_two_other_processes() -> None:
    ids = set(in_processes(process_of, range(40), workers=2))
    assert len(ids) == 2
    assert os.getpid() not in ids


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_one_line(workers: int) -> None:
    with pytest.raises(InputError) as refused:
        list(in_processes(refuse_seven, range(20), workers=workers))
    assert refused.value.line() == "seven.png: cannot be read (7)"


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(InputError, match="a worker process died: it ran out of memory"):
        list(in_processes(die_at_three, range(20), workers=2))


def signal_itself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return number


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_ctrl_c_is_for_the_first_process_only() -> None:
    """A terminal sends it to all; workers finish what they have and say nothing."""
    assert list(in_processes(signal_itself, range(8), workers=2)) == list(range(8))


def test_whoever_stops_asking_stops_the_work() -> None:
    results = in_processes(square, range(10_000), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]


SCRIPT = """
from imageseg.datasets.masks.cache import MaskCache, Painted
from pathlib import Path
import numpy as np, sys
from typing import NamedTuple
class Item(NamedTuple):
    name: str
def paint(item):
    return Painted(np.zeros((2, 2), np.uint8), 1, 1)
folder = Path(sys.argv[1])
(folder / "a.json").write_text("{}")
cache = MaskCache(folder / "masks", recipe={}, annotations=folder / "a.json", hint="")
cache.make(lambda: [Item(f"{n}.jpg") for n in range(9)], paint, palette=np.zeros((256, 3), np.uint8), workers=2)
"""


def test_a_script_without_main_guard_is_told_so_and_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Its workers import it, and would wait for the lock that it holds."""
    (tmp_path / "script.py").write_text(SCRIPT)
    answer = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 1
    assert "a script that starts worker processes needs 'if __name__ == \"__main__\":'" in answer.stderr
    assert "or your script lacks" in answer.stderr
