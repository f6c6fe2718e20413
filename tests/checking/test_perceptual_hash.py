"""Fingerprints: copies are found, other pictures are not; measured on real frames where they are at hand."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from planting import photo

from imageseg.checking.duplicates import copies_across
from imageseg.checking.file_facts import picture_facts
from imageseg.checking.perceptual_hash import fingerprint, same_pictures

COPIES: dict[str, Callable[[Image.Image], tuple[Image.Image, str, int]]] = {
    "quality 50": lambda picture: (picture, "JPEG", 50),
    "quality 10": lambda picture: (picture, "JPEG", 10),
    "as PNG": lambda picture: (picture, "PNG", 0),
    "half": lambda picture: (picture.resize((picture.width // 2, picture.height // 2)), "JPEG", 90),
    "a third": lambda picture: (picture.resize((picture.width // 3, picture.height // 3)), "JPEG", 75),
    "double": lambda picture: (picture.resize((picture.width * 2, picture.height * 2)), "JPEG", 90),
    "brighter": lambda picture: (ImageEnhance.Brightness(picture).enhance(1.12), "JPEG", 90),
    "darker": lambda picture: (ImageEnhance.Brightness(picture).enhance(0.8), "JPEG", 90),
    "more contrast": lambda picture: (ImageEnhance.Contrast(picture).enhance(1.15), "JPEG", 90),
    "grey": lambda picture: (picture.convert("L"), "JPEG", 90),
}


def save(path: Path, copy: tuple[Image.Image, str, int]) -> Path:
    picture, format, quality = copy
    buffer = io.BytesIO()
    picture.save(buffer, format, **({"quality": quality} if quality else {}))
    path.write_bytes(buffer.getvalue())
    return path


def facts(*paths: Path) -> dict[Path, object]:
    return {path: picture_facts(path) for path in paths}


def test_tiny_and_blank_pictures_have_none() -> None:
    assert fingerprint(Image.new("L", (31, 31))) is None
    assert fingerprint(Image.new("L", (640, 480), 77)) is None
    assert fingerprint(Image.fromarray(photo(1)[..., 0])) is not None


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies_of_a_soft_picture_are_found(copy: Callable[..., tuple[Image.Image, str, int]], tmp_path: Path) -> None:
    pictures = [Image.fromarray(photo(seed, (120, 160))) for seed in range(20)]
    train = {}
    for index, picture in enumerate(pictures):
        train |= facts(save(tmp_path / f"train_{index}.jpg", (picture, "JPEG", 95)))
    val = facts(save(tmp_path / "val.jpg", copy(pictures[7])))
    (found,) = copies_across({"train": train, "val": val})  # type: ignore[dict-item]
    assert (found.path.name, found.twin.name) == ("val.jpg", "train_7.jpg")
    assert not found.same_bytes


def test_other_pictures_are_no_copies() -> None:
    prints = [fingerprint(Image.fromarray(photo(seed, (120, 160))).convert("L")) for seed in range(200)]
    known = [each for each in prints if each]
    assert len(known) == 200
    assert list(same_pictures(known[:100], known[100:])) == []
    assert [(match.one, match.other) for match in same_pictures(known, known[50:60])] == [
        (50 + k, k) for k in range(10)
    ]


def test_nothing_against_nothing() -> None:
    assert list(same_pictures([], [])) == []


def test_the_hash_is_the_sign_of_low_frequencies() -> None:
    """A second implementation: the cosine transform as a matrix."""
    small = np.asarray(Image.fromarray(photo(3)).convert("L").resize((32, 32), Image.Resampling.BOX), float)
    n = np.arange(32)
    matrix = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / 64)
    low = (matrix @ small @ matrix.T)[:8, :8]
    low[0] /= np.sqrt(2)
    low[:, 0] /= np.sqrt(2)
    expected = int("".join("1" if value > np.median(low) else "0" for value in low.ravel()), 2)
    found = fingerprint(Image.fromarray(photo(3)).convert("L"))
    assert found is not None
    assert found.bits == expected


def test_an_upright_copy_of_a_turned_picture_is_found(tmp_path: Path) -> None:
    picture = Image.fromarray(photo(5, (120, 160)))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    picture.save(tmp_path / "upright.jpg")
    (found,) = copies_across({"train": facts(tmp_path / "turned.jpg"), "val": facts(tmp_path / "upright.jpg")})  # type: ignore[dict-item]
    assert found.twin.name == "turned.jpg"


def test_splits_made_of_others_are_not_held_against_them(tmp_path: Path) -> None:
    one, two, three = (save(tmp_path / f"{seed}.jpg", (Image.fromarray(photo(seed)), "JPEG", 95)) for seed in range(3))
    splits = {"train": facts(one), "val": facts(two), "trainval": facts(one, two), "test": facts(three)}
    assert copies_across(splits) == []  # type: ignore[arg-type]
    (leak,) = copies_across({"train": facts(one, two), "val": facts(two)})  # type: ignore[arg-type, dict-item]
    assert leak.same_bytes


@pytest.mark.samples
def test_frames_of_camvid_are_no_copies_but_copies_of_them_are(samples: Path, tmp_path: Path) -> None:
    train = facts(*sorted((samples / "camvid/images/train").glob("*.jpg")))
    frames = sorted((samples / "camvid/images/val").glob("*.jpg"))
    val = facts(*frames)
    assert copies_across({"train": train, "val": val}) == []  # type: ignore[dict-item]
    for name, copy in COPIES.items():
        for frame in frames[::25]:
            with Image.open(frame) as picture:
                copied = facts(save(tmp_path / "copy.jpg", copy(picture)))
            (found,) = copies_across({"val": val, "train": copied})  # type: ignore[dict-item]
            assert found.twin == frame, name


@pytest.mark.samples
def test_frames_of_bdd_are_no_copies(samples: Path) -> None:
    base = samples / "bdd100k_sample/images/10k"
    splits = {split: facts(*sorted((base / split).glob("*.jpg"))) for split in ("train", "val")}
    assert copies_across(splits) == []  # type: ignore[arg-type]
