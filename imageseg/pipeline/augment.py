"""Augmentation: the one file that knows Albumentations."""

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

# Set before the import: otherwise it asks PyPI for its newest version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

from imageseg.errors import InputError, did_you_mean
from imageseg.labels import IGNORE
from imageseg.pipeline.color_jitter import jittered
from imageseg.pipeline.crop import WindowDraw
from imageseg.pipeline.mixing import Mixing
from imageseg.pipeline.regions import OpenPair

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

_JITTERED = 0.8  # the share of pictures whose colours are changed
# What masks need, whatever a step's own default is.
_FORCED = {"mask_interpolation": cv2.INTER_NEAREST, "fill_mask": IGNORE, "mask_fill_value": IGNORE}
_PROBES, _PROBED = 8, 71  # pictures, and a side that nobody asks a crop of


class Augmentation:
    """Scales, crops, mirrors and recolours a picture and its mask.

    Padding is ignored in the mask and never a class; mask values are never interpolated.

    Args:
        crop_size: height and width of what the network sees in training.
        scale: the picture is resized by a factor between these two before it is cropped.
        flip: the chance that it is mirrored left to right.
        rotate: it is turned by up to so many degrees either way.
        shear: it leans sideways by up to so many degrees.
        color_jitter: how far brightness, contrast and saturation may change, as a share; hue a tenth of it. 0 leaves colours.
        cat_max_ratio: crops of which one class fills this share or more are drawn anew, up to ten times; 0.75 is usual
            where one class fills much of the pictures. Unset, any crop is taken.
        augment: further steps on each crop, by Albumentations' names: [{RandomGamma: {p: 0.3}}, {ToGray: {p: 0.1}}].
            Masks are read as nearest and filled with ignore by all of them.
            Or light (RandomGamma, GaussianBlur), street (adds MotionBlur, ImageCompression, RandomShadow) or strong
            (Perspective, CoarseDropout and ToGray beside stronger ones of those, without RandomShadow).
        class_mix: the chance that half of the classes of another crop are laid over this one (ClassMix, 2021).
        copy_paste: the chance that things of the rarer classes of another crop are laid over this one.

    Raises:
        InputError: a value out of its range, or a step that is unknown, is given a wrong argument or cannot keep masks.
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
            raise InputError(f"crop_size must be two sizes and scale two rising factors, found {crop_size} and {scale}")
        if not 0 <= flip <= 1 or not 0 <= color_jitter <= 1:
            raise InputError(f"flip and color_jitter must lie between 0 and 1, found {flip} and {color_jitter}")
        if not 0 <= rotate <= 180 or not 0 <= shear <= 60:
            raise InputError(f"rotate must be 0 to 180 degrees and shear 0 to 60, found {rotate} and {shear}")
        if cat_max_ratio is not None and not 0 < cat_max_ratio <= 1:
            raise InputError(f"cat_max_ratio must lie above 0 and be at most 1, found {cat_max_ratio}")
        self.mixing = Mixing(class_mix=class_mix, copy_paste=copy_paste)
        self._draw = WindowDraw(
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
        """A pair to (h, w, 3) and (h, w) uint8 of ``crop_size``; the same seed gives the same bytes.

        Args:
            pair: of which only what lies under the crop's window is read.
            seed: of all that is drawn.
            focus: a class on a pixel of which the window lies, if the mask has any.
        """
        rng = np.random.default_rng(seed)
        image, mask = self._draw(pair, rng, focus=focus).cut(pair)
        if self._color_jitter and rng.random() < _JITTERED:
            image = jittered(image, self._color_jitter, rng)
        if self._compose is None:
            return image, mask
        # Albumentations 2.0.8 gives every loader worker the same state and restarts it each epoch; seeding every sample
        # takes its own counting out of play. Not by set_random_seed, which seeds each step alike. Here all steps draw
        # from one generator.
        self._compose.set_random_state(rng, random.Random(int(rng.integers(1 << 32))))
        changed = self._compose(image=image, mask=mask)
        return np.ascontiguousarray(changed["image"]), np.ascontiguousarray(changed["mask"])


def _steps(augment: Sequence[Any] | str | None, *, is_square: bool) -> list[A.BasicTransform]:
    if isinstance(augment, str):
        if augment not in PRESETS:
            raise InputError(
                f"augment: no preset is called '{augment}'{did_you_mean(augment, PRESETS)}; there are {', '.join(PRESETS)}, "
                "or write a list of steps"
            )
        augment = PRESETS[augment]
    steps = []
    for entry in augment or []:
        named = {entry: None} if isinstance(entry, str) else entry
        if not isinstance(named, Mapping) or len(named) != 1:
            raise InputError(f"augment: a step is one name and its arguments, {{ToGray: {{p: 0.1}}}}, found {entry!r}")
        [(name, arguments)] = named.items()
        if not isinstance(arguments or {}, Mapping):
            raise InputError(f"augment: {name}'s arguments must be names and values, {{p: 0.1}}, found {arguments!r}")
        steps.append(_step(name, arguments or {}, is_square=is_square))
    return steps


def _step(name: str, arguments: Mapping[str, Any], *, is_square: bool) -> A.BasicTransform:
    """One of Albumentations' transforms, so made that it keeps masks right.

    Raises:
        InputError: there is none of that name, an argument is wrong, or it changes sizes, types or labels.
    """
    known = _transforms()
    if name not in known:
        raise InputError(f"augment: Albumentations has no step '{name}'{did_you_mean(name, known)}")
    takes = [taken for taken in inspect.signature(known[name].__init__).parameters if taken != "self"]
    for argument, value in arguments.items():
        if argument not in takes:
            raise InputError(
                f"augment: {name} has no argument '{argument}'{did_you_mean(argument, takes)}; it has {', '.join(takes)}"
            )
        if argument in _FORCED and value not in (None, _FORCED[argument]):
            raise InputError(
                f"augment: {name} is given {argument} {value!r}; masks are read as nearest ({cv2.INTER_NEAREST}) and "
                f"filled with {IGNORE} always, leave it out"
            )
    settled = {key: _tuples(value) for key, value in {**arguments, **_forced(known[name], arguments)}.items()}
    # It warns of what it cannot use, and goes on with something else.
    with warnings.catch_warnings(action="error", category=UserWarning):
        # Whatever it raises, for values of a wrong kind and for what it would need beside them, is the user's to mend.
        try:
            _check_kept(known[name](**settled), (_PROBED, _PROBED if is_square else _PROBED + 18))
            return known[name](**settled)
        except Exception as error:
            raise InputError(f"augment: {name}: {_worded(error)}") from error


def _transforms() -> dict[str, type[A.BasicTransform]]:
    """Those that change a picture, or a picture and its mask, and need nothing else."""
    found = {name: value for name, value in vars(A).items() if inspect.isclass(value)}
    bases = (A.ImageOnlyTransform, A.DualTransform, A.Transform3D, A.Lambda)
    return {name: value for name, value in found.items() if issubclass(value, bases[:2]) and value not in bases}


def _forced(transform: type[A.BasicTransform], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that masks need. Where a fill is None unless given, the step leaves masks alone, as cutting out holes does."""
    takes = inspect.signature(transform.__init__).parameters
    return {
        name: value
        for name, value in _FORCED.items()
        if name in takes and (arguments.get(name) is not None or takes[name].default is not None)
    }


