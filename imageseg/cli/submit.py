"""imageseg submit: create or check an archive of test predictions for a benchmark server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imageseg.cli.arguments import OneLineParser
from imageseg.errors import InputError

if TYPE_CHECKING:
    from imageseg.datasets.base import SegmentationDataset
    from imageseg.inference.predictor import Predictor
    from imageseg.parallel import Progress
    from imageseg.recipe import Recipe
    from imageseg.submission.build import Plan
    from imageseg.submission.formats import SubmissionFormat


def run(arguments: Sequence[str]) -> int:
    """Create an archive, or check one (exit code 1 if it has faults)."""
    parser = _parser()
    given, rest = parser.parse_known_args(list(arguments))
    source, flags = _source_and_flags(rest)
    if given.check is not None:
        if source is not None:
            raise InputError(
                f"'{source}' and --check cannot be combined. Omit '{source}' to check an archive; a new archive is checked anyway"
            )
        if not given.use:
            raise InputError(f"--check needs --use, the dataset that the archive is for; see {parser.prog} --help")
        return _check(given, flags)
    if source is None:
        raise InputError(f"give a checkpoint, a folder of predictions, or --check ARCHIVE; see {parser.prog} --help")
    return _create(Path(source), given, flags)


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="imageseg submit",
        usage="imageseg submit SOURCE --use DATASET [options] [dataset options]\n"
        "       imageseg submit --check ARCHIVE --use DATASET [options] [dataset options]",
        description="Create an archive of test predictions for the server of Cityscapes, VOC, BDD100K or ADE20K. SOURCE is\n"
        "a checkpoint, which then predicts the split, or a folder of predictions from 'imageseg predict'. Names,\n"
        "sizes and values are checked before the archive is written. --check inspects an archive from any program:\n"
        "exit code 0 if the server should accept it, 1 and one line per kind of fault otherwise.",
    )
    parser.add_argument(
        "--use", "--dataset", metavar="DATASET", help="name of the dataset (default: that of the checkpoint)"
    )
    parser.add_argument(
        "--root", "--data.root", metavar="FOLDER", help="folder of the dataset (default: that of the dataset)"
    )
    parser.add_argument("--split", default="test", help="split that was predicted (default: test)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="path of the archive (default: for example cityscapes_test.zip)"
    )
    parser.add_argument(
        "--competition",
        default="",
        help="competition of VOC: comp5 (trained on VOC only, the default) or comp6 (ImageNet weights or any other data)",
    )
    parser.add_argument(
        "--stored",
        choices=("classes", "table"),
        default="classes",
        help="content of the predictions in a folder: class indices (default) or stored values of the label table",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything without writing the archive")
    parser.add_argument("--check", metavar="ARCHIVE", help="archive to check instead of creating one")
    parser.add_workers()
    parser.add_argument("--device", default="auto", help="device that runs the network: auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    return parser


def _source_and_flags(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Separate the source from the dataset options; argparse would mistake the value of an unknown option for the source."""
    source, flags, expects_value = None, list[str](), False
    for word in words:
        if word.startswith("--"):
            expects_value = "=" not in word
        elif expects_value:
            expects_value = False
        elif word.startswith("-"):
            raise InputError(f"no flag {word}; see imageseg submit --help")
        elif source is None:
            source = word
            continue
        else:
            raise InputError(f"expected one source, found two: '{source}' and '{word}'")
        flags.append(word)
    return source, flags


def _check(given: argparse.Namespace, flags: Sequence[str]) -> int:
    from imageseg.cli.dataset_arguments import dataset_from
    from imageseg.datasets import DATASETS
    from imageseg.progress_bars import file_progress
    from imageseg.submission.check import check_archive, expected_images, notes_on
    from imageseg.submission.formats import format_for

    rules = format_for(DATASETS.resolve(given.use))
    dataset = dataset_from(given.use, given.root, flags, program="imageseg submit")
    _require_server(dataset, rules)
    images, notes = None, []
    try:
        images = expected_images(pair.image for pair in dataset.pairs(given.split))
        notes += notes_on(images, rules, split=given.split)
    except InputError as error:
        if given.root:  # then the user wants a comparison with the images
            raise
        why = error.line().partition(";")[0]
        notes.append(
            f"names and sizes were compared with the official pattern only, because {why}. Pass --root to compare images"
        )
    with file_progress("check") as progress:
        report = check_archive(given.check, rules, images=images, competition=given.competition, progress=progress)
    report = replace(report, notes=notes + report.notes)
    if given.json:
        print(json.dumps({"version": 1, "pack": given.check, "dataset": rules.dataset, **report.to_dict()}))
    else:
        _print_notes(report.notes)
        for fault in report.faults:
            print(f"{fault.kind:<12}{fault.message}")
        kinds = len(report.faults)
        verdict = f"{kinds} kind{'s' * (kinds > 1)} of fault" if kinds else f"good: {report.files} predictions"
        print(f"{given.check}, for {rules.dataset}: {verdict}")
    return 1 if report.faults else 0


