"""The table of faults: everything that a check looks for. A new fault is one function and its line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from imageseg.checking.faults import files, labels, masks, splits
from imageseg.checking.faults import images as pictures
from imageseg.checking.finding import Finding, Severity
from imageseg.checking.scan import Scan

FAULTS: tuple[Callable[[Scan], Finding | None], ...] = (
    splits.no_split,
    splits.unlistable_split,
    splits.missing_split,
    splits.split_without_masks,
    files.two_of_one_name,
    files.names_differ,
    files.missing_mask,
    files.missing_picture,
    files.empty_file,
    files.damaged_file,
    files.oversized_file,
    pictures.size_mismatch,
    pictures.turned_mask,
    pictures.unclear_orientation,
    pictures.picture_is_a_mask,
    masks.mask_is_a_picture,
    masks.jpeg_mask,
    masks.rgba_bitmask,
    masks.mask_mode,
    masks.float_mask,
    labels.no_label_table,
    labels.wrong_label_table,
    labels.binary_255,
    labels.shifted_ids,
    labels.label_ids_as_train_ids,
    labels.sixteen_bit_ids,
    labels.unknown_ids,
    labels.rgb_mask,
    labels.unknown_colors,
    masks.antialiased_mask,
    masks.smoothed_mask,
    labels.all_ignored,
    labels.class_not_in_train,
    pictures.same_picture,
    pictures.similar_picture,
    pictures.float_picture,
    pictures.dark_picture,
    pictures.unusual_picture,
    pictures.blank_picture,
    masks.sixteen_bit_mask,
    masks.palette_mask,
    labels.nearly_empty_mask,
    labels.class_never_seen,
)


def findings(scan: Scan) -> list[Finding]:
    """What is wrong, errors first; each finding has its function's name as its code."""
    found = [replace(finding, code=fault.__name__) for fault in FAULTS if (finding := fault(scan)) is not None]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))
