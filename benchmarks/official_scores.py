"""Compare our scores with those of the official evaluators, on random label maps and on real samples, or record theirs.

The evaluators need old packages (numpy 1, pydantic 1), so this script installs them into an environment of their own:
``python benchmarks/official_scores.py --environment /tmp/official``. With ``--samples FOLDER`` (Cityscapes' gtFine/val and
BDD100K's colormaps/val, as unpacked from their archives) it also compares on real frames. ``--record`` writes the
evaluators' outputs for the synthetic label maps of tests/scoring/official. Exit code 1 if a number differs by more than
1e-9.
"""

from __future__ import annotations

import argparse
import contextlib
import io
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

OFFICIAL_TESTS = Path(__file__).resolve().parent.parent / "tests" / "scoring" / "official"
sys.path.insert(0, str(OFFICIAL_TESTS))
from label_maps import WRITERS, digest, save  # noqa: E402
from voc_rule import voc_scores  # noqa: E402

PINS = (
    *("cityscapesscripts==2.3.0", "pycocotools==2.0.11", "scalabel==0.3.1", "bdd100k==1.0.1"),
    *("pydantic<2", "matplotlib<3.10", "numpy<2"),
)
VERSIONS = ("cityscapesscripts", "bdd100k", "scalabel", "numpy", "pycocotools")
TOLERANCE = 1e-9
RECORDED_SETS = 6
RECORDED_SEED = 16
DATASETS = {"cityscapes": "Cityscapes", "bdd100k": "BDD100K", "scalabel": "BDD100K"}

# Run by the environment's own Python: reads the folders of the sets and prints one JSON object of scores per set.
OFFICIAL = """
import contextlib, io, json, math, sys
from pathlib import Path
import numpy as np
from PIL import Image

def files(folder):
    return sorted(str(path) for path in Path(folder).rglob("*.png"))

def cityscapes(folder):
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
    official.args.JSONOutput, official.args.quiet, official.args.evalInstLevelScore = False, True, True
    truths = [path for path in files(folder / "truth") if path.endswith("labelIds.png")]
    by_frame = {"_".join(Path(path).stem.split("_")[:3]): path for path in files(folder / "predictions")}
    predictions = [by_frame["_".join(Path(path).stem.split("_")[:3])] for path in truths]
    found = official.evaluateImgLists(predictions, truths, official.args)
    return {name: value for name, value in found.items() if "Score" in name}

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
    averages = {"mIoU": found.IoU[-1]["AVERAGE"], "mAcc": found.Acc[-1]["AVERAGE"]}
    by_class = {"IoU": list(found.IoU[0].values()), "Acc": list(found.Acc[0].values())}
    return averages | {"fIoU": found.fIoU, "pAcc": found.pAcc} | by_class

def numbers(value):  # JSON has no NaN
    if isinstance(value, dict):
        return {key: numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [numbers(entry) for entry in value]
    return None if math.isnan(value) else float(value)

evaluate = {"cityscapes": cityscapes, "bdd100k": bdd100k, "scalabel": scalabel}[sys.argv[1]]
np.seterr(all="ignore")
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    found = [numbers(evaluate(Path(folder))) for folder in json.load(sys.stdin)]
json.dump(found, sys.stdout)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", default="/tmp/imageseg-official", help="environment with the evaluators")
    parser.add_argument("--sets", type=int, default=200, help="random sets per evaluator (default: 200)")
    parser.add_argument("--samples", type=Path, help="folder with cityscapes/gtFine/val and bdd100k_sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--record", action="store_true", help="record the evaluators' outputs in tests/scoring/official"
    )
    parser.add_argument("--json", action="store_true", help="print the largest differences as JSON")
    given = parser.parse_args()
    python = environment(Path(given.environment))
    with tempfile.TemporaryDirectory() as folder:
        if given.record:
            return record(Path(folder), python)
        rows = []
        for name in DATASETS:
            folders = written(Path(folder) / name, name, seed=given.seed, sets=given.sets)
            rows.append(compared(name, f"{given.sets} random sets", folders, python))
        if given.samples:
            for name, copy in SAMPLES.items():
                place = Path(folder) / f"{name}-samples"
                copy(given.samples, place)
                rows.append(compared(name, "real samples", [place], python))
    if given.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(
                f"{row['evaluator']:<12}{row['on']:<20}{row['scores']:>7} scores, largest difference {row['largest']:.1e}"
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


def record(folder: Path, python: Path) -> int:
    """Write the evaluators' outputs for the synthetic label maps, with the versions that produced them."""
    sets = {}
    for name in WRITERS:
        folders = written(folder / name, name, seed=RECORDED_SEED, sets=RECORDED_SETS)
        scores = [voc_scores(place) for place in folders] if name == "voc" else official_scores(name, folders, python)
        sets[name] = [{"sha256": digest(place), "scores": found} for place, found in zip(folders, scores, strict=True)]
    code = f"import importlib.metadata as m, json, sys; v = {{n: m.version(n) for n in {VERSIONS}}}"
    code += "; v['python'] = sys.version.split()[0]; print(json.dumps(v))"
    versions = json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)
    content = {
        "command": "python benchmarks/official_scores.py --record",
        "voc": "VOCevalseg.m is MATLAB code; its formula is computed by tests/scoring/official/voc_rule.py",
        "versions": versions,
        "seed": RECORDED_SEED,
        "sets": sets,
    }
    path = OFFICIAL_TESTS / "scores.json"
    path.write_text(as_json(content))
    print(f"{path}: {path.stat().st_size / 1e3:.1f} kB")
    return 0


