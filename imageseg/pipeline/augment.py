"""Augmentation: random crop, color jitter and Albumentations steps; the only module that imports Albumentations."""

from __future__ import annotations

import inspect
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# Set before the import, otherwise Albumentations asks PyPI for its latest version
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

from imageseg.errors import InputError, did_you_mean
from imageseg.labels import IGNORE
from imageseg.pipeline.color_jitter import jittered
from imageseg.pipeline.crop import OpenPair, RandomWindow
from imageseg.pipeline.mixing import Mixing

Step = dict[str, dict[str, Any] | None]

PRESETS: dict[str, list[Step]] = {
    "light": [
        {"RandomGamma": {"gamma_limit": [80, 125], "p": 0.3}},
        {"GaussianBlur": {"blur_limit": [3, 5], "sigma_limit": [0.1, 1.5], "p": 0.1}},
    ],
    "street": [
        {"RandomGamma": {"gamma_limit": [70, 140], "p": 0.3}},
        {"MotionBlur": {"blur_limit": [3, 7], "p": 0.1}},
        {"GaussianBlur": {"blur_limit": [3, 5], "sigma_limit": [0.1, 1.5], "p": 0.1}},
        {"ImageCompression": {"quality_range": [50, 95], "p": 0.2}},
        {"RandomShadow": {"num_shadows_limit": [1, 2], "shadow_intensity_range": [0.2, 0.4], "p": 0.1}},
    ],
    "strong": [
        {"RandomGamma": {"gamma_limit": [60, 160], "p": 0.5}},
        {"Perspective": {"scale": [0.02, 0.08], "p": 0.2}},
        {"MotionBlur": {"blur_limit": [3, 9], "p": 0.1}},
        {"GaussianBlur": {"blur_limit": [3, 7], "sigma_limit": [0.1, 2.5], "p": 0.2}},
        {"ImageCompression": {"quality_range": [30, 95], "p": 0.2}},
        {"ToGray": {"p": 0.1}},
        {
            "CoarseDropout": {
                "num_holes_range": [1, 4],
                "hole_height_range": [0.05, 0.2],
                "hole_width_range": [0.05, 0.2],
                "p": 0.2,
            }
        },
    ],
}

_JITTER_PROBABILITY = 0.8
# Values that masks need, whatever the default of a step is
_MASK_ARGUMENTS = {"mask_interpolation": cv2.INTER_NEAREST, "fill_mask": IGNORE, "mask_fill_value": IGNORE}
_TRIALS, _TRIAL_SIDE = 8, 71  # number of images, and a side length that no crop size has