def _create(source: Path, given: argparse.Namespace, flags: Sequence[str]) -> int:
    from imageseg.checkpoint import read_record
    from imageseg.datasets import DATASETS
    from imageseg.progress_bars import file_progress
    from imageseg.submission.build import encode_files, match_predictions, plan_submission, write_archive
    from imageseg.submission.check import notes_on
    from imageseg.submission.formats import format_for

    if not source.is_dir() and source.name.lower().endswith((".zip", ".tar.gz", ".tgz")):
        raise InputError(f"{source}: is an archive already. Check it with 'imageseg submit --check {source}'")
    recipe = None if source.is_dir() else read_record(source)[0]
    use = given.use or (recipe.use if recipe else None)
    if use is None:
        raise InputError("the dataset of a prediction folder is unknown: pass --use, for example --use Cityscapes")
    if recipe is not None and given.stored != "classes":
        raise InputError("--stored applies to prediction folders only; predictions of a checkpoint are class indices")
    rules = format_for(DATASETS.resolve(use))
    words = filter(None, (rules.dataset.lower(), given.split, given.competition or rules.default_competition))
    output = Path(given.output or "_".join(words) + rules.suffixes[0])
    rules.require_suffix(output)
    dataset = _dataset(use, given.root, flags, recipe)
    _require_server(dataset, rules)
    pairs = dataset.pairs(given.split)
    images = {pair.image.stem: pair.image for pair in pairs}
    plan = plan_submission(rules, dataset.labels, [pair.image for pair in pairs], competition=given.competition)
    notes = notes_on(plan.images, rules, split=given.split)
    official = not notes
    notes += [rules.caveat] * bool(rules.caveat)
    notes += [rules.competition_rule] * (bool(rules.competitions) and not given.competition)
    with file_progress("submit") as progress:  # first over the images, then over the files of the archive
        if recipe:
            pngs = _predicted(_predictor(source, dataset, given.device), images, plan, progress)
        else:
            paths = match_predictions(source, plan)
            pngs = encode_files(paths, plan, stored=given.stored == "table", workers=given.workers, progress=progress)
        if given.dry_run:
            for _ in pngs:
                pass
        else:
            write_archive(output, plan, pngs, progress=progress)
    _conclude(given, plan, output, notes, official=official)
    return 0


def _conclude(given: argparse.Namespace, plan: Plan, output: Path, notes: list[str], *, official: bool) -> None:
    count, rules = len(plan.images), plan.rules
    size = None if given.dry_run else output.stat().st_size
    if given.json:
        archive = {"pack": None if given.dry_run else str(output), "bytes": size}
        described = {"dataset": rules.dataset, "split": given.split, "competition": plan.competition or None}
        print(json.dumps({"version": 1, **archive, **described, "images": count, "notes": notes}))
        return
    _print_notes(notes)
    if size is None:
        print(f"{count} predictions fit the server of {rules.dataset}; nothing was written")
        return
    size_text = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
    print(f"{output}: {count} predictions, {size_text}, checked" + f"; submit it to {rules.server}" * official)


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        print(f"imageseg: note: {note}", file=sys.stderr)


def _dataset(use: str, root: str | None, flags: Sequence[str], recipe: Recipe | None) -> SegmentationDataset:
    """Build the dataset, with the arguments of the recipe if the checkpoint was trained on it; options override them."""
    from imageseg.cli.dataset_arguments import dataset_from
    from imageseg.datasets import DATASETS, build_dataset
    from imageseg.registry import arguments_for

    if recipe is not None and DATASETS.resolve(use) == DATASETS.resolve(recipe.use):
        known = arguments_for(DATASETS[use], recipe.data)
        root = root or known.pop("root", None)
        if not flags:
            return build_dataset(use, root, **{name: value for name, value in known.items() if name != "root"})
    return dataset_from(use, root, flags, program="imageseg submit")


def _require_server(dataset: SegmentationDataset, rules: SubmissionFormat) -> None:
    """Check that the server accepts this edition of the dataset.

    Raises:
        InputError: VOC has another year than the server's.
    """
    from imageseg.datasets.voc.dataset import VOC

    if isinstance(dataset, VOC) and dataset.year != "2012":
        raise InputError(
            f"{rules.server} accepts VOC2012; the test masks of VOC{dataset.year} are public: 'imageseg evaluate --split test'"
        )


def _predictor(source: Path, dataset: SegmentationDataset, device: str) -> Predictor:
    from imageseg.inference.predictor import Predictor

    predictor = Predictor.from_checkpoint(source, device=device)
    if predictor.labels.names != dataset.labels.names:
        raise InputError(
            f"{source}: has the classes {', '.join(predictor.labels.names)}; the server scores {', '.join(dataset.labels.names)}"
        )
    return predictor


def _predicted(predictor: Predictor, images: Mapping[str, Path], plan: Plan, progress: Progress) -> Iterator[bytes]:
    from imageseg.submission.build import encode_classes

    for done, image in enumerate(plan.images, start=1):
        yield encode_classes(predictor(images[image.name]).classes, image, plan)
        progress(done, len(plan.images))
