"""Lists of picture names, one a line, as VOC, SBD and CamVid ship them."""

from __future__ import annotations

from pathlib import Path

from imageseg.errors import InputError


def names_in(path: Path) -> list[str]:
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
