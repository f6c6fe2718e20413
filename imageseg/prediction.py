"""Prediction: the class map of one image, with methods to draw and save it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.images import write_image, write_mask
from imageseg.labels import LabelSpace

COMPANIONS = ("_overlay", "_confidence")
"""Endings of the names of files that are written next to a prediction."""


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        classes: (H, W) uint8 class indices at the original image size.
        labels: Label space of the class indices.
        confidence: (H, W) float32 probability of the predicted class; None unless requested.
    """

    classes: npt.NDArray[np.uint8]
    labels: LabelSpace
    confidence: npt.NDArray[np.float32] | None = None

    def colored(self) -> npt.NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB with every pixel in the color of its class."""
        return self.labels.colored(self.classes)

    def share(self) -> dict[str, float]:
        """Return class name -> share of the image's pixels, largest first."""
        counts = np.bincount(self.classes.ravel(), minlength=256)[: len(self.labels)]
        return {self.labels.names[i]: float(counts[i] / self.classes.size) for i in np.argsort(-counts, kind="stable")}

    def overlay(
        self, image: npt.NDArray[np.uint8], *, opacity: float = 0.55, legend: bool = True
    ) -> npt.NDArray[np.uint8]:
        """Blend the image with its class colors, with white lines between classes and a legend below.

        Args:
            image: (H, W, 3) uint8 RGB image that was predicted.
            opacity: Overlay opacity, 0 to 1.
            legend: Whether to add a legend of the classes in the image.

        Returns:
            (H or more, W, 3) uint8 RGB overlay.

        Raises:
            ValueError: The image has another size than the prediction.
        """
        if image.shape != (*self.classes.shape, 3):
            raise ValueError(f"the prediction has shape {self.classes.shape}, but the image has shape {image.shape}")
        blended = cv2.addWeighted(self.colored(), opacity, image, 1 - opacity, 0).astype(np.uint8, copy=False)
        blended[_borders(self.classes)] = 255
        return np.concatenate([blended, self._legend(image.shape[1])]) if legend else blended

    def save(self, path: str | Path) -> None:
        """Write a palette PNG whose pixels are class indices; the palette holds the class colors."""
        write_mask(path, self.classes, self.labels.palette)

    def save_overlay(self, path: str | Path, image: npt.NDArray[np.uint8]) -> None:
        """Write ``overlay(image)`` to an image file."""
        write_image(path, self.overlay(image))

    def save_confidence(self, path: str | Path) -> None:
        """Write the confidence as a gray image: 0 to 255 for probabilities of 0 to 1.

        Raises:
            ValueError: The prediction has no confidence.
        """
        if self.confidence is None:
            raise ValueError("this prediction was made without confidence")
        write_image(path, np.rint(self.confidence * 255).astype(np.uint8))

    def _legend(self, width: int) -> npt.NDArray[np.uint8]:
        scale = min(max(width / 1000, 0.38), 1.0)
        row, pad = round(26 * scale) + 6, round(8 * scale) + 2
        entries = [
            (self.labels.names.index(name), f"{name} {share:.1%}") for name, share in self.share().items() if share > 0
        ]
        places: list[tuple[int, int]] = []
        left, top = pad, 0
        for _, text in entries:
            wide = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] + row + 2 * pad
            if left + wide > width and left > pad:
                left, top = pad, top + row
            places.append((left, top))
            left += wide
        legend = np.full((top + row + pad, width, 3), 255, np.uint8)
        for (index, text), (x, y) in zip(entries, places, strict=True):
            color = tuple(int(channel) for channel in self.labels.palette[index])
            box = ((x, y + pad), (x + row - pad, y + row - 2))
            cv2.rectangle(legend, *box, color, -1)
            cv2.rectangle(legend, *box, (90, 90, 90), 1)
            cv2.putText(
                legend, text, (x + row, y + row - 4), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA
            )
        return legend


def _borders(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return (H, W) True where the class differs from that of the pixel above or to the left."""
    borders = np.zeros(classes.shape, bool)
    borders[1:] |= classes[1:] != classes[:-1]
    borders[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    return borders
