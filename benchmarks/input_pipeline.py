"""From files to training crops: imageseg compared with a standard Albumentations or torchvision pipeline.

``python benchmarks/input_pipeline.py`` prints milliseconds per crop: the median of several runs over the same samples, both
sides alternately, on one thread. The reference decodes the complete image, then scales and crops it; it ends with a normalized
float32 tensor. Ours ends with uint8, because the network normalizes. The images are those in the folder that the environment
variable IMAGESEG_SAMPLES names, or synthetic ones of the same size.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from measuring import Row, in_turn, report
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imageseg.datasets.pairs import Pair
from imageseg.datasets.samples import PairSamples
from imageseg.datasets.toyscenes.painter import paint_scene
from imageseg.images import IMAGE_SUFFIXES, read_mask, write_image
from imageseg.labels import Label, LabelSpace
from imageseg.pipeline.augment import PRESETS, Augmentation
from imageseg.pipeline.crop import Box
from imageseg.pipeline.epoch_order import Draw
from imageseg.pipeline.loader import Loading, training_loader
from imageseg.pipeline.store.build import build_store
from imageseg.pipeline.store.dataset import PackedSamples
from imageseg.pipeline.stream import AugmentedSamples, OpenableSamples

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LABELS = LabelSpace([Label(f"class {value}", (value, value, value), (value,)) for value in range(64)])
GROUPS = ("png", "jpeg", "camvid", "size", "steps", "workers")


class Sizes(NamedTuple):
    """Sizes of images and crops, (height, width) each."""

    image: tuple[int, int]
    crop: tuple[int, int]


PNG, JPEG, CAMVID = Sizes((1024, 2048), (512, 1024)), Sizes((720, 1280), (512, 512)), Sizes((360, 480), (256, 256))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side (default: 5)")
    parser.add_argument("--draws", type=int, default=24, help="number of crops per run (default: 24)")
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=GROUPS, help="groups of cases to run (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        groups = {
            "png": lambda: png(Path(folder), given.draws, given.repeats),
            "jpeg": lambda: jpeg(Path(folder), given.draws, given.repeats),
            "camvid": lambda: camvid(Path(folder), given.draws, given.repeats),
            "size": lambda: growing(given.draws, given.repeats),
            "steps": lambda: steps(given.draws, given.repeats),
            "workers": lambda: workers(Path(folder), given.repeats),
        }
        for name in given.only:
            for row in groups[name]():
                rows.append(row)
                if not given.json:
                    report([row], as_json=False, headed=len(rows) == 1)
    if given.json:
        report(rows, as_json=True)


def png(folder: Path, draws: int, repeats: int) -> Iterator[Row]:
    """PNG images of Cityscapes, where decoding dominates."""
    samples = unpacked(sample_pairs(folder, "cityscapes", ".png", PNG.image))
    reference = AlbumentationsPipeline(samples, PNG.crop)
    name = "PNG 2048 x 1024 to 1024 x 512"
    yield compared(f"{name}, packed", crops(packed(folder, samples), PNG.crop, draws), over(reference, draws), repeats)
    yield compared(f"{name}, from files", crops(samples, PNG.crop, draws), over(reference, draws), repeats)
    yield compared(
        f"{name}, without decoding",
        crops(decoded(samples), PNG.crop, draws),
        over(AlbumentationsPipeline(samples, PNG.crop, decode=False), draws),
        repeats,
    )


def jpeg(folder: Path, draws: int, repeats: int) -> Iterator[Row]:
    """JPEG images of BDD100K, compared with Albumentations and with torchvision's segmentation reference."""
    samples = unpacked(sample_pairs(folder, "bdd100k_sample", ".jpg", JPEG.image))
    ours, reference = crops(samples, JPEG.crop, draws), AlbumentationsPipeline(samples, JPEG.crop)
    name = "JPEG 1280 x 720 to 512 x 512"
    yield compared(f"{name}, from files", ours, over(reference, draws), repeats)
    yield compared(f"{name}, reading complete files only", reading(samples, draws), reading(reference, draws), repeats)
    yield compared(
        f"{name}, from files, torchvision v2", ours, over(TorchvisionPipeline(samples, JPEG.crop), draws), repeats
    )
    yield compared(
        f"{name}, packed",
        crops(packed(folder, samples), JPEG.crop, draws),
        over(reference, draws),
        repeats,
    )


def camvid(folder: Path, draws: int, repeats: int) -> Iterator[Row]:
    """Small JPEG images of CamVid."""
    samples = unpacked(sample_pairs(folder, "camvid", ".jpg", CAMVID.image))
    reference = AlbumentationsPipeline(samples, CAMVID.crop)
    name = "JPEG 480 x 360 to 256 x 256"
    yield compared(f"{name}, from files", crops(samples, CAMVID.crop, draws), over(reference, draws), repeats)
    yield compared(f"{name}, reading complete files only", reading(samples, draws), reading(reference, draws), repeats)
    yield compared(
        f"{name}, packed", crops(packed(folder, samples), CAMVID.crop, draws), over(reference, draws), repeats
    )


