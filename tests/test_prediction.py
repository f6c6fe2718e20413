"""Prediction: files whose pixels are class indices, shares that add up, and overlays that show and name the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imageseg.labels import Label, LabelSpace
from imageseg.prediction import Prediction

LABELS = LabelSpace(
    (
        Label("road", (128, 64, 128), (7,)),
        Label("car", (0, 0, 142), (26,)),
        Label("person", (220, 20, 60), (24,)),
        Label("tree", (10, 200, 10), (21,)),
    )
)
CLASSES = np.zeros((40, 60), np.uint8)
CLASSES[10:20, 10:40] = 2  # 300 of 2400 pixels
CLASSES[30:, :] = 1  # 600
PREDICTION = Prediction(CLASSES, LABELS)
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_the_saved_pixels_are_class_indices_under_the_labels_colours(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "mask.png"
    PREDICTION.save(path)
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "P")
        assert np.array_equal(np.asarray(picture), CLASSES)
        palette = np.array(picture.getpalette()).reshape(-1, 3)
        assert np.array_equal(palette[:4], [label.color for label in LABELS.labels])
        shown = np.asarray(picture.convert("RGB"))
    assert np.array_equal(shown, PREDICTION.colored())
    assert shown[15, 15].tolist() == [220, 20, 60]
    assert [file.name for file in path.parent.iterdir()] == ["mask.png"]


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Prediction(np.zeros((3, 3), np.uint8), LABELS).save(path)
    PREDICTION.save(path)
    with Image.open(path) as picture:
        assert picture.size == (60, 40)


def test_shares_come_largest_first_and_add_up() -> None:
    share = PREDICTION.share()
    assert list(share.items()) == [("road", 1500 / 2400), ("car", 0.25), ("person", 0.125), ("tree", 0.0)]
    assert sum(share.values()) == 1


def test_ignored_pixels_are_in_no_share() -> None:
    share = Prediction(np.array([[0, 255], [255, 255]], np.uint8), LABELS).share()
    assert share == {"road": 0.25, "car": 0, "person": 0, "tree": 0}


def test_an_overlay_blends_image_and_colours() -> None:
    overlay = PREDICTION.overlay(IMAGE, opacity=0.25, legend=False)
    assert overlay.shape == IMAGE.shape
    assert overlay.dtype == np.uint8
    expected = 0.25 * PREDICTION.colored() + 0.75 * IMAGE
    border = np.zeros((40, 60), bool)
    border[10, 10:40] = border[20, 10:40] = border[10:20, 10] = border[10:20, 40] = border[30] = True
    assert np.abs(overlay[~border] - expected[~border]).max() <= 0.5
    assert (overlay[border] == 255).all()


def test_the_ends_of_opacity() -> None:
    flat = Prediction(np.full((40, 60), 3, np.uint8), LABELS)
    assert np.array_equal(flat.overlay(IMAGE, opacity=0, legend=False), IMAGE)
    assert (flat.overlay(IMAGE, opacity=1, legend=False) == (10, 200, 10)).all()


def test_what_is_drawn_on_stays_unchanged() -> None:
    image, classes = IMAGE.copy(), CLASSES.copy()
    PREDICTION.overlay(IMAGE)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(classes, CLASSES)


def test_a_mirrored_image_can_be_drawn_on() -> None:
    mirrored = IMAGE[:, ::-1]
    expected = PREDICTION.overlay(np.ascontiguousarray(mirrored))
    assert np.array_equal(PREDICTION.overlay(mirrored), expected)


@pytest.mark.parametrize("width", [1, 60, 500, 2000])
def test_the_legend_shows_the_colours_of_the_classes_that_are_there(width: int) -> None:
    classes = np.zeros((40, width), np.uint8)
    classes[20:] = 2
    overlay = Prediction(classes, LABELS).overlay(np.zeros((40, width, 3), np.uint8))
    assert overlay.shape[1:] == (width, 3)
    legend = overlay[40:]
    assert 10 < len(legend) < 150
    assert (legend[0] == 255).all()
    if width > 1:  # no room for any box
        colors = {tuple(color) for color in legend.reshape(-1, 3).tolist()}
        assert {(128, 64, 128), (220, 20, 60)} <= colors
        assert not {(0, 0, 142), (10, 200, 10)} & colors


def test_the_legend_takes_as_many_rows_as_it_needs() -> None:
    labels = LabelSpace(tuple(Label(f"a class of number {index}", (index, 99, 7)) for index in range(20)))
    heights = {}
    for width in (100, 400, 3000):
        classes = np.arange(20, dtype=np.uint8).repeat(width).reshape(20, width)
        overlay = Prediction(classes, labels).overlay(np.zeros((20, width, 3), np.uint8))
        heights[width] = len(overlay) - 20
        colors = {tuple(color) for color in overlay[20:].reshape(-1, 3).tolist()}
        assert {(index, 99, 7) for index in range(20)} <= colors
    assert heights[100] > heights[400] > heights[3000]


def test_a_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the prediction has shape \(40, 60\), but the image has shape \(60, 40, 3\)"):
        PREDICTION.overlay(np.zeros((60, 40, 3), np.uint8))


def test_overlays_are_saved_as_they_are(tmp_path: Path) -> None:
    PREDICTION.save_overlay(tmp_path / "overlay.png", IMAGE)
    with Image.open(tmp_path / "overlay.png") as picture:
        assert np.array_equal(np.asarray(picture), PREDICTION.overlay(IMAGE))


def test_confidence_is_saved_as_grey(tmp_path: Path) -> None:
    confidence = np.array([[0, 0.5, 1], [0.2, 0.25, 0.9999]], np.float32)
    Prediction(np.zeros((2, 3), np.uint8), LABELS, confidence).save_confidence(tmp_path / "confidence.png")
    with Image.open(tmp_path / "confidence.png") as picture:
        assert picture.mode == "L"
        assert np.asarray(picture).tolist() == [[0, 128, 255], [51, 64, 255]]


def test_confidence_that_was_not_asked_for_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without confidence"):
        PREDICTION.save_confidence(tmp_path / "confidence.png")
    assert not list(tmp_path.iterdir())
