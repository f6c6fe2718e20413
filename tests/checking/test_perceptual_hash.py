"""Perceptual hash: copies are found, other images are not; also on real frames if the samples are available."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from injected_faults import photo
from PIL import Image, ImageEnhance

from imageseg.checking.duplicates import duplicates_across
from imageseg.checking.file_facts import image_facts
from imageseg.checking.perceptual_hash import near_duplicates, perceptual_hash

COPIES: dict[str, Callable[[Image.Image], tuple[Image.Image, str, int]]] = {
    "quality 50": lambda image: (image, "JPEG", 50),
    "quality 10": lambda image: (image, "JPEG", 10),
    "as PNG": lambda image: (image, "PNG", 0),
    "half": lambda image: (image.resize((image.width // 2, image.height // 2)), "JPEG", 90),
    "a third": lambda image: (image.resize((image.width // 3, image.height // 3)), "JPEG", 75),
    "double": lambda image: (image.resize((image.width * 2, image.height * 2)), "JPEG", 90),
    "brighter": lambda image: (ImageEnhance.Brightness(image).enhance(1.12), "JPEG", 90),
    "darker": lambda image: (ImageEnhance.Brightness(image).enhance(0.8), "JPEG", 90),
    "more contrast": lambda image: (ImageEnhance.Contrast(image).enhance(1.15), "JPEG", 90),
    "gray": lambda image: (image.convert("L"), "JPEG", 90),
}


def save(path: Path, copy: tuple[Image.Image, str, int]) -> Path:
    image, format, quality = copy
    buffer = io.BytesIO()
    image.save(buffer, format, **({"quality": quality} if quality else {}))
    path.write_bytes(buffer.getvalue())
    return path


def facts(*paths: Path) -> dict[Path, object]:
    return {path: image_facts(path) for path in paths}


def test_tiny_and_blank_images_have_no_hash() -> None:
    assert perceptual_hash(Image.new("L", (31, 31))) is None
    assert perceptual_hash(Image.new("L", (640, 480), 77)) is None
    assert perceptual_hash(Image.fromarray(photo(1)[..., 0])) is not None


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies_of_an_image_are_found(copy: Callable[..., tuple[Image.Image, str, int]], tmp_path: Path) -> None:
    images = [Image.fromarray(photo(seed, (120, 160))) for seed in range(20)]
    train = {}
    for index, image in enumerate(images):
        train |= facts(save(tmp_path / f"train_{index}.jpg", (image, "JPEG", 95)))
    val = facts(save(tmp_path / "val.jpg", copy(images[7])))
    (found,) = duplicates_across({"train": train, "val": val})  # type: ignore[dict-item]
    assert (found.path.name, found.original.name) == ("val.jpg", "train_7.jpg")
    assert not found.same_bytes


def test_different_images_are_no_duplicates() -> None:
    hashes = [perceptual_hash(Image.fromarray(photo(seed, (120, 160))).convert("L")) for seed in range(200)]
    known = [each for each in hashes if each]
    assert len(known) == 200
    assert list(near_duplicates(known[:100], known[100:])) == []
    assert [(match.one, match.other) for match in near_duplicates(known, known[50:60])] == [
        (50 + k, k) for k in range(10)
    ]


def test_empty_sequences_have_no_duplicates() -> None:
    assert list(near_duplicates([], [])) == []


def test_the_hash_is_the_sign_of_low_frequencies() -> None:
    """A second implementation: the cosine transform as a matrix."""
    small = np.asarray(Image.fromarray(photo(3)).convert("L").resize((32, 32), Image.Resampling.BOX), float)
    n = np.arange(32)
    matrix = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / 64)
    low = (matrix @ small @ matrix.T)[:8, :8]
    low[0] /= np.sqrt(2)
    low[:, 0] /= np.sqrt(2)
    expected = int("".join("1" if value > np.median(low) else "0" for value in low.ravel()), 2)
    found = perceptual_hash(Image.fromarray(photo(3)).convert("L"))
    assert found is not None
    assert found.bits == expected


def test_an_upright_copy_of_a_rotated_image_is_found(tmp_path: Path) -> None:
    image = Image.fromarray(photo(5, (120, 160)))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.rotate(90, expand=True).save(tmp_path / "rotated.jpg", exif=exif)
    image.save(tmp_path / "upright.jpg")
    (found,) = duplicates_across({"train": facts(tmp_path / "rotated.jpg"), "val": facts(tmp_path / "upright.jpg")})  # type: ignore[dict-item]
    assert found.original.name == "rotated.jpg"


def test_splits_made_of_others_are_not_compared_with_them(tmp_path: Path) -> None:
    one, two, three = (save(tmp_path / f"{seed}.jpg", (Image.fromarray(photo(seed)), "JPEG", 95)) for seed in range(3))
    splits = {"train": facts(one), "val": facts(two), "trainval": facts(one, two), "test": facts(three)}
    assert duplicates_across(splits) == []  # type: ignore[arg-type]
    (leak,) = duplicates_across({"train": facts(one, two), "val": facts(two)})  # type: ignore[arg-type, dict-item]
    assert leak.same_bytes


@pytest.mark.samples
def test_frames_of_camvid_are_no_duplicates_but_copies_of_them_are(samples: Path, tmp_path: Path) -> None:
    train = facts(*sorted((samples / "camvid/images/train").glob("*.jpg")))
    frames = sorted((samples / "camvid/images/val").glob("*.jpg"))
    val = facts(*frames)
    assert duplicates_across({"train": train, "val": val}) == []  # type: ignore[dict-item]
    for name, copy in COPIES.items():
        for frame in frames[::25]:
            with Image.open(frame) as image:
                copied = facts(save(tmp_path / "copy.jpg", copy(image)))
            (found,) = duplicates_across({"val": val, "train": copied})  # type: ignore[dict-item]
            assert found.original == frame, name


@pytest.mark.samples
def test_frames_of_bdd_are_no_duplicates(samples: Path) -> None:
    base = samples / "bdd100k_sample/images/10k"
    splits = {split: facts(*sorted((base / split).glob("*.jpg"))) for split in ("train", "val")}
    assert duplicates_across(splits) == []  # type: ignore[arg-type]
