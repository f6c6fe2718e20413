"""A value of the wrong kind, said in one line: what the argument takes, what was found, and what was probably meant."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from imageseg.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_WRONG_VALUE = re.compile(r'Parser key "(?P<argument>[\w.]+)":.*(?:Got|Given) value: (?P<found>.*)', re.DOTALL)
_KINDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false"),
    NoneType: ("null", "null"),
}


@contextlib.contextmanager
def typed_values(parser: ArgumentParser, hint: str = "") -> Iterator[None]:
    """Turns what jsonargparse raises of a wrong value into our one line.

    Raises:
        InputError: in the place of its errors, with ``hint`` at its end.
    """
    import jsonargparse

    try:
        yield
    except (jsonargparse.ArgumentError, argparse.ArgumentError, ValueError, TypeError) as error:
        raise InputError(f"{_worded(str(error), parser)}{hint}") from error


def refuse_nulls(values: dict[str, dict[str, Any]], parser: ArgumentParser) -> None:
    """jsonargparse lets null pass for every type. That of ``data.root`` is kept: it means the dataset's own folder.

    Raises:
        InputError: an argument of a section is null and takes no null.
    """
    for argument, expected in _types(parser).items():
        section, _, name = argument.partition(".")
        takes_null = NoneType in get_args(expected) or argument == "data.root"
        if values[section][name] is None and not takes_null:
            raise InputError(f"{argument} must be {kind(expected)}, found null")


def _types(parser: ArgumentParser) -> dict[str, Any]:
    hints = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    return {argument: hint for argument, hint in hints.items() if hint is not None}


def _worded(message: str, parser: ArgumentParser) -> str:
    wrong = _WRONG_VALUE.search(message)
    types = _types(parser)
    if wrong is None or wrong["argument"] not in types:
        return " ".join(message.split())
    expected, found = types[wrong["argument"]], wrong["found"].strip()
    quoted = found if found.startswith(("[", "{")) else f"'{found}'"
    return f"{wrong['argument']} must be {kind(expected)}, found {quoted}{did_you_mean(found, choices(expected))}"


def kind(expected: Any) -> str:
    """The values that a type takes, in words: ``2 whole numbers in brackets``, ``a number or null``, ``one of add, cat``."""
    if expected in _KINDS:
        return _KINDS[expected][0]
    origin, inner = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        return " or ".join(kind(part) for part in inner)
    if origin is Literal:
        names = ", ".join(map(str, inner))
        return names if len(inner) == 1 else f"one of {names}"
    if origin in (list, tuple) and inner[0] in _KINDS:
        count = f"{len(inner)} " if origin is tuple and ... not in inner else ""
        return f"{count}{_KINDS[inner[0]][1]} in brackets"
    return "a list" if origin in (list, tuple) else str(expected)


def choices(expected: Any) -> list[str]:
    """The words that a type names, those of its parts included."""
    if get_origin(expected) is Literal:
        return [str(value) for value in get_args(expected)]
    return [word for part in get_args(expected) for word in choices(part)]
