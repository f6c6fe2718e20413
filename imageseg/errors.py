"""InputError, the only error that a user's input can cause, and functions that word its messages."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable


class InputError(ValueError):
    """Invalid usage or input, in one line: what was found, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """

    def line(self) -> str:
        """Return the message without the traceback in which the worker process of a loader wraps it."""
        return str(self).strip().rpartition("InputError: ")[2]


def command(*words: object) -> str:
    """Return an imageseg command in quotes, ready to be pasted even if a path contains spaces."""
    text = shlex.join(["imageseg", *map(str, words)])
    return f'"{text}"' if "'" in text else f"'{text}'"


def counted(count: int, singular: str, plural: str) -> str:
    """Return the count with its noun, as in ``1 image`` and ``2 images``."""
    return f"{count} {singular if count == 1 else plural}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to ``name``, ignoring case, or None if none is close."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` if a known name is close to ``name``, otherwise an empty string."""
    meant = closest(name, known)
    return f" (did you mean '{meant}'?)" if meant else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a name that does not exist, with the closest one and the list of all."""
    choices = list(known)
    hint = did_you_mean(name, choices)
    return InputError(f"no {kind} is called '{name}'{hint}; there are {', '.join(choices)}")
