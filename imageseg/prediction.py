"""Prediction: the classes of one picture, what they are called, and how they are drawn and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.images import write_image, write_mask
from imageseg.labels import LabelSpace

COMPANIONS = ("_overlay", "_confidence")
"""What the names of the files end in that are written beside a prediction."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture.

    Attributes:
        classes: (H, W) uint8 class indices, at the picture's own size.
        labels: what the indices mean.
        confidence: (H, W) float32, the probability of the chosen class; None unless asked for.
    """

    classes: npt.NDArray[np.uint8]
    labels: LabelSpace
    confidence: npt.NDArray[np.float32] | None = None

    def colored(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: every pixel in its class's colour."""
        return self.labels.colored(self.classes)

    def share(self) -> dict[str, float]:
        """Class name -> share of the picture's pixels, largest first."""
        counts = np.bincount(self.classes.ravel(), minlength=256)[: len(self.labels)]
        return {self.labels.names[i]: float(counts[i] / self.classes.size) for i in np.argsort(-counts, kind="stable")}

    def overlay(
        self, image: npt.NDArray[np.uint8], *, opacity: float = 0.55, legend: bool = True
    ) -> npt.NDArray[np.uint8]:
        """The picture under the colours of its classes, with white lines between them and a legend beneath.

        Args:
            image: (H, W, 3) uint8 RGB, the picture that was predicted.
            opacity: of the colours, 0 to 1.
            legend: name the classes that are there.

        Returns:
            (H or more, W, 3) uint8 RGB.

        Raises:
            ValueError: the picture has another size than the prediction.
        """
        if image.shape != (*self.classes.shape, 3):
            raise ValueError(
                f"the prediction is of a picture of {self.classes.shape[0]} x {self.classes.shape[1]}, found one of {image.shape}"
            )
        blended = cv2.addWeighted(self.colored(), opacity, image, 1 - opacity, 0).astype(np.uint8, copy=False)
        blended[_borders(self.classes)] = 255
        return np.concatenate([blended, self._legend(image.shape[1])]) if legend else blended

    def save(self, path: str | Path) -> None:
        """Writes a palette PNG whose pixels are the class indices; the palette shows them in their colours."""
        write_mask(path, self.classes, self.labels.palette)

    def save_overlay(self, path: str | Path, image: npt.NDArray[np.uint8]) -> None:
        """Writes ``overlay(image)``."""
        write_image(path, self.overlay(image))

    def save_confidence(self, path: str | Path) -> None:
        """Writes the confidence as grey PNG: 0 to 255 for probabilities of 0 to 1."""
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
    borders = np.zeros(classes.shape, bool)
    borders[1:] |= classes[1:] != classes[:-1]
    borders[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    return borders
