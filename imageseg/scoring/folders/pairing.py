"""Pairing of predictions with ground truth masks, by the rule of each benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from imageseg.errors import InputError
from imageseg.images import is_image
from imageseg.prediction import COMPANIONS


class ScoredPair(NamedTuple):
    """Ground truth mask and its prediction, which is None if it is missing and the benchmark allows that."""

    truth: Path
    prediction: Path | None
    name: str


Key = Callable[[Path], str]


def stem_of(path: Path) -> str:
    """Match files by name without suffix, in any folder."""
    return path.stem


def frame_of(path: Path) -> str:
    """Match files by city, sequence and frame, with which Cityscapes' file names begin."""
    return "_".join(path.stem.split("_")[:3])


def truth_files(folder: Path, endings: Sequence[str] = ("",)) -> list[Path]:
    """List the masks below a folder, sorted.

    Args:
        folder: Folder that is searched recursively.
        endings: Endings of file names without suffix; the first that any file has is used.

    Raises:
        InputError: The folder does not exist or contains no mask.
    """
    images = _images_below(folder)
    for ending in endings:
        if found := [path for path in images if path.stem.endswith(ending)]:
            return found
    wanted = " or ".join(f"*{ending}.png" for ending in endings if ending)
    raise InputError(f"{folder}: contains no masks{f' ({wanted})' if wanted else ''}")


class GroundTruth(NamedTuple):
    """Ground truth mask and the name of its prediction."""

    mask: Path
    name: str


def paired(
    truths: Iterable[GroundTruth], predictions: Path, *, key: Key = stem_of, missing_allowed: bool = False
) -> list[ScoredPair]:
    """Pair every ground truth mask with its prediction, in the order of the masks.

    Args:
        truths: Ground truth masks.
        predictions: Folder of predictions that is searched recursively; other files in it are ignored.
        key: Function from the path of a prediction to the name in ``truths``.
        missing_allowed: Pair a mask without prediction with None instead of raising an error.

    Raises:
        InputError: A mask has no prediction or several, or several masks have the same name.
    """
    by_key: dict[str, list[Path]] = {}
    for path in _images_below(predictions):
        by_key.setdefault(key(path), []).append(path)
    pairs, seen = [], dict[str, Path]()
    for mask, name in truths:
        if name in seen:
            raise InputError(f"{seen[name]} and {mask} are both the ground truth of '{name}'. Score them separately")
        seen[name] = mask
        # 'imageseg predict' writes overlays and confidences next to predictions.
        found = by_key.get(name, [])
        found = [path for path in found if not path.stem.endswith(COMPANIONS)] or found
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1]} are both predictions for {mask}. Keep one of them")
        pairs.append(ScoredPair(mask, found[0] if found else None, name))
    unpaired = [pair for pair in pairs if pair.prediction is None]
    if len(unpaired) == len(pairs) or (unpaired and not missing_allowed):
        raise InputError(
            f"{predictions}: {len(unpaired)} of {len(pairs)} masks have no prediction there, the first is {unpaired[0].truth} "
            f"(looked for '{unpaired[0].name}')"
        )
    return pairs


def _images_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return sorted(path for path in folder.rglob("*") if is_image(path))
