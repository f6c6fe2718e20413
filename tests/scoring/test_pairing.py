"""Pairing predictions with the truth, by stem and by Cityscapes' frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imageseg.errors import InputError
from imageseg.scoring.benchmarks import benchmark_of
from imageseg.scoring.pairing import paired, truth_files


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(folder / name)
    return folder


def test_by_stem_wherever_they_lie_and_whatever_lies_beside_them(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", "b.png", "deep/a.png")
    predictions = write(tmp_path / "out", "a.png", "more/b.png", "c.png", "a_overlay.png", "b_confidence.png", ".d.png")
    (predictions / "notes.txt").write_text("no picture")
    pairs = paired(truth_files(truth), predictions)
    assert [(pair.name, pair.truth.name, pair.prediction) for pair in pairs] == [
        ("b", "b.png", predictions / "more/b.png"),
        ("a", "a.png", predictions / "a.png"),
    ]


def test_the_order_is_that_of_the_truths_paths(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", "z/a.png", "y/b.png")
    assert [path.name for path in truth_files(truth)] == ["b.png", "a.png"]


def test_cityscapes_pairs_by_frame(tmp_path: Path) -> None:
    frames = ("ulm_000000_000019", "ulm_000001_000019")
    truth = write(
        tmp_path / "gtFine",
        *(f"ulm/{frame}_gtFine_{kind}.png" for frame in frames for kind in ("labelIds", "instanceIds", "color")),
    )
    predictions = write(tmp_path / "out", f"{frames[0]}_leftImg8bit.png", f"x/{frames[1]}.png")
    pairs = benchmark_of("Cityscapes").pairs(truth, predictions)
    assert [pair.truth.name for pair in pairs] == [f"{frame}_gtFine_labelIds.png" for frame in frames]
    assert [pair.prediction for pair in pairs] == [
        predictions / f"{frames[0]}_leftImg8bit.png",
        predictions / f"x/{frames[1]}.png",
    ]
    instances = benchmark_of("Cityscapes").instances_of(pairs[0].truth)
    assert instances == truth / "ulm" / f"{frames[0]}_gtFine_instanceIds.png"
    (truth / "ulm" / f"{frames[0]}_gtFine_instanceIds.png").unlink()
    assert benchmark_of("Cityscapes").instances_of(pairs[0].truth) is None


def test_without_label_ids_cityscapes_takes_train_ids(tmp_path: Path) -> None:
    truth = write(tmp_path / "gtFine", "a_0_1_gtFine_labelTrainIds.png", "a_0_1_gtFine_color.png")
    (pair,) = benchmark_of("Cityscapes").pairs(truth, write(tmp_path / "out", "a_0_1.png"))
    assert pair.truth.name == "a_0_1_gtFine_labelTrainIds.png"
    assert benchmark_of("Cityscapes").instances_of(pair.truth) is None


def test_a_missing_prediction_is_refused_unless_the_benchmark_lets_it_pass(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path / "truth", "a.png", "b.png"), write(tmp_path / "out", "a.png")
    with pytest.raises(InputError, match=r"1 of 2 masks have no prediction there, the first is .*b\.png") as refused:
        benchmark_of("VOC").pairs(truth, predictions)
    assert "\n" not in str(refused.value)
    assert [pair.prediction for pair in benchmark_of("BDD100K").pairs(truth, predictions)] == [
        predictions / "a.png",
        None,
    ]


def test_nothing_in_common_is_refused_everywhere(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path / "truth", "a.png"), write(tmp_path / "out", "x.png")
    with pytest.raises(InputError, match=r"1 of 1 masks have no prediction"):
        benchmark_of("BDD100K").pairs(truth, predictions)


def test_two_predictions_or_two_truths_of_one_name_are_refused(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path / "truth", "a.png"), write(tmp_path / "out", "a.png", "old/a.png")
    with pytest.raises(InputError, match=r"a\.png and .*a\.png are both predictions for .*a\.png; keep one"):
        paired(truth_files(truth), predictions)
    with pytest.raises(InputError, match="are both the truth of 'a'"):
        paired([Path("x/a.png"), Path("y/a.png")], write(tmp_path / "one", "a.png"))


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_or_missing_folder_is_named(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "truth"
    if there:
        folder.mkdir()
    with pytest.raises(InputError, match=rf"{folder}: (holds no masks \(\*_labelIds.png or|no such folder)"):
        truth_files(folder, ("_labelIds", "_labelTrainIds"))
