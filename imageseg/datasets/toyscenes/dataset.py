"""ToyScenes: small synthetic street scenes, for trying imageseg without a dataset."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.folder import Folder
from imageseg.datasets.pairs import Listing
from imageseg.datasets.toyscenes.painter import LABELS, SMALLEST, paint_scene
from imageseg.errors import InputError, command
from imageseg.images import write_image, write_mask
from imageseg.parallel import Progress
from imageseg.recipe import read_yaml

_SPLITS = ("train", "val", "test")


class ToyScenes(SegmentationDataset):
    """ToyScenes: synthetic street scenes with eight classes and void, painted once in the layout of ``Folder``.

    The same seed and size give the same bytes; image i of a split does not depend on the number of images.

    Args:
        root: Folder of the images; created by ``imageseg prepare ToyScenes``.
        size: Height and width of the images in pixels.
        counts: Number of images in train, val and test.
        seed: Random seed of the scenes.
    """

    labels = LABELS
    scored_split = "test"

    def __init__(
        self,
        root: str = "data/ToyScenes",
        *,
        size: tuple[int, int] = (128, 192),
        counts: tuple[int, int, int] = (400, 50, 50),
        seed: int = 0,
    ) -> None:
        self.root = Path(root)
        self.size = size
        self.counts = counts
        self.seed = seed
        if min(size) < SMALLEST or min(counts) < 1 or seed < 0:
            raise InputError(
                f"ToyScenes needs a size of at least {SMALLEST} x {SMALLEST}, one image per split and a seed of 0 or more, "
                f"found {size}, {counts} and {seed}"
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """The three splits, once painted."""
        return self._folder().splits

    def listing(self, split: str) -> Listing:
        """Pair images and masks of the same name, sorted by name."""
        return self._folder().listing(split)

    def prepare(
        self,
        *,
        splits: Iterable[str] | None = None,
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Paint the images unless they exist.

        Raises:
            InputError: The folder contains other files, or scenes with other arguments.
        """
        wanted = {"size": list(self.size), "counts": list(self.counts), "seed": self.seed}
        if self._is_painted(wanted):
            return
        if self.root.exists() and any(self.root.iterdir()) and not self._is_painted(wanted):
            raise InputError(f"{self.root}: is not empty and does not contain ToyScenes; pass another --data.root")
        self.root.parent.mkdir(parents=True, exist_ok=True)
        # Painted in a temporary folder and renamed when complete, so that an interrupted run leaves nothing incomplete.
        unfinished = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self.root.parent))
        try:
            scenes = unfinished / "scenes"  # has the user's default permissions, unlike a temporary folder
            scenes.mkdir()
            self._paint(scenes)
            (scenes / "toyscenes.yaml").write_text(yaml.safe_dump(wanted), encoding="utf-8")
            if self.root.exists():
                self.root.rmdir()
            scenes.rename(self.root)
        except OSError:
            if not self._is_painted(wanted):  # another process may have been faster
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _folder(self) -> Folder:
        if not self.root.exists():
            raise InputError(
                f"ToyScenes: {self.root} does not exist; {command('prepare', 'ToyScenes', '--root', self.root)} generates it"
            )
        return Folder(str(self.root))

    def _is_painted(self, wanted: dict[str, Any]) -> bool:
        record = self.root / "toyscenes.yaml"
        if record.exists() and (found := read_yaml(record)) != wanted:
            raise InputError(
                f"{self.root}: contains ToyScenes with {found}, but {wanted} was requested; delete it or pass "
                "another --data.root"
            )
        return record.exists()

    def _paint(self, folder: Path) -> None:
        for split_index, (split, count) in enumerate(zip(_SPLITS, self.counts, strict=True)):
            for index in range(count):
                generator = np.random.Generator(
                    np.random.Philox(np.random.SeedSequence((self.seed, split_index, index)))
                )
                image, mask = paint_scene(generator, self.size)
                write_image(folder / "images" / split / f"{split}_{index:04d}.png", image)
                write_mask(folder / "masks" / split / f"{split}_{index:04d}.png", mask, LABELS.palette)
        (folder / "labels.yaml").write_text(yaml.safe_dump(LABELS.to_dict(), sort_keys=False), encoding="utf-8")
