"""imageseg submit: predictions of a test split as its benchmark's server takes them, and the check of such packs."""

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
    from imageseg.submission.check import Picture
    from imageseg.submission.formats import SubmissionFormat


def run(arguments: Sequence[str]) -> int:
    """Packs, or checks a pack (exit code 1 if the server would mind it)."""
    parser = _parser()
    given, rest = parser.parse_known_args(list(arguments))
    source, flags = _source_and_flags(rest)
    if given.check is not None:
        if source is not None:
            raise InputError(f"'{source}' and --check are two jobs; pack first, then check (packing checks too)")
        if not given.use:
            raise InputError(f"--check needs --use, the dataset that the pack is for; see {parser.prog} --help")
        return _check(given, flags)
    if source is None:
        raise InputError(f"give a checkpoint, a folder of predictions, or --check PACK; see {parser.prog} --help")
    return _pack(Path(source), given, flags)


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="imageseg submit",
        usage="imageseg submit SOURCE --use DATASET [options] [flags of the dataset]\n"
        "       imageseg submit --check PACK --use DATASET [options] [flags of the dataset]",
        description="Packs predictions of a test split for the server of Cityscapes, VOC, BDD100K or ADE20K. SOURCE is a\n"
        "checkpoint, whose predictions are then made, or a folder of predictions as 'imageseg predict' writes\n"
        "them. Names, sizes and values are checked before the pack takes its place. --check looks at a pack of\n"
        "anyone's making: exit code 0 if the server should take it, 1 with one line per kind of fault.",
    )
    parser.add_argument(
        "--use", "--dataset", dest="use", metavar="DATASET", help="unset, the dataset of the checkpoint's recipe"
    )
    parser.add_argument(
        "--root", "--data.root", dest="root", metavar="FOLDER", help="where the dataset lies; unset, its default"
    )
    parser.add_argument("--split", default="test", help="whose pictures were predicted (default: test)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the pack; unset, for example cityscapes_test.zip, here")
    parser.add_argument(
        "--competition",
        default="",
        help="VOC: comp5 (trained on VOC alone, the default) or comp6 (ImageNet weights or any other data)",
    )
    parser.add_argument(
        "--stored",
        choices=("classes", "table"),
        default="classes",
        help="what the pixels of a folder are: class indices (default), or the label table's stored values",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--check", metavar="PACK", help="check this archive instead of making one")
    parser.add_workers()
    parser.add_argument("--device", default="auto", help="for a checkpoint: auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _source_and_flags(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The word that belongs to no flag, and the flags that are the dataset's; argparse would take a flag's value for it."""
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
            raise InputError(f"one source at a time: '{source}' and '{word}'")
        flags.append(word)
    return source, flags


def _check(given: argparse.Namespace, flags: Sequence[str]) -> int:
    from imageseg.cli.dataset_arguments import dataset_from
    from imageseg.datasets import DATASETS
    from imageseg.progress_bars import file_progress
    from imageseg.submission.check import check_pack, notes_on
    from imageseg.submission.formats import format_for

    rules = format_for(DATASETS.resolve(given.use))
    dataset = dataset_from(given.use, given.root, flags, program="imageseg submit")
    _require_server(dataset, rules)
    pictures, notes = None, []
    try:
        pictures = _pictures(dataset, given.split)
        notes += notes_on(pictures, rules, split=given.split)
    except InputError as error:
        if given.root:  # then the pictures were meant to be compared
            raise
        why = error.line().partition(";")[0]
        notes.append(f"names and sizes were held against the official pattern alone, as {why}; pass --root to compare")
    with file_progress("check") as progress:
        report = check_pack(
            given.check,
            rules,
            pictures=pictures,
            competition=given.competition,
            workers=given.workers,
            progress=progress,
        )
    report = replace(report, notes=notes + report.notes)
    if given.json:
        print(json.dumps({"pack": given.check, "dataset": rules.dataset, **report.to_dict()}))
    else:
        _tell(report.notes)
        for fault in report.faults:
            print(f"{fault.kind:<12}{fault.line}")
        kinds = len(report.faults)
        verdict = f"{kinds} kind{'s' * (kinds > 1)} of fault" if kinds else f"good: {report.files} predictions"
        print(f"{given.check}, for {rules.dataset}: {verdict}")
    return 1 if report.faults else 0


def _pack(source: Path, given: argparse.Namespace, flags: Sequence[str]) -> int:
    from imageseg.datasets import DATASETS
    from imageseg.progress_bars import file_progress
    from imageseg.submission.build import check_name, encode_files, match_predictions, plan_submission, write_pack
    from imageseg.submission.check import notes_on
    from imageseg.submission.formats import format_for

    recipe = None if source.is_dir() else _recipe(source)
    use = given.use or (recipe.use if recipe else None)
    if use is None:
        raise InputError("a folder of predictions does not say of what: pass --use, for example --use Cityscapes")
    if recipe is not None and given.stored != "classes":
        raise InputError("--stored says what a folder's pixels are; a checkpoint's predictions are class indices")
    rules = format_for(DATASETS.resolve(use))
    output = Path(given.output or _default_name(rules, given.split, given.competition))
    check_name(output, rules)
    dataset = _dataset(use, given.root, flags, recipe)
    _require_server(dataset, rules)
    pairs = dataset.pairs(given.split)
    images = {pair.image.stem: pair.image for pair in pairs}
    plan = plan_submission(rules, dataset.labels, [pair.image for pair in pairs], competition=given.competition)
    notes = notes_on(plan.pictures, rules, split=given.split)
    official = not notes
    notes += [rules.caveat] * bool(rules.caveat)
    notes += [rules.competition_rule] * (bool(rules.competitions) and not given.competition)
    with file_progress("submit") as progress:  # over the pictures, then over what was written
        if recipe:
            pngs = _predicted(_predictor(source, dataset, given.device), images, plan, progress)
        else:
            paths = match_predictions(source, plan)
            pngs = encode_files(paths, plan, stored=given.stored == "table", workers=given.workers, progress=progress)
        if given.dry_run:
            for _ in pngs:
                pass
        else:
            write_pack(output, plan, pngs, workers=given.workers, progress=progress)
    _conclude(given, plan, output, notes, official=official)
    return 0


def _default_name(rules: SubmissionFormat, split: str, competition: str) -> str:
    which = competition or next(iter(rules.competitions), "")
    return "_".join(filter(None, (rules.dataset.lower(), split, which))) + rules.suffixes()[0]


def _conclude(given: argparse.Namespace, plan: Plan, output: Path, notes: list[str], *, official: bool) -> None:
    count, rules = len(plan.pictures), plan.rules
    if given.json:
        told = {"dataset": rules.dataset, "split": given.split, "competition": plan.competition or None}
        made = {} if given.dry_run else {"pack": str(output), "bytes": output.stat().st_size}
        print(json.dumps({"pack": None, "bytes": None, **made, **told, "pictures": count, "notes": notes}))
        return
    _tell(notes)
    if given.dry_run:
        print(f"{count} predictions are as the server of {rules.dataset} wants them; nothing was written")
        return
    size = output.stat().st_size
    told_size = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
    print(f"{output}: {count} predictions, {told_size}, read back" + f"; send it to {rules.server}" * official)


def _tell(notes: list[str]) -> None:
    for note in notes:
        print(f"imageseg: note: {note}", file=sys.stderr)


def _recipe(source: Path) -> Recipe:
    from imageseg.checkpoint import read_record

    if source.name.lower().endswith((".zip", ".tar.gz", ".tgz")):
        raise InputError(f"{source}: is a pack already; 'imageseg submit --check {source}' checks it")
    return read_record(source)[0]


def _dataset(use: str, root: str | None, flags: Sequence[str], recipe: Recipe | None) -> SegmentationDataset:
    """The dataset that is asked for; where the checkpoint was trained on it, as the recipe had it unless flags say so."""
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
    """Raises:
    InputError: VOC of another year than the server's.
    """
    from imageseg.datasets.voc.dataset import VOC

    if isinstance(dataset, VOC) and dataset.year != "2012":
        raise InputError(
            f"{rules.server} takes VOC2012; the test masks of VOC{dataset.year} are public: 'imageseg evaluate --split test'"
        )


def _pictures(dataset: SegmentationDataset, split: str) -> list[Picture]:
    from imageseg.images import image_size
    from imageseg.submission.check import Picture

    return [Picture(pair.image.stem, image_size(pair.image)) for pair in dataset.pairs(split)]


def _predictor(source: Path, dataset: SegmentationDataset, device: str) -> Predictor:
    from imageseg.inference.predictor import Predictor

    predictor = Predictor.from_checkpoint(source, device=device)
    if predictor.labels.names != dataset.labels.names:
        raise InputError(
            f"{source}: knows {', '.join(predictor.labels.names)}; the server scores {', '.join(dataset.labels.names)}"
        )
    return predictor


def _predicted(predictor: Predictor, images: Mapping[str, Path], plan: Plan, progress: Progress) -> Iterator[bytes]:
    from imageseg.submission.build import encode_classes

    for done, picture in enumerate(plan.pictures, start=1):
        yield encode_classes(predictor(images[picture.name]).classes, picture, plan)
        progress(done, len(plan.pictures))
