"""The table of scores on the terminal."""

import numpy as np
import pytest

from imageseg import ConfusionMatrix, Label, LabelSpace
from imageseg.cli.score_table import print_scores

LABELS = LabelSpace(
    (Label("road", (128, 64, 128), (0,)), Label("sign[small]", (220, 220, 0), (1,)), Label("a[/b]", (1, 2, 3), (2,)))
)


def test_shows_every_class_and_figure(capsys: pytest.CaptureFixture[str]) -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]]))
    print_scores(confusion.scores(), LABELS, "UNet on Folder val")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "UNet on Folder val"
    assert lines[2] == "road 0.667 1.000 0.667 " + 20 * "█"
    assert lines[3] == "sign[small] 0.500 0.500 1.000 " + 15 * "█"
    assert lines[4] == "a[/b] - - - absent"
    assert lines[5:] == [
        "mIoU 0.583",
        "pixel accuracy 0.750",
        "class accuracy 0.833",
        "frequency-weighted IoU 0.625",
        "mean Dice 0.733",
        "images 1",
    ]
