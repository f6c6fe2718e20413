"""Duplicates: images that two splits share, identical byte for byte or in what they show."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from imageseg.checking.file_facts import ImageFacts
from imageseg.checking.perceptual_hash import near_duplicates

_STANDARD_SPLITS = ("train", "val", "test")


class Duplicate(NamedTuple):
    """An image of one split that an earlier split contains too."""

    path: Path
    split: str
    original: Path
    original_split: str
    same_bytes: bool


def duplicates_across(splits: Mapping[str, Mapping[Path, ImageFacts]]) -> list[Duplicate]:
    """Find, for each image, the image in an earlier split that shows the same.

    Splits that contain others by design, such as VOC's trainval, are not compared with these. Images without a perceptual
    hash, too small or too uniform, are left out.
    """
    found: dict[frozenset[Path], Duplicate] = {}
    for (one, first), (other, second) in combinations(splits.items(), 2):
        nested = first.keys() <= second.keys() or second.keys() <= first.keys()
        if nested and not {one, other} <= set(_STANDARD_SPLITS):
            continue
        for path, original in _between(first, second):
            same_bytes = first[original].digest == second[path].digest
            found.setdefault(frozenset((path, original)), Duplicate(path, other, original, one, same_bytes))
    return list(found.values())


def _between(first: Mapping[Path, ImageFacts], second: Mapping[Path, ImageFacts]) -> list[tuple[Path, Path]]:
    """Pairs of an image in ``second`` and its original in ``first``."""
    ones = {path: facts.perceptual_hash for path, facts in first.items() if facts.perceptual_hash}
    others = {path: facts.perceptual_hash for path, facts in second.items() if facts.perceptual_hash}
    by_digest = {first[path].digest: path for path in reversed(list(ones))}
    exact = {path: by_digest[second[path].digest] for path in others if second[path].digest in by_digest}
    rest = [path for path in others if path not in exact]
    originals = list(ones)
    matches = near_duplicates(list(ones.values()), [others[path] for path in rest])
    pairs = exact | {rest[match.other]: originals[match.one] for match in matches}
    return [(path, pairs[path]) for path in others if path in pairs]