def growing(draws: int, repeats: int) -> Iterator[Row]:
    """The same crop from images of increasing size that are already decoded on both sides."""
    for megapixels, size in ((1, (768, 1365)), (2, (1024, 2048)), (8, (2048, 4096)), (32, (4096, 8192))):
        pair = painted(size)
        ours = crops(_InMemory([pair]), (512, 512), draws)
        reference = over(
            AlbumentationsPipeline(_InMemory([pair]), (512, 512), decode=False), max(2, draws // megapixels)
        )
        one, other = in_turn(ours, reference, repeats)
        name = f"512 x 512 from {megapixels} Mpx, without decoding"
        yield Row(name, one / draws, other / max(2, draws // megapixels), "ms")


def steps(draws: int, repeats: int) -> Iterator[Row]:
    """Presets and rotation compared with the plain crop ("theirs"), and color jitter compared with Albumentations."""
    samples, crop = _InMemory([painted(PNG.image)]), (512, 512)
    plain = crops(samples, crop, draws)
    options: dict[str, dict[str, Any]] = {f"augment {preset}": {"augment": preset} for preset in PRESETS}
    options["rotate 10"] = {"rotate": 10.0}
    options["cat_max_ratio 0.75"] = {"cat_max_ratio": 0.75}
    for name, arguments in options.items():
        yield compared(f"512 x 512, {name}, against none", crops(samples, crop, draws, **arguments), plain, repeats)
    jitter = A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.7, 1.3), hue=(-0.03, 0.03), p=0.8)
    without = AlbumentationsPipeline(samples, crop, steps=[A.RandomCrop(*crop), jitter], decode=False)
    yield compared(
        "512 x 512, color jitter",
        crops(samples, crop, draws, scale=(1.0, 1.0), flip=0.0),
        over(without, draws),
        repeats,
    )


def workers(folder: Path, repeats: int) -> Iterator[Row]:
    """Batches of 4 through the data loaders, with 0 to 2 worker processes."""
    samples = unpacked(sample_pairs(folder, "cityscapes", ".png", PNG.image))
    augmentation = Augmentation(crop_size=PNG.crop)
    batches = 6
    for count in range(3):
        for name, regions in (("packed", packed(folder, samples)), ("from files", samples)):
            loading = Loading(batch_size=4, num_workers=count)
            ours = iter(training_loader(regions, augmentation, loading=loading, seed=0))
            reference = DataLoader(AlbumentationsPipeline(samples, PNG.crop), 4, sampler=_Endless(), num_workers=count)
            theirs = iter(reference)
            # Enough batches that those prepared in advance by workers hardly matter.
            one, other = in_turn(
                lambda ours=ours: list(islice(ours, batches)),
                lambda theirs=theirs: list(islice(theirs, batches)),
                repeats,
            )
            yield Row(f"{name}, {count} workers, through the loader", one / batches / 4, other / batches / 4, "ms")
            del ours, theirs


# Ours.


def unpacked(pairs: list[Pair]) -> PairSamples:
    """Return samples that are read from the image files."""
    return PairSamples(pairs, LABELS)


def packed(folder: Path, samples: PairSamples) -> OpenableSamples:
    """Return the same samples from a packed store, which holds them decoded in memory-mapped files."""
    store = folder / "store"
    build_store(store, samples.pairs, samples.labels, samples.read_stored, workers=1)
    return PackedSamples(store, samples)


def decoded(samples: PairSamples) -> OpenableSamples:
    """Return the same samples, decoded in memory."""
    return _InMemory([samples.read(index) for index in range(len(samples))])


def crops(samples: OpenableSamples, crop: tuple[int, int], draws: int, **arguments: Any) -> Callable[[], Any]:
    """Return a function that makes ``draws`` crops."""
    augmented = AugmentedSamples(samples, Augmentation(crop_size=crop, **arguments), seed=0)
    return lambda: [augmented[Draw(index // len(samples), index % len(samples))] for index in range(draws)]


class WholePair:
    """A decoded pair that is cropped like those that are read from files."""

    def __init__(self, image: np.ndarray, mask: np.ndarray) -> None:
        self._image, self._mask = image, mask
        self.size = mask.shape

    def mask(self, box: Box) -> np.ndarray:
        return self._mask[box.top : box.bottom, box.left : box.right]

    def image(self, box: Box, *, shrink: float = 1.0) -> np.ndarray:
        return self._image[box.top : box.bottom, box.left : box.right]


class _InMemory:
    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.pairs[index]

    def open(self, index: int) -> WholePair:
        return WholePair(*self.pairs[index])


# Theirs.


class AlbumentationsPipeline(Dataset[tuple[Tensor, Tensor]]):
    """Files decoded by OpenCV and processed by Albumentations, as in its segmentation tutorials."""

    def __init__(
        self, samples: Any, crop: tuple[int, int], *, decode: bool = True, steps: list[Any] | None = None
    ) -> None:
        self.files = samples.pairs if decode else None
        self.arrays = None if decode else [samples.read(index) for index in range(len(samples))]
        self.transform = A.Compose(
            steps
            or [
                A.RandomScale(scale_limit=(-0.5, 1.0), p=1),
                A.PadIfNeeded(*crop, border_mode=cv2.BORDER_CONSTANT, fill_mask=255),
                A.RandomCrop(*crop),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03, p=0.8),
                A.Normalize(MEAN, DEVIATION),
                ToTensorV2(),
            ],
            seed=0,
        )

    def __len__(self) -> int:
        return len(self.files or self.arrays or [])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.read(index % len(self))
        changed = self.transform(image=image, mask=mask)
        return changed["image"], changed["mask"]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.files is None:
            assert self.arrays is not None
            return self.arrays[index]
        pair = self.files[index]
        image = cv2.cvtColor(cv2.imread(str(pair.image)), cv2.COLOR_BGR2RGB)
        return image, cv2.imread(str(pair.mask), cv2.IMREAD_UNCHANGED)


class TorchvisionPipeline(Dataset[tuple[Tensor, Tensor]]):
    """Files decoded by Pillow and processed by torchvision, as in its references/segmentation/presets.py on tensors."""

    def __init__(self, samples: PairSamples, crop: tuple[int, int]) -> None:
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        self.files = samples.pairs
        height = PNG.image[0] if crop == PNG.crop else JPEG.image[0]
        self.wrap = tv_tensors
        self.transform = v2.Compose(
            [
                v2.RandomResize(height // 2, height * 2, antialias=True),
                v2.RandomCrop(crop, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255}),
                v2.RandomHorizontalFlip(0.5),
                v2.RandomApply([v2.ColorJitter(0.3, 0.3, 0.3, 0.03)], p=0.8),
                v2.ToDtype({tv_tensors.Image: torch.float, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
                v2.Normalize(MEAN, DEVIATION),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from PIL import Image
        from torchvision.transforms.v2.functional import pil_to_tensor

        pair = self.files[index % len(self)]
        with Image.open(pair.image) as opened, Image.open(pair.mask) as stored:
            image, mask = pil_to_tensor(opened.convert("RGB")), pil_to_tensor(stored)[0]
        return self.transform(self.wrap.Image(image), self.wrap.Mask(mask))


class _Endless(torch.utils.data.Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        index = 0
        while True:
            yield index
            index += 1


def over(samples: Dataset[tuple[Tensor, Tensor]], draws: int) -> Callable[[], Any]:
    """Return a function that makes ``draws`` crops."""
    return lambda: [samples[index] for index in range(draws)]


def reading(samples: Any, draws: int) -> Callable[[], Any]:
    """Return a function that reads ``draws`` images and masks and does nothing else."""
    return lambda: [samples.read(index % len(samples)) for index in range(draws)]


def compared(name: str, ours: Callable[[], list[Any]], theirs: Callable[[], list[Any]], repeats: int) -> Row:
    """Return both sides' milliseconds per crop."""
    draws = len(ours())
    one, other = in_turn(ours, theirs, repeats)
    return Row(name, one / draws, other / draws, "ms")


# Images.


def sample_pairs(folder: Path, dataset: str, suffix: str, size: tuple[int, int], most: int = 4) -> list[Pair]:
    """Copy some images and masks of a dataset, with masks relabeled to small class indices; synthetic ones if there are none."""
    root = Path(os.environ.get("IMAGESEG_SAMPLES", "")) / dataset
    files = (
        sorted(path for path in root.rglob("*") if path.suffix in IMAGE_SUFFIXES) if root.name and root.is_dir() else []
    )
    masks = {_stem(path): path for path in files if _is_mask(path)}
    found = [path for path in files if not _is_mask(path) and path.suffix == suffix and _stem(path) in masks][:most]
    pairs = []
    (folder / dataset).mkdir(exist_ok=True)
    for path in found:
        stored = read_mask(masks[_stem(path)])
        mask = np.unique(stored.reshape(stored.shape[0] * stored.shape[1], -1), axis=0, return_inverse=True)[1]
        pairs.append((path.name, path.read_bytes(), mask.reshape(stored.shape[:2]).astype(np.uint8)))
    written = []
    for name, content, mask in pairs or [("painted" + suffix, None, None)]:
        pair = Pair(folder / dataset / name, folder / dataset / f"{Path(name).stem}_mask.png", Path(name).stem)
        if content is None:
            image, mask = painted(size)
            write_image(pair.image, image)
        else:
            pair.image.write_bytes(content)
        Image.fromarray(mask).save(pair.mask)  # with Pillow's defaults, as these datasets were written
        written.append(pair)
    return written


def painted(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a synthetic street of this size with photo-like noise, and its mask."""
    image, mask = paint_scene(np.random.default_rng(0), (min(256, size[0]), min(512, size[1])))
    larger = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 4, (*size, 1)).astype(np.float32)
    return (larger + noise).clip(0, 255).astype(np.uint8), cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


def _is_mask(path: Path) -> bool:
    return any(word in path.as_posix() for word in ("/masks/", "/labels/", "labelIds"))


def _stem(path: Path) -> str:
    for ending in ("_leftImg8bit", "_gtFine_labelIds", "_train_id"):
        if path.stem.endswith(ending):
            return path.stem.removesuffix(ending)
    return path.stem


if __name__ == "__main__":
    main()
