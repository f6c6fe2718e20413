"""Rules of each benchmark server: archive, folder, names and pixel values, in one table by dataset name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imageseg.errors import InputError
from imageseg.scoring.cityscapes_instances import LABEL_IDS


@dataclass(frozen=True)
class SubmissionFormat:
    """Rules of one server.

    Attributes:
        dataset: Canonical name of the dataset.
        server: URL for submissions.
        archive: Kind of the archive.
        values: Pixel values that can score.
        unscored: Pixel values that the server accepts but never scores.
        stem: Pattern of test image names without suffix; the server compares its first group.
        size: (height, width) of every test image; None if they differ.
        count: Number of test images; None if no source states it.
        folder: Folder of the files in the archive, with a trailing slash; ``{competition}`` is filled in. Empty if the server
            searches every folder.
        palette: Whether the PNGs that we write have VOC's palette instead of gray values; servers accept either.
        competitions: Allowed values of ``{competition}``, the default first.
        competition_rule: Sentence that explains which competition is meant for which networks.
        lookalike: Pixel values of a common mistake, which the server may accept.
        lookalike_hint: Explanation of this mistake.
        caveat: Sentence that states what is uncertain about these rules.
    """

    dataset: str
    server: str
    archive: Literal["zip", "tar.gz"]
    values: frozenset[int]
    stem: str
    unscored: frozenset[int] = frozenset()
    size: tuple[int, int] | None = None
    count: int | None = None
    folder: str = ""
    palette: bool = False
    competitions: tuple[str, ...] = ()
    competition_rule: str = ""
    lookalike: frozenset[int] = frozenset()
    lookalike_hint: str = ""
    caveat: str = ""

    def key_of(self, stem: str) -> str:
        """Return the part of a file name that the server compares: all of it, or the part before a tool-specific ending."""
        found = re.fullmatch(self.stem, stem)
        return found.group(1) if found else stem

    def is_official(self, stem: str) -> bool:
        """Whether a test image can have this name (without suffix)."""
        return re.fullmatch(self.stem, stem) is not None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes that the name of the archive may have."""
        return (".zip",) if self.archive == "zip" else (".tar.gz", ".tgz")

    @property
    def default_competition(self) -> str:
        """Competition that an archive is created for if none is given; empty if the server has none."""
        return next(iter(self.competitions), "")

    def require_competition(self, competition: str) -> None:
        """Check the name of a competition; an empty name stands for the default.

        Raises:
            InputError: The server has no such competition.
        """
        if competition and competition not in self.competitions:
            there = f"it has {' and '.join(self.competitions)}" if self.competitions else "it has none"
            raise InputError(f"the server of {self.dataset} has no competition '{competition}'; {there}")

    def require_suffix(self, path: Path) -> None:
        """Check the suffix of an archive, by which servers recognize its kind.

        Raises:
            InputError: The suffix is wrong.
        """
        if not path.name.lower().endswith(self.suffixes):
            raise InputError(
                f"{path}: the server of {self.dataset} expects a {self.archive}. Use the suffix {self.suffixes[0]}"
            )


def format_for(dataset: str) -> SubmissionFormat:
    """Return the rules of the server of a dataset.

    Args:
        dataset: Canonical name of the dataset.

    Raises:
        InputError: The dataset has no server.
    """
    if dataset not in FORMATS:
        raise InputError(
            f"{dataset} has no benchmark server that accepts predictions; {', '.join(FORMATS)} have one "
            "('imageseg predict' writes plain predictions of any dataset)"
        )
    return FORMATS[dataset]


FORMATS = {
    entry.dataset: entry
    for entry in (
        # cityscapesScripts, evalPixelLevelSemanticLabeling.py: getPrediction searches <city>_<sequence>_<frame>*.png in
        # every folder and stops at a second match; ids 0 to 33 have a row in its matrix, 34 and above none; it reads
        # pixels by Pillow, for which gray and palette files are equal. 1525 is the length of the test list.
        SubmissionFormat(
            dataset="Cityscapes",
            server="https://www.cityscapes-dataset.com/submit/",
            archive="zip",
            values=frozenset(LABEL_IDS),
            unscored=frozenset(range(34)) - frozenset(LABEL_IDS),
            stem=r"([^_]+_\d{6}_\d{6}).*",
            size=(1024, 2048),
            count=1525,
            lookalike=frozenset(range(19)),
            lookalike_hint="they look like trainIds (road 0, sky 10); the server expects labelIds (road 7, sky 23)",
        ),
        # The development kit's VOCinit.m names the folder (resdir 'Segmentation/%s_%s_cls'); VOCevalseg.m reads indices,
        # wants each image's own size, and stops at a value above 20. comp5 is trained on VOC's data alone, comp6 on
        # any. 1456 is the length of the test list.
        SubmissionFormat(
            dataset="VOC",
            server="http://host.robots.ox.ac.uk:8080/",
            archive="tar.gz",
            palette=True,
            values=frozenset(range(21)),
            stem=r"(\d{4}_\d{6})",
            count=1456,
            folder="results/VOC2012/Segmentation/{competition}_test_cls/",
            competitions=("comp5", "comp6"),
            competition_rule="comp5 is for networks trained on VOC images only; pretraining on ImageNet or COCO requires comp6",
        ),
        # bdd100k's doc/source/evaluate.rst: EvalAI 1257 accepts "a folder of masks", as masks only; bdd100k/eval/seg.py
        # reads them by Pillow, pairs them by stem, and counts a value above 18 as a miss.
        SubmissionFormat(
            dataset="BDD100K",
            server="https://eval.ai/web/challenges/challenge-page/1257",
            archive="zip",
            values=frozenset(range(19)),
            stem=r"([0-9a-f]{8}-[0-9a-f]{8})",
            size=(720, 1280),
            count=2000,
            lookalike=frozenset(range(41)),
            lookalike_hint="they look like label ids (Cityscapes: road 7, sky 23); the server expects train ids (road 0, sky 10)",
        ),
        # README of CSAILVision/sceneparsing: a zip of the masks, each named as its test image with png for jpg; labels
        # are 0 to 150, where 0 is "other" and not evaluated (evaluationCode/intersectionAndUnion.m).
        SubmissionFormat(
            dataset="ADE20K",
            server="http://sceneparsing.csail.mit.edu/eval/",
            archive="zip",
            values=frozenset(range(1, 151)),
            stem=r"(ADE_test_\d{8})",
            lookalike=frozenset(range(150)),
            lookalike_hint="they look like class indices (wall 0); the server expects 1 to 150, where 0 means 'other' and "
            "never scores",
            caveat="for ADE20K, the zip, the names and the values are documented; folders inside the zip and the number of "
            "images are not",
        ),
    )
}
