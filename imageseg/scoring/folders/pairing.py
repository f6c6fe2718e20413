"""Pairing: which prediction belongs to which mask of the truth, by each benchmark's own rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from imageseg.errors import InputError
from imageseg.images import is_image
from imageseg.prediction import COMPANIONS


class ScoredPair(NamedTuple):
    """A mask of the truth and its prediction; None where there is none and the benchmark lets that pass."""

    truth: Path
    prediction: Path | None
    name: str


Key = Callable[[Path], str]


def stem_of(path: Path) -> str:
    """Files belong together that have one name, suffix aside, wherever they lie."""
    return path.stem


def frame_of(path: Path) -> str:
    """Cityscapes: files belong together whose names begin with one city, sequence and frame."""
    return "_".join(path.stem.split("_")[:3])


def truth_files(folder: Path, endings: Sequence[str] = ("",)) -> list[Path]:
    """The masks below a folder, sorted.

    Args:
        folder: searched with all its folders.
        endings: of the names, suffix aside; the first that any file has.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    pictures = _pictures(folder)
    for ending in endings:
        if found := [path for path in pictures if path.stem.endswith(ending)]:
            return found
    wanted = " or ".join(f"*{ending}.png" for ending in endings if ending)
    raise InputError(f"{folder}: holds no masks{f' ({wanted})' if wanted else ''}")


class Truth(NamedTuple):
    """A mask, and the name that its prediction bears."""

    mask: Path
    name: str


def paired(
    truths: Iterable[Truth], predictions: Path, *, key: Key = stem_of, missing_allowed: bool = False
) -> list[ScoredPair]:
    """Every mask of the truth with its prediction, in the order of the truth.

    Args:
        truths: the masks.
        predictions: a folder, searched with all its folders; other files in it do no harm.
        key: gives a prediction's name in the truth.
        missing_allowed: a mask without prediction gets None instead of an error.

    Raises:
        InputError: a mask with no or with several predictions, or several masks of one name.
    """
    by_key: dict[str, list[Path]] = {}
    for path in _pictures(predictions):
        by_key.setdefault(key(path), []).append(path)
    pairs, seen = [], dict[str, Path]()
    for mask, name in truths:
        if name in seen:
            raise InputError(f"{seen[name]} and {mask} are both the truth of '{name}'; score them apart")
        seen[name] = mask
        # Of several, what 'imageseg predict' wrote beside a prediction is none.
        found = by_key.get(name, [])
        found = [path for path in found if not path.stem.endswith(COMPANIONS)] or found
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1]} are both predictions for {mask}; keep one of them")
        pairs.append(ScoredPair(mask, found[0] if found else None, name))
    lonely = [pair for pair in pairs if pair.prediction is None]
    if len(lonely) == len(pairs) or (lonely and not missing_allowed):
        raise InputError(
            f"{predictions}: {len(lonely)} of {len(pairs)} masks have no prediction there, the first is {lonely[0].truth} "
            f"(looked for '{lonely[0].name}')"
        )
    return pairs


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return sorted(path for path in folder.rglob("*") if is_image(path))