def _check_kept(step: A.BasicTransform, size: tuple[int, int]) -> None:
    """Tries a step on pictures of a crop's shape.

    Raises:
        InputError: it changes sizes, types or labels.
    """
    step.p = 1.0
    compose = A.Compose([step])
    rng = np.random.default_rng(0)
    for _ in range(_PROBES):
        image, mask = rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(1, 3, size, np.uint8)
        compose.set_random_state(rng, random.Random(int(rng.integers(1 << 32))))
        changed = compose(image=image, mask=mask)
        if changed["image"].shape != (*size, 3) or changed["mask"].shape != size:
            raise InputError("changes the size of crops; crop_size, scale, rotate and shear are there for that")
        if changed["image"].dtype != np.uint8 or changed["mask"].dtype != np.uint8:
            raise InputError(f"makes {changed['image'].dtype} of uint8; networks normalise pictures themselves")
        if not set(np.unique(changed["mask"])) <= {1, 2, IGNORE}:
            raise InputError("puts values into masks that were not there")


def _worded(error: Exception) -> str:
    """One line of what may be pydantic's report of several: a name, and below it what is wrong with its value."""
    if isinstance(error, KeyError):
        return f"needs {error} beside a picture and its mask"
    lines = [line for line in str(error).splitlines() if line.strip() and "errors.pydantic.dev" not in line]
    if "validation error" in lines[0]:
        lines = lines[1:]
    return " ".join(line.partition(" [type=")[0].strip() for line in lines) or type(error).__name__


def _tuples(value: Any) -> Any:
    """Lists, as YAML has them, as the tuples that Albumentations asks for."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
