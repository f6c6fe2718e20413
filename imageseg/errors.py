"""The one error that a user's input can cause, and the helpers that word it."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong use or wrong input: one line that says what was found, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """

    def line(self) -> str:
        """The message alone, also when a loader's worker process wrapped it in its own traceback."""
        return str(self).strip().rpartition("InputError: ")[2]


def command(*words: object) -> str:
    """A command of ours in quotes, as errors suggest it: ready to be pasted, also where a path has blanks."""
    text = shlex.join(["imageseg", *map(str, words)])
    return f'"{text}"' if "'" in text else f"'{text}'"


def counted(count: int, one: str, many: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count} {one if count == 1 else many}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is probably meant to be, case aside."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` when a known name is close to ``name``, else nothing."""
    meant = closest(name, known)
    return f" (did you mean '{meant}'?)" if meant else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that nobody bears: what it may have meant, and what there is."""
    there = list(known)
    hint = did_you_mean(name, there)
    return InputError(f"no {kind} is called '{name}'{hint}; there are {', '.join(there)}")
