"""Steps by Albumentations' names: masks stay masks, the seed decides, and what cannot be right is refused in one line."""

from __future__ import annotations

import contextlib
import inspect

import albumentations as A
import numpy as np
import numpy.typing as npt
import pytest
from whole_pair import WholePair

from imageseg.errors import InputError
from imageseg.pipeline.augment import PRESETS, Augmentation

Array = npt.NDArray[np.uint8]


def _blocks(height: int, width: int, *, seed: int = 0, classes: int = 5, block: int = 8) -> Array:
    """A mask of square blocks; class 0 does not occur, so that a zero can only be a fault."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, classes + 1, (-(-height // block), -(-width // block)), dtype=np.uint8)
    return np.kron(coarse, np.ones((block, block), np.uint8))[:height, :width]


def _shown(mask: Array) -> Array:
    """An image that shows its mask: class c has the gray value 40 c."""
    return np.repeat((40 * mask.astype(int) % 256).astype(np.uint8)[:, :, None], 3, axis=2)


def _steps_that_keep_masks() -> list[str]:
    """Every transform of Albumentations that the list of steps takes with its own defaults."""
    found = []
    for name in sorted(vars(A)):
        if name not in SLOW and inspect.isclass(getattr(A, name)):
            with contextlib.suppress(InputError):
                Augmentation(augment=[name], crop_size=(40, 40))
                found.append(name)
    return found


SLOW = ("Superpixels", "RandomGravel")


def test_every_step_keeps_masks_and_sizes_and_is_decided_by_the_seed() -> None:
    names = _steps_that_keep_masks()
    assert len(names) > 60
    assert {"HorizontalFlip", "Affine", "ElasticTransform", "Perspective", "GridDistortion", "CLAHE", "D4"} <= set(
        names
    )
    mask = _blocks(48, 56)
    pair = WholePair(_shown(mask), mask)
    for name in names:
        augment = Augmentation(augment=[{name: {"p": 1.0}}], crop_size=(40, 40), scale=(1.0, 1.0))
        for seed in range(2):
            image, found = augment(pair, seed=seed)
            assert image.shape == (40, 40, 3), name
            assert image.dtype == found.dtype == np.uint8, name
            assert set(np.unique(found)) <= {*np.unique(mask), 255}, name
            assert image.flags.c_contiguous, name
            assert found.flags.c_contiguous, name
            for once, again in zip((image, found), augment(pair, seed=seed), strict=True):
                assert np.array_equal(once, again), name


def test_what_a_geometric_step_leaves_open_is_ignored() -> None:
    mask = np.zeros((40, 40), np.uint8)
    pair = WholePair(np.full((40, 40, 3), 90, np.uint8), mask)
    steps = [{"Affine": {"rotate": [30, 30], "p": 1.0}}]
    image, found = Augmentation(augment=steps, crop_size=(40, 40), scale=(1.0, 1.0), color_jitter=0)(pair, seed=0)
    assert (found == 255).sum() > 100
    assert (found[image[..., 0] == 0] == 255).all()
    assert (found[image[..., 0] == 90] == 0).mean() > 0.95


@pytest.mark.parametrize(("fill_mask", "ignored"), [({}, 0), ({"fill_mask": 255}, 400)])
def test_holes_hide_images_and_leave_masks_unless_asked(fill_mask: dict[str, int], ignored: int) -> None:
    holes = {"num_holes_range": [1, 1], "hole_height_range": [20, 20], "hole_width_range": [20, 20], "p": 1.0}
    pair = WholePair(np.full((40, 40, 3), 90, np.uint8), np.zeros((40, 40), np.uint8))
    augment = Augmentation(
        augment=[{"CoarseDropout": {**holes, **fill_mask}}], crop_size=(40, 40), scale=(1.0, 1.0), color_jitter=0
    )
    image, found = augment(pair, seed=0)
    assert (image == 0).all(axis=2).sum() == 400
    assert (found == 255).sum() == ignored


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_lists_of_steps(preset: str) -> None:
    mask = _blocks(48, 56)
    pair = WholePair(np.random.default_rng(0).integers(0, 256, (48, 56, 3), np.uint8), mask)
    named, listed = (Augmentation(augment=augment, crop_size=(40, 40)) for augment in (preset, PRESETS[preset]))
    changed = 0
    plain = Augmentation(crop_size=(40, 40))
    for seed in range(30):
        once, again = named(pair, seed=seed), listed(pair, seed=seed)
        assert np.array_equal(once[0], again[0])
        assert np.array_equal(once[1], again[1])
        changed += not np.array_equal(once[0], plain(pair, seed=seed)[0])
    assert 5 < changed <= 30
    assert all(name in (Augmentation.__doc__ or "") for step in PRESETS[preset] for name in step), "the help tells them"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"augment": "lihgt"},
            r"there is no preset 'lihgt' \(did you mean 'light'\?\); choose light, street, strong",
        ),
        ({"augment": [{"ToGrey": {"p": 0.1}}]}, r"no step 'ToGrey' \(did you mean 'ToGray'\?\)"),
        ({"augment": [{"BasicTransform": None}]}, "no step 'BasicTransform'"),
        ({"augment": [{"os.system": {"command": "ls"}}]}, "no step 'os.system'"),
        ({"augment": [{"ToGray": {"q": 0.1}}]}, "ToGray has no argument 'q'.*it has num_output_channels, method, p"),
        ({"augment": [{"ToGray": {"p": 3}}]}, "augment: ToGray: p Input should be less than or equal to 1$"),
        ({"augment": [{"ToGray": 3}]}, r"ToGray must have arguments as names and values, \{p: 0.1\}, found 3"),
        ({"augment": [{"ToGray": None, "Blur": None}]}, "a step must be one name with its arguments"),
        ({"augment": [3]}, "a step must be one name with its arguments.*found 3"),
        (
            {"augment": [{"Affine": {"fill_mask": 0}}]},
            "Affine is given fill_mask 0; leave it out: masks are always interpolated by nearest",
        ),
        ({"augment": [{"Rotate": {"mask_interpolation": 1}}]}, "Rotate is given mask_interpolation 1"),
        ({"augment": [{"RandomCrop": {"height": 64, "width": 64}}]}, "RandomCrop: changes the size of crops"),
        ({"augment": [{"Resize": {"height": 512, "width": 512}}]}, "Resize: changes the size of crops"),
        ({"augment": ["RandomRotate90"], "crop_size": (32, 64)}, "RandomRotate90: changes the size of crops"),
        ({"augment": ["Normalize"]}, "Normalize: converts uint8 to float32"),
        ({"augment": ["BBoxSafeRandomCrop"]}, "needs 'bboxes' besides an image and its mask"),
        ({"augment": ["ShiftScaleRotate"]}, "ShiftScaleRotate: .*use Affine"),
        ({"augment": [{"GaussNoise": {"std_range": "much"}}]}, "GaussNoise: std_range Input should be a valid tuple$"),
    ],
)
def test_steps_that_cannot_be_right_are_refused_in_a_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        Augmentation(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
