"""Compare the time to score folders of Cityscapes' size with cityscapesScripts' evaluator, including PNG decoding.

``python benchmarks/score_folders.py --truth FOLDER --environment FOLDER`` repeats the frames of FOLDER (gtFine/val of Cityscapes)
until there are ``--pairs`` of them, uses each mask, shifted, as its prediction, and runs both evaluators as processes in turn:
ours as ``imageseg score`` with one worker per CPU core, theirs as ``evaluateImgLists`` of the wheel, which is pure Python. The
environment is that of official_scores.py. It stops if mIoU or iIoU differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import Row, in_turn, report
from PIL import Image

THEIRS = """
import sys, glob
import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
official.args.JSONOutput, official.args.quiet, official.args.evalInstLevelScore = False, True, True
truths = sorted(glob.glob(sys.argv[1] + "/*_labelIds.png"))
found = official.evaluateImgLists([path.replace(sys.argv[1], sys.argv[2]) for path in truths], truths, official.args)
print(found["averageScoreClasses"], found["averageScoreInstClasses"])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--environment", type=Path, default=Path("/tmp/imageseg-official"))
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        truth, predictions = Path(folder) / "truth", Path(folder) / "predictions"
        write(given.truth, truth, predictions, given.pairs)
        ours_command = [sys.executable, "-m", "imageseg", "score", "--dataset", "Cityscapes", "--json"]
        ours_command += ["--truth", str(truth), "--predictions", str(predictions), "--masks", "labelIds"]
        theirs_command = [
            str(given.environment / "bin" / "python"),
            "-W",
            "ignore",
            "-c",
            THEIRS,
            str(truth),
            str(predictions),
        ]
        found_scores: dict[str, tuple[float, float]] = {}

        def ours() -> None:
            scores = json.loads(subprocess.run(ours_command, capture_output=True, check=True).stdout)
            found_scores["ours"] = (scores["miou"], scores["iiou"])

        def theirs() -> None:
            words = subprocess.run(theirs_command, capture_output=True, check=True, text=True).stdout.split()
            found_scores["theirs"] = (float(words[0]), float(words[1]))

        times = in_turn(ours, theirs, given.repeats)
        if not np.allclose(found_scores["ours"], found_scores["theirs"], rtol=0, atol=1e-9):
            raise SystemExit(f"the scores differ: {found_scores}")
        report([Row(f"score {given.pairs} pairs of 2048 x 1024, wall time", *times, "ms")], as_json=given.json)


def write(source: Path, truth: Path, predictions: Path, pairs: int) -> None:
    """Write frames under unique names, each as a separate file, so that no file is read once for several frames."""
    masks = sorted(source.rglob("*_gtFine_labelIds.png"))
    if not masks:
        raise SystemExit(f"{source}: contains no *_gtFine_labelIds.png")
    truth.mkdir()
    predictions.mkdir()
    for number in range(pairs):
        mask = masks[number % len(masks)]
        name = f"city_{number:06d}_000019_gtFine_labelIds.png"
        values = np.asarray(Image.open(mask))
        (truth / name).write_bytes(mask.read_bytes())
        instances = mask.with_name(mask.name.replace("labelIds", "instanceIds"))
        (truth / name.replace("labelIds", "instanceIds")).write_bytes(instances.read_bytes())
        Image.fromarray(np.roll(values, 3 + number % 11, axis=1)).save(predictions / name)


if __name__ == "__main__":
    main()
