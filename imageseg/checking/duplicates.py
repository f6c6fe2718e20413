"""Copies: pictures that two splits share, byte for byte or to the eye."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from imageseg.checking.file_facts import PictureFacts
from imageseg.checking.perceptual_hash import same_pictures

_USUAL = ("train", "val", "test")


class Copy(NamedTuple):
    """A picture of one split that another has too."""

    path: Path
    split: str
    twin: Path
    twin_split: str
    same_bytes: bool


def copies_across(splits: Mapping[str, Mapping[Path, PictureFacts]]) -> list[Copy]:
    """For each picture the one in an earlier split that shows the same.

    Splits that are made of others, such as VOC's trainval, are not held against these. Pictures without a fingerprint, too
    small or too blank to be told from others, are left out.
    """
    found: dict[frozenset[Path], Copy] = {}
    for (one, first), (other, second) in combinations(splits.items(), 2):
        by_design = not {one, other} <= set(_USUAL) and (first.keys() <= second.keys() or second.keys() <= first.keys())
        if by_design:
            continue
        for path, twin in _between(first, second):
            same_bytes = first[twin].digest == second[path].digest
            found.setdefault(frozenset((path, twin)), Copy(path, other, twin, one, same_bytes))
    return list(found.values())


def _between(first: Mapping[Path, PictureFacts], second: Mapping[Path, PictureFacts]) -> list[tuple[Path, Path]]:
    """(picture of the second, its twin in the first)."""
    ones = {path: facts.fingerprint for path, facts in first.items() if facts.fingerprint}
    others = {path: facts.fingerprint for path, facts in second.items() if facts.fingerprint}
    by_digest = {first[path].digest: path for path in reversed(list(ones))}
    exact = {path: by_digest[second[path].digest] for path in others if second[path].digest in by_digest}
    rest = [path for path in others if path not in exact]
    left = list(ones)
    near = same_pictures(list(ones.values()), [others[path] for path in rest])
    pairs = exact | {rest[match.other]: left[match.one] for match in near}
    return [(path, pairs[path]) for path in others if path in pairs]
