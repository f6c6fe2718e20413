"""Our scores beside those of the official evaluators, on random label maps and on real samples.

The evaluators need old packages (numpy 1, pydantic 1), so that they run in an environment of their own, which this script
makes: ``python benchmarks/official_scores.py --environment /tmp/official``. With ``--samples FOLDER`` (of Cityscapes'
gtFine/val and BDD100K's colormaps/val, as their archives unpack them) it also compares on real frames. Exit code 1 where a
figure differs by more than 1e-9.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PINS = (
    *("cityscapesscripts==2.3.0", "pycocotools==2.0.11", "scalabel==0.3.1", "bdd100k==1.0.1"),
    *("pydantic<2", "matplotlib<3.10", "numpy<2"),
)
TOLERANCE = 1e-9

# What the environment's own Python runs: it reads the sets' folders and prints one JSON list of figures per evaluator.
OFFICIAL = """
import contextlib, io, json, sys
from pathlib import Path
import numpy as np
from PIL import Image

def files(folder):
    return sorted(str(path) for path in Path(folder).rglob("*.png"))

def cityscapes(folder):
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
    official.args.JSONOutput, official.args.quiet, official.args.evalInstLevelScore = False, True, True
    truths = [path for path in files(folder / "truth") if path.endswith("labelIds.png")]
    found = official.evaluateImgLists(files(folder / "predictions"), truths, official.args)
    names = ("Classes", "InstClasses", "Categories", "InstCategories")
    return {"iou": found["classScores"]} | {name: found["averageScore" + name] for name in names}

def bdd100k(folder):
    from bdd100k.eval.seg import evaluate_sem_seg
    return plain(evaluate_sem_seg(files(folder / "truth"), files(folder / "predictions"), nproc=1, with_logs=False))

def scalabel(folder):
    from pycocotools import mask
    from scalabel.eval.sem_seg import evaluate_sem_seg
    from scalabel.label.typing import Category, Config, Frame, ImageSize, Label, RLE
    names = [f"class{index:02d}" for index in range(19)]
    def frame(path, size):
        values, labels = np.asarray(Image.open(path)), []
        for index in np.unique(values[values < 19]):
            run = mask.encode(np.asfortranarray(values == index))
            rle = RLE(counts=run["counts"].decode(), size=tuple(run["size"]))
            labels.append(Label(id=str(index), category=names[index], rle=rle))
        return Frame(name=Path(path).name, labels=labels, size=size)
    frames = []
    for side in ("truth", "predictions"):
        frames.append([frame(path, ImageSize(height=8, width=8)) for path in files(folder / side)])
    config = Config(categories=[Category(name=name) for name in names])
    return plain(evaluate_sem_seg(*frames, config, nproc=1))

def plain(found):
    averages = {"IoU": found.IoU[-1]["AVERAGE"], "Acc": found.Acc[-1]["AVERAGE"]}
    return averages | {"fIoU": found.fIoU, "pAcc": found.pAcc, "iou": found.IoU[0]}

evaluate = {"cityscapes": cityscapes, "bdd100k": bdd100k, "scalabel": scalabel}[sys.argv[1]]
np.seterr(all="ignore")
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    found = [evaluate(Path(folder)) for folder in json.load(sys.stdin)]
json.dump(found, sys.stdout)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", default="/tmp/imageseg-official", help="where the evaluators are or will be")
    parser.add_argument("--sets", type=int, default=200, help="random sets per evaluator (default: 200)")
    parser.add_argument("--samples", type=Path, help="a folder with cityscapes/gtFine/val and bdd100k_sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the largest differences as JSON")
    given = parser.parse_args()
    python = environment(Path(given.environment))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (write, ours) in EVALUATORS.items():
            folders = [Path(folder) / name / str(number) for number in range(given.sets)]
            for number, place in enumerate(folders):
                write(place, np.random.default_rng((given.seed, number)))
            rows.append(compared(name, f"{given.sets} random sets", folders, ours, python))
        if given.samples:
            for name, copy in SAMPLES.items():
                place = Path(folder) / f"{name}-samples"
                copy(given.samples, place)
                rows.append(compared(name, "real samples", [place], EVALUATORS[name][1], python))
    if given.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(
                f"{row['evaluator']:<12}{row['on']:<20}{row['figures']:>7} figures, largest difference {row['largest']:.1e}"
            )
    return 0 if all(row["largest"] <= TOLERANCE for row in rows) else 1


