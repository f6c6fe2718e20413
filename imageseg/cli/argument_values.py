"""Conversion of given values to the types in a signature, with one-line errors for values that do not fit."""

from __future__ import annotations

import argparse
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from imageseg.errors import InputError, did_you_mean

_KINDS = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    bool: ("true or false", "booleans"),
    NoneType: ("null", "null"),
}


def parsed_word(word: str, expected: Any, name: str) -> Any:
    """Convert a word of the command line to the type of an argument.

    Args:
        word: Value as the user has typed it; lists and null are written as in YAML.
        expected: Type of the argument.
        name: Name of the argument, for the error message.

    Raises:
        InputError: The word is no such value; the message states the expected type, the word and the likely intention.
    """
    return _converted([f"--value={word}"], expected, name, found=word)


def checked_value(value: Any, expected: Any, name: str) -> Any:
    """Convert a value of a YAML file to the type of an argument.

    Raises:
        InputError: The value does not fit, or it is null and the type does not allow null.
    """
    if value is None and NoneType not in get_args(expected):
        raise InputError(f"{name} must be {kind(expected)}, found null")
    return _converted({"value": value}, expected, name, found=value)


def _converted(given: list[str] | dict[str, Any], expected: Any, name: str, *, found: Any) -> Any:
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=expected)
    try:
        return (parser.parse_args(given) if isinstance(given, list) else parser.parse_object(given))["value"]
    except (jsonargparse.ArgumentError, argparse.ArgumentError, ValueError, TypeError) as error:
        text = str(found)
        quoted = text if text.startswith(("[", "{")) else f"'{text}'"
        hint = did_you_mean(text, choices(expected))
        raise InputError(f"{name} must be {kind(expected)}, found {quoted}{hint}") from error


def kind(expected: Any) -> str:
    """Describe the values that a type allows: ``2 integers in brackets``, ``a number or null``, ``one of add, cat``."""
    if expected in _KINDS:
        return _KINDS[expected][0]
    origin, inner = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        kinds = [kind(part) for part in inner]
        return " or ".join([", ".join(kinds[:-1]), kinds[-1]])
    if origin is Literal:
        names = ", ".join(map(str, inner))
        return names if len(inner) == 1 else f"one of {names}"
    if origin in (list, tuple) and inner[0] in _KINDS:
        count = f"{len(inner)} " if origin is tuple and ... not in inner else ""
        return f"{count}{_KINDS[inner[0]][1]} in brackets"
    return "a list" if origin in (list, tuple) else str(expected)


def allowed_words(expected: Any) -> list[str]:
    """Return all words that a type allows, or an empty list if it also allows numbers, free text or lists."""
    if expected in (bool, NoneType):
        return {bool: ["true", "false"], NoneType: ["null"]}[expected]
    if get_origin(expected) in (Union, UnionType):
        words = [allowed_words(part) for part in get_args(expected)]
        return [word for part in words for word in part] if all(words) else []
    return choices(expected) if get_origin(expected) is Literal else []


def choices(expected: Any) -> list[str]:
    """Return the words that a type or one of its parts allows."""
    if get_origin(expected) is Literal:
        return [str(value) for value in get_args(expected)]
    return [word for part in get_args(expected) for word in choices(part)]
