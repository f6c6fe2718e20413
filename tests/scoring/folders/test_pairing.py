"""Pairing predictions with the truth, by stem and by Cityscapes' frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imageseg.errors import InputError
from imageseg.scoring.folders.benchmarks import benchmark_of
from imageseg.scoring.folders.pairing import GroundTruth, paired, truth_files


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(folder / name)
    return folder


def test_by_stem_wherever_they_lie_and_whatever_lies_beside_them(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", "b.png", "deep/a.png")
    predictions = write(tmp_path / "out", "a.png", "more/b.png", "c.png", "a_overlay.png", "b_confidence.png", ".d.png")
    (predictions / "notes.txt").write_text("no picture")
    pairs = benchmark_of("Folder").pairs(benchmark_of("Folder").truth_in(truth), predictions)
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
    benchmark = benchmark_of("Cityscapes")
    pairs = benchmark.pairs(benchmark.truth_in(truth), predictions)
    assert [pair.truth.name for pair in pairs] == [f"{frame}_gtFine_labelIds.png" for frame in frames]
    assert [pair.prediction for pair in pairs] == [
        predictions / f"{frames[0]}_leftImg8bit.png",
        predictions / f"x/{frames[1]}.png",
    ]
    assert benchmark.read_instances(pairs[0].truth, (2, 3)) is not None
    (truth / "ulm" / f"{frames[0]}_gtFine_instanceIds.png").unlink()
    assert benchmark.read_instances(pairs[0].truth, (2, 3)) is None


def test_without_label_ids_cityscapes_takes_train_ids(tmp_path: Path) -> None:
    truth = write(tmp_path / "gtFine", "a_0_1_gtFine_labelTrainIds.png", "a_0_1_gtFine_color.png")
    benchmark = benchmark_of("Cityscapes")
    (pair,) = benchmark.pairs(benchmark.truth_in(truth), write(tmp_path / "out", "a_0_1.png"))
    assert pair.truth.name == "a_0_1_gtFine_labelTrainIds.png"
    assert benchmark.read_instances(pair.truth, (2, 3)) is None


def test_a_missing_prediction_is_refused_unless_the_benchmark_lets_it_pass(tmp_path: Path) -> None:
    truth = benchmark_of("VOC").truth_in(write(tmp_path / "truth", "a.png", "b.png"))
    predictions = write(tmp_path / "out", "a.png")
    with pytest.raises(InputError, match=r"1 of 2 masks have no prediction there, the first is .*b\.png") as refused:
        benchmark_of("VOC").pairs(truth, predictions)
    assert "\n" not in str(refused.value)
    assert [pair.prediction for pair in benchmark_of("BDD100K").pairs(truth, predictions)] == [
        predictions / "a.png",
        None,
    ]


def test_nothing_in_common_is_refused_everywhere(tmp_path: Path) -> None:
    truth = benchmark_of("VOC").truth_in(write(tmp_path / "truth", "a.png"))
    predictions = write(tmp_path / "out", "x.png")
    with pytest.raises(InputError, match=r"1 of 1 masks have no prediction"):
        benchmark_of("BDD100K").pairs(truth, predictions)


def test_two_predictions_or_two_truths_of_one_name_are_refused(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path / "truth", "a.png"), write(tmp_path / "out", "a.png", "old/a.png")
    named = benchmark_of("VOC").truth_in(truth)
    with pytest.raises(InputError, match=r"a\.png and .*a\.png are both predictions for .*a\.png. Keep one"):
        paired(named, predictions)
    with pytest.raises(InputError, match="are both the ground truth of 'a'"):
        paired([GroundTruth(Path("x/a.png"), "a"), GroundTruth(Path("y/a.png"), "a")], write(tmp_path / "one", "a.png"))


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_or_missing_folder_is_named(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "truth"
    if there:
        folder.mkdir()
    with pytest.raises(InputError, match=rf"{folder}: (contains no masks \(\*_labelIds.png or|no such folder)"):
        truth_files(folder, ("_labelIds", "_labelTrainIds"))


def test_a_image_may_be_called_as_an_overlay_is(tmp_path: Path) -> None:
    benchmark = benchmark_of("Folder")
    truth = benchmark.truth_in(write(tmp_path / "truth", "a.png", "a_overlay.png"))
    pairs = benchmark.pairs(truth, write(tmp_path / "out", "a.png", "a_overlay.png"))
    assert [pair.prediction.name for pair in pairs if pair.prediction] == ["a.png", "a_overlay.png"]


def test_what_lies_beside_a_frames_prediction_is_no_second_one(tmp_path: Path) -> None:
    benchmark = benchmark_of("Cityscapes")
    truth = benchmark.truth_in(write(tmp_path / "gtFine", "a_0_1_gtFine_labelIds.png"))
    names = [f"a_0_1_leftImg8bit{ending}.png" for ending in ("", "_overlay", "_confidence")]
    (pair,) = benchmark.pairs(truth, write(tmp_path / "out", *names))
    assert pair.prediction == tmp_path / "out" / names[0]