def environment(folder: Path) -> Path:
    """The Python of an environment that has the evaluators."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PINS)} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
    return python


def compared(
    name: str, on: str, folders: list[Path], ours: Callable[[Path], dict[str, Any]], python: Path
) -> dict[str, Any]:
    asked = json.dumps([str(folder) for folder in folders])
    answer = subprocess.run([python, "-c", OFFICIAL, name], input=asked, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{name}: the official evaluator failed\n{answer.stderr}")
    largest, figures = 0.0, 0
    for folder, official in zip(folders, json.loads(answer.stdout), strict=True):
        for key, theirs, mine in figure_pairs(name, official, ours(folder)):
            figures += 1
            difference = 0.0 if math.isnan(theirs) and math.isnan(mine) else abs(theirs - mine)
            if not difference <= TOLERANCE:
                print(f"{name} {folder.name} {key}: official {theirs}, ours {mine}", file=sys.stderr)
            largest = max(largest, math.inf if math.isnan(difference) else difference)
    return {"evaluator": name, "on": on, "figures": figures, "largest": largest}


def figure_pairs(name: str, official: dict[str, Any], ours: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """(what, theirs, ours), both between 0 and 1."""
    names = {"Classes": "miou", "InstClasses": "iiou", "Categories": "category_miou", "InstCategories": "category_iiou"}
    scale = 1.0 if name == "cityscapes" else 100.0
    if name != "cityscapes":
        names = {"IoU": "miou", "Acc": "class_accuracy", "fIoU": "fw_iou", "pAcc": "pixel_accuracy"}
    for theirs, mine in names.items():
        yield mine, official[theirs] / scale, number(ours[mine])
    by_class = list(official["iou"].items())
    for key, mine in ours["iou"].items():
        theirs = official["iou"][key] if key in official["iou"] else by_class[list(ours["iou"]).index(key)][1]
        yield f"IoU of {key}", theirs / scale, number(mine)


def number(value: float | None) -> float:
    return math.nan if value is None else value


def cityscapes_set(folder: Path, rng: np.random.Generator) -> None:
    """A few frames of odd sizes: some label ids are absent, predictions hold voids, some things have instances."""
    ids = rng.choice(34, rng.integers(3, 20), replace=False)
    for number in range(rng.integers(1, 4)):
        size = tuple(rng.integers(1, 40, 2))
        true = rng.choice(ids, size)
        predicted = np.where(rng.random(size) < rng.random(), true, rng.choice(34, size))
        single = (true >= 24) & (rng.random(size) < 0.9)
        instances = np.where(single, 1000 * true + rng.integers(0, 4, size), true)
        frame = f"city_000000_{number:06d}"
        save(folder / "truth" / f"{frame}_gtFine_labelIds.png", true.astype(np.uint8))
        save(folder / "truth" / f"{frame}_gtFine_instanceIds.png", instances.astype(np.uint16))
        save(folder / "predictions" / f"{frame}_pred.png", predicted.astype(np.uint8))


def bdd100k_set(folder: Path, rng: np.random.Generator) -> None:
    """As above in train ids; 255 is ignored in the truth and a miss in the prediction."""
    ids = np.append(rng.choice(19, rng.integers(2, 15), replace=False), 255)
    for number in range(rng.integers(1, 4)):
        size = tuple(rng.integers(1, 40, 2))
        true = rng.choice(ids, size)
        true[0, 0] = ids[0]  # the toolkit fails on sets without any valid pixel
        predicted = np.where(rng.random(size) < rng.random(), true, rng.choice([*range(19), 255], size))
        for side, values in (("truth", true), ("predictions", predicted)):
            save(folder / side / f"{number}.png", values.astype(np.uint8))


def scalabel_set(folder: Path, rng: np.random.Generator) -> None:
    """As above with every picture of 8 x 8, because a frame's size is one for the set."""
    ids = rng.choice(19, rng.integers(2, 15), replace=False)
    for number in range(rng.integers(1, 4)):
        true = np.where(rng.random((8, 8)) < 0.1, 255, rng.choice(ids, (8, 8)))
        true[0, 0] = ids[0]
        predicted = np.where(rng.random((8, 8)) < rng.random(), true, rng.choice([*range(19), 255], (8, 8)))
        for side, values in (("truth", true), ("predictions", predicted)):
            save(folder / side / f"{number}.png", values.astype(np.uint8))


def cityscapes_samples(samples: Path, folder: Path) -> None:
    for path in sorted((samples / "cityscapes/gtFine/val").rglob("*_gtFine_*Ids.png")):
        values = np.asarray(Image.open(path))
        save(folder / "truth" / path.name, values)
        if path.stem.endswith("labelIds"):
            save(folder / "predictions" / path.name, np.roll(values, 7, axis=1))


def bdd100k_samples(samples: Path, folder: Path) -> None:
    for path in sorted((samples / "bdd100k_sample/labels/sem_seg/colormaps/val").glob("*.png")):
        values = np.asarray(Image.open(path))
        save(folder / "truth" / path.name, values)
        save(
            folder / "predictions" / path.name, np.where(np.roll(values, 5, axis=1) == 1, 0, np.roll(values, 5, axis=1))
        )


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def ours(dataset: str, **arguments: Any) -> Callable[[Path], dict[str, Any]]:
    """Scores a set's folder as ``imageseg score`` does."""
    from imageseg.datasets import build_dataset
    from imageseg.scoring.folders.benchmarks import benchmark_of
    from imageseg.scoring.folders.score_files import Reading, score_files

    labels, benchmark = build_dataset(dataset, **arguments).labels, benchmark_of(dataset)

    def score(folder: Path) -> dict[str, Any]:
        instances_of = benchmark.instances_of if benchmark.instances else None
        pairs = benchmark.pairs(folder / "truth", folder / "predictions")
        scored = score_files(pairs, Reading(labels, instances_of=instances_of), workers=1)
        return scored.confusion.scores(benchmark.dialect).to_dict(labels.names)

    return score


EVALUATORS: dict[str, tuple[Callable[[Path, np.random.Generator], None], Callable[[Path], dict[str, Any]]]] = {
    "cityscapes": (cityscapes_set, ours("Cityscapes", masks="labelIds")),
    "bdd100k": (bdd100k_set, ours("BDD100K", masks="masks")),
    "scalabel": (scalabel_set, ours("BDD100K", masks="masks")),
}
SAMPLES = {"cityscapes": cityscapes_samples, "bdd100k": bdd100k_samples}


if __name__ == "__main__":
    sys.exit(main())
