"""Text files that come with a dataset: JSON annotations and lists of image names."""

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


def read_names(path: Path) -> list[str]:
    """The picture names in a list: one a line, or the first column of paths (``/JPEGImages/x.jpg /SegmentationClass/x.png``).

    Raises:
        InputError: the list is missing, empty or no text.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such list; the split's picture names belong there, one a line, as in the devkit")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no list of names, but some other kind of file") from error
    names = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not names:
        raise InputError(f"{path}: the list is empty")
    return names
