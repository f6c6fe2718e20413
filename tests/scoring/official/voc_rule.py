"""VOCevalseg.m in plain Python: the accuracy of VOC's development kit, pixel by pixel.

The kit counts only pixels whose truth is below 255, and computes per class
``100 * correct / (true + predicted - correct)``, then the plain mean over all 21 classes, background included.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def voc_scores(folder: Path) -> dict[str, float | list[float]]:
    """Per-class and mean accuracy in percent of FOLDER/predictions against FOLDER/truth."""
    confusion = [[0] * 21 for _ in range(21)]
    for path in sorted((folder / "truth").glob("*.png")):
        true = np.asarray(Image.open(path)).ravel().tolist()
        predicted = np.asarray(Image.open(folder / "predictions" / path.name)).ravel().tolist()
        for row, column in zip(true, predicted, strict=True):
            if row < 255:
                confusion[row][column] += 1
    accuracies = []
    for index in range(21):
        true_pixels = sum(confusion[index])
        predicted_pixels = sum(row[index] for row in confusion)
        correct = confusion[index][index]
        accuracies.append(100 * correct / (true_pixels + predicted_pixels - correct))
    return {"accuracies": accuracies, "avacc": sum(accuracies) / 21}
