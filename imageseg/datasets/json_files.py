"""JSON that comes with a dataset: read, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imageseg.errors import InputError


def read_json(path: Path, *, missing: str = "") -> Any:
    """The content of a file, whatever it is.

    Args:
        path: the file.
        missing: what to do where it is not there, for the error.

    Raises:
        InputError: missing, unreadable, or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{f'; {missing}' if missing else ''}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a thousand brackets
        raise InputError(f"{path}: is not JSON ({error})") from error
