"""Small random label maps with everything that evaluators treat differently: absent classes, void predictions, missing files.

Each writer fills FOLDER/truth and FOLDER/predictions. `RandomState` is used because NumPy guarantees that its numbers never
change, so that the recorded scores of the official evaluators stay comparable.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image


def write_cityscapes(folder: Path, seed: int, number: int) -> None:
    """Label ids 0 to 33 and instance maps; some classes are absent, predictions hold void ids."""
    rng = np.random.RandomState([seed, number])
    ids = rng.choice(34, rng.randint(3, 20), replace=False)
    for index in range(rng.randint(1, 4)):
        size = tuple(rng.randint(1, 40, 2))
        true = rng.choice(ids, size)
        predicted = np.where(rng.random_sample(size) < rng.random_sample(), true, rng.choice(34, size))
        single = (true >= 24) & (rng.random_sample(size) < 0.9)
        instances = np.where(single, 1000 * true + rng.randint(0, 4, size), true)
        frame = f"city_000000_{index:06d}"
        save(folder / "truth" / f"{frame}_gtFine_labelIds.png", true.astype(np.uint8))
        save(folder / "truth" / f"{frame}_gtFine_instanceIds.png", instances.astype(np.uint16))
        save(folder / "predictions" / f"{frame}_pred.png", predicted.astype(np.uint8))


def write_bdd100k(folder: Path, seed: int, number: int) -> None:
    """Train ids 0 to 18 and 255; in every third set the prediction of the last image is missing."""
    rng = np.random.RandomState([seed, number])
    ids = np.append(rng.choice(19, rng.randint(2, 15), replace=False), 255)
    one_is_missing = number % 3 == 2
    images = rng.randint(2 if one_is_missing else 1, 4)
    for index in range(images):
        size = tuple(rng.randint(1, 40, 2))
        true = rng.choice(ids, size)
        true[0, 0] = ids[0]  # the toolkit fails on sets without any valid pixel
        predicted = np.where(rng.random_sample(size) < rng.random_sample(), true, rng.choice([*range(19), 255], size))
        save(folder / "truth" / f"{index}.png", true.astype(np.uint8))
        if not one_is_missing or index < images - 1:
            save(folder / "predictions" / f"{index}.png", predicted.astype(np.uint8))


def write_scalabel(folder: Path, seed: int, number: int) -> None:
    """Train ids as above; all images are 8 x 8, because scalabel has one image size per set."""
    rng = np.random.RandomState([seed, number])
    ids = rng.choice(19, rng.randint(2, 15), replace=False)
    for index in range(rng.randint(1, 4)):
        true = np.where(rng.random_sample((8, 8)) < 0.1, 255, rng.choice(ids, (8, 8)))
        true[0, 0] = ids[0]
        correct = rng.random_sample((8, 8)) < rng.random_sample()
        predicted = np.where(correct, true, rng.choice([*range(19), 255], (8, 8)))
        save(folder / "truth" / f"{index}.png", true.astype(np.uint8))
        save(folder / "predictions" / f"{index}.png", predicted.astype(np.uint8))


def write_voc(folder: Path, seed: int, number: int) -> None:
    """All class indices 0 to 20 and a border of 255; VOC's evaluator has no mean if a class is absent."""
    rng = np.random.RandomState([seed, number])
    for index in range(rng.randint(1, 4)):
        size = (rng.randint(6, 30), rng.randint(6, 30))
        true = np.where(rng.random_sample(size) < 0.1, 255, rng.randint(0, 21, size))
        true.ravel()[:21] = range(21)
        predicted = np.where(rng.random_sample(size) < rng.random_sample(), true, rng.randint(0, 21, size))
        save(folder / "truth" / f"2008_{index:06d}.png", true.astype(np.uint8))
        save(
            folder / "predictions" / f"2008_{index:06d}.png", np.where(predicted == 255, 0, predicted).astype(np.uint8)
        )


WRITERS = {
    "cityscapes": write_cityscapes,
    "bdd100k": write_bdd100k,
    "scalabel": write_scalabel,
    "voc": write_voc,
}


def digest(folder: Path) -> str:
    """SHA-256 over the names and pixels of all label maps below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.png")):
        values = np.asarray(Image.open(path)).astype("<u2")
        found.update(f"{path.relative_to(folder).as_posix()} {values.shape}".encode())
        found.update(values.tobytes())
    return found.hexdigest()


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
