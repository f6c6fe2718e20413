"""Text files that come with a dataset: JSON annotations and lists of image names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imageseg.errors import InputError


def read_json(path: Path, *, missing: str = "") -> Any:
    """Read a JSON file.

    Args:
        path: JSON file.
        missing: What to do if the file is missing, for the error message.

    Raises:
        InputError: The file is missing, unreadable, or not JSON.
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
    """Read image names from a list: one per line, or paths such as ``/JPEGImages/x.jpg /SegmentationClass/x.png``.

    Only the stem of the first column counts.

    Raises:
        InputError: The list is missing, empty or not text.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such list; it must contain the image names of the split, one per line, as in the devkit"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file with a list of names") from error
    names = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not names:
        raise InputError(f"{path}: the list is empty")
    return names