def as_json(content: dict[str, Any]) -> str:
    """One line per set: small, and still readable in a diff."""
    sets = {
        name: "[\n   " + ",\n   ".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n  ]"
        for name, entries in content.pop("sets").items()
    }
    lines = [f' "{key}": {json.dumps(value)}' for key, value in content.items()]
    lines.append(' "sets": {\n' + ",\n".join(f'  "{name}": {entries}' for name, entries in sets.items()) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def written(folder: Path, name: str, *, seed: int, sets: int) -> list[Path]:
    folders = [folder / str(number) for number in range(sets)]
    for number, place in enumerate(folders):
        WRITERS[name](place, seed, number)
    return folders


def official_scores(name: str, folders: list[Path], python: Path) -> list[dict[str, Any]]:
    asked = json.dumps([str(folder) for folder in folders])
    answer = subprocess.run([python, "-c", OFFICIAL, name], input=asked, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{name}: the official evaluator failed\n{answer.stderr}")
    scores: list[dict[str, Any]] = json.loads(answer.stdout)
    return scores


def our_scores(name: str, folder: Path) -> dict[str, Any]:
    """What ``imageseg score`` prints."""
    from imageseg.cli import main as imageseg

    output = io.StringIO()
    arguments = ["--truth", str(folder / "truth"), "--predictions", str(folder / "predictions"), "--workers", "1"]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        code = imageseg(["score", "--dataset", DATASETS[name], *arguments, "--json"])
    if code:
        raise SystemExit(f"{name}: imageseg score failed on {folder}")
    scores: dict[str, Any] = json.loads(output.getvalue())
    return scores


def compared(name: str, on: str, folders: list[Path], python: Path) -> dict[str, Any]:
    largest, count = 0.0, 0
    for folder, official in zip(folders, official_scores(name, folders, python), strict=True):
        for key, theirs, mine in score_pairs(name, official, our_scores(name, folder)):
            count += 1
            difference = 0.0 if math.isnan(theirs) and math.isnan(mine) else abs(theirs - mine)
            if not difference <= TOLERANCE:
                print(f"{name} {folder.name} {key}: official {theirs}, ours {mine}", file=sys.stderr)
            largest = max(largest, math.inf if math.isnan(difference) else difference)
    return {"evaluator": name, "on": on, "scores": count, "largest": largest}


def score_pairs(name: str, official: dict[str, Any], ours: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """(name of the score, theirs, ours), both between 0 and 1."""
    if name == "cityscapes":
        names = {
            "averageScoreClasses": "miou",
            "averageScoreInstClasses": "iiou",
            "averageScoreCategories": "category_miou",
            "averageScoreInstCategories": "category_iiou",
        }
        for theirs, mine in names.items():
            yield mine, number(official[theirs]), number(ours[mine])
        for key, value in ours["iou"].items():
            yield f"IoU of {key}", number(official["classScores"][key]), number(value)
        return
    names = {"mIoU": "miou", "mAcc": "class_accuracy", "fIoU": "fw_iou", "pAcc": "pixel_accuracy"}
    for theirs, mine in names.items():
        yield mine, official[theirs] / 100, number(ours[mine])
    for (key, value), theirs in zip(ours["iou"].items(), official["IoU"], strict=True):
        yield f"IoU of {key}", theirs / 100, number(value)


def number(value: float | None) -> float:
    return math.nan if value is None else value


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
        moved = np.roll(values, 5, axis=1)
        save(folder / "predictions" / path.name, np.where(moved == 1, 0, moved))


SAMPLES: dict[str, Callable[[Path, Path], None]] = {"cityscapes": cityscapes_samples, "bdd100k": bdd100k_samples}


if __name__ == "__main__":
    sys.exit(main())