class Augmentation:
    """Random scaling, cropping, flipping and color changes of an image and its mask.

    Padding is ignored in the mask and never a class; mask values are never interpolated.

    Args:
        crop_size: Height and width of training crops in pixels.
        scale: Range of the random factor by which the image is resized before cropping.
        flip: Probability of a horizontal flip.
        rotate: Maximum random rotation in degrees, in either direction.
        shear: Maximum random horizontal shear in degrees, in either direction.
        color_jitter: Maximum relative change of brightness, contrast and saturation; hue changes by up to a tenth of it. 0
            disables color jitter.
        cat_max_ratio: Maximum share of a single class among the labeled pixels of a crop; other crops are drawn again, up to ten
            times. 0.75 is common if one class fills much of the images. If not set, every crop is accepted.
        augment: Further steps on each crop by their Albumentations names, for example [{RandomGamma: {p: 0.3}}, {ToGray: {p:
            0.1}}], or a preset: light (RandomGamma, GaussianBlur), street (adds MotionBlur, ImageCompression, RandomShadow) or
            strong (stronger versions of these without RandomShadow, and Perspective, CoarseDropout and ToGray). Masks are
            interpolated by nearest neighbor and filled with the ignore value.
        class_mix: Probability that half of the classes of another crop are pasted over a crop (ClassMix, 2021).
        copy_paste: Probability that objects of rare classes of another crop are pasted over a crop.

    Raises:
        InputError: A value is out of its range, or a step is unknown, has an invalid argument or would damage masks.
    """

    def __init__(
        self,
        *,
        crop_size: tuple[int, int] = (512, 512),
        scale: tuple[float, float] = (0.5, 2.0),
        flip: float = 0.5,
        rotate: float = 0.0,
        shear: float = 0.0,
        color_jitter: float = 0.3,
        cat_max_ratio: float | None = None,
        augment: list[Any] | str | None = None,
        class_mix: float = 0.0,
        copy_paste: float = 0.0,
    ) -> None:
        if len(crop_size) != 2 or min(crop_size) < 1 or len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise InputError(
                f"crop_size must be two sizes and scale two increasing factors, found {crop_size} and {scale}"
            )
        if not 0 <= flip <= 1 or not 0 <= color_jitter <= 1:
            raise InputError(f"flip and color_jitter must be between 0 and 1, found {flip} and {color_jitter}")
        if not 0 <= rotate <= 180 or not 0 <= shear <= 60:
            raise InputError(f"rotate must be 0 to 180 degrees and shear 0 to 60, found {rotate} and {shear}")
        if cat_max_ratio is not None and not 0 < cat_max_ratio <= 1:
            raise InputError(f"cat_max_ratio must be above 0 and at most 1, found {cat_max_ratio}")
        self.mixing = Mixing(class_mix=class_mix, copy_paste=copy_paste)
        self._random_window = RandomWindow(
            crop_size=(crop_size[0], crop_size[1]),
            scale=(scale[0], scale[1]),
            flip=flip,
            rotate=rotate,
            shear=shear,
            cat_max_ratio=cat_max_ratio,
        )
        self._color_jitter = color_jitter
        steps = _steps(augment, is_square=crop_size[0] == crop_size[1])
        self._compose = A.Compose(steps) if steps else None

    def __call__(
        self, pair: OpenPair, *, seed: int, focus: int | None = None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """An (h, w, 3) image and (h, w) mask of ``crop_size``, uint8; the same seed gives the same bytes.

        Args:
            pair: Image and mask, of which only the part below the crop is read.
            seed: Random seed of the augmentation.
            focus: Index of a class of which the crop shows a pixel, if the mask has any.
        """
        rng = np.random.default_rng(seed)
        image, mask = self._random_window(pair, rng, focus=focus).cut(pair)
        if self._color_jitter and rng.random() < _JITTER_PROBABILITY:
            image = jittered(image, self._color_jitter, rng)
        if self._compose is None:
            return image, mask
        # Albumentations 2.0.8 gives every loader process the same state and restarts it each epoch; seeding every sample
        # bypasses that. set_random_seed would give each step the same seed; here all steps share one generator.
        self._compose.set_random_state(rng, random.Random(int(rng.integers(1 << 32))))
        changed = self._compose(image=image, mask=mask)
        return np.ascontiguousarray(changed["image"]), np.ascontiguousarray(changed["mask"])


def _steps(augment: Sequence[Any] | str | None, *, is_square: bool) -> list[A.BasicTransform]:
    if isinstance(augment, str):
        if augment not in PRESETS:
            raise InputError(
                f"augment: there is no preset '{augment}'{did_you_mean(augment, PRESETS)}; choose {', '.join(PRESETS)}, or "
                "write a list of steps"
            )
        augment = PRESETS[augment]
    steps = []
    for entry in augment or []:
        named = {entry: None} if isinstance(entry, str) else entry
        if not isinstance(named, Mapping) or len(named) != 1:
            raise InputError(
                f"augment: a step must be one name with its arguments, {{ToGray: {{p: 0.1}}}}, found {entry!r}"
            )
        [(name, arguments)] = named.items()
        if not isinstance(arguments or {}, Mapping):
            raise InputError(
                f"augment: {name} must have arguments as names and values, {{p: 0.1}}, found {arguments!r}"
            )
        steps.append(_step(name, arguments or {}, is_square=is_square))
    return steps


def _step(name: str, arguments: Mapping[str, Any], *, is_square: bool) -> A.BasicTransform:
    """Create an Albumentations transform that keeps masks valid.

    Raises:
        InputError: The name is unknown, an argument is invalid, or the transform changes sizes, types or labels.
    """
    known = _transforms()
    if name not in known:
        raise InputError(f"augment: Albumentations has no step '{name}'{did_you_mean(name, known)}")
    accepted = [name for name in inspect.signature(known[name].__init__).parameters if name != "self"]
    for argument, value in arguments.items():
        if argument not in accepted:
            raise InputError(
                f"augment: {name} has no argument '{argument}'{did_you_mean(argument, accepted)}; it has {', '.join(accepted)}"
            )
        if argument in _MASK_ARGUMENTS and value not in (None, _MASK_ARGUMENTS[argument]):
            raise InputError(
                f"augment: {name} is given {argument} {value!r}; leave it out: masks are always interpolated by nearest "
                f"neighbor ({cv2.INTER_NEAREST}) and filled with {IGNORE}"
            )
    resolved = {key: _tuples(value) for key, value in {**arguments, **_mask_arguments(known[name], arguments)}.items()}
    # Albumentations warns of invalid arguments and continues with other values
    with warnings.catch_warnings(action="error", category=UserWarning):
        # All exceptions, for invalid values and for missing further inputs, are for the user to fix
        try:
            _check_masks_stay_valid(
                known[name](**resolved), (_TRIAL_SIDE, _TRIAL_SIDE if is_square else _TRIAL_SIDE + 18)
            )
            return known[name](**resolved)
        except Exception as error:
            raise InputError(f"augment: {name}: {_one_line(error)}") from error


def _transforms() -> dict[str, type[A.BasicTransform]]:
    """All transforms that change an image, or an image and its mask, and need no other input."""
    found = {name: value for name, value in vars(A).items() if inspect.isclass(value)}
    bases = (A.ImageOnlyTransform, A.DualTransform, A.Transform3D, A.Lambda)
    return {name: value for name, value in found.items() if issubclass(value, bases[:2]) and value not in bases}


def _mask_arguments(transform: type[A.BasicTransform], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that masks need. A step whose mask fill defaults to None, such as dropout, leaves masks unchanged."""
    accepted = inspect.signature(transform.__init__).parameters
    return {
        name: value
        for name, value in _MASK_ARGUMENTS.items()
        if name in accepted and (arguments.get(name) is not None or accepted[name].default is not None)
    }


def _check_masks_stay_valid(step: A.BasicTransform, size: tuple[int, int]) -> None:
    """Try a step on random images.

    Raises:
        InputError: The step changes sizes, types or labels.
    """
    step.p = 1.0
    compose = A.Compose([step])
    rng = np.random.default_rng(0)
    for _ in range(_TRIALS):
        image, mask = rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(1, 3, size, np.uint8)
        compose.set_random_state(rng, random.Random(int(rng.integers(1 << 32))))
        changed = compose(image=image, mask=mask)
        if changed["image"].shape != (*size, 3) or changed["mask"].shape != size:
            raise InputError("changes the size of crops; use crop_size, scale, rotate and shear instead")
        if changed["image"].dtype != np.uint8 or changed["mask"].dtype != np.uint8:
            raise InputError(
                f"converts uint8 to {changed['image'].dtype}; leave it out, networks normalize images themselves"
            )
        if not set(np.unique(changed["mask"])) <= {1, 2, IGNORE}:
            raise InputError("adds new values to masks")


def _one_line(error: Exception) -> str:
    """The message of an error in one line; pydantic reports a name on one line and its fault on the next."""
    if isinstance(error, KeyError):
        return f"needs {error} besides an image and its mask"
    lines = [line for line in str(error).splitlines() if line.strip() and "errors.pydantic.dev" not in line]
    if "validation error" in lines[0]:
        lines = lines[1:]
    return " ".join(line.partition(" [type=")[0].strip() for line in lines) or type(error).__name__


def _tuples(value: Any) -> Any:
    """Convert lists, as in YAML, to the tuples that Albumentations requires."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
