"""Table of all faults that a check looks for. A new fault is one function and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from imageseg.checking.faults import files, images, labels, masks, splits
from imageseg.checking.finding import Finding, Severity
from imageseg.checking.scan import Scan

FAULTS: tuple[Callable[[Scan], Finding | None], ...] = (
    splits.no_split,
    splits.unlistable_split,
    splits.missing_split,
    splits.split_without_masks,
    files.duplicate_name,
    files.mismatched_names,
    files.missing_mask,
    files.missing_image,
    files.empty_file,
    files.damaged_file,
    files.oversized_file,
    images.size_mismatch,
    images.rotated_mask,
    images.unclear_orientation,
    images.image_looks_like_mask,
    masks.mask_looks_like_photo,
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
    images.duplicate_image,
    images.near_duplicate_image,
    images.float_image,
    images.dark_image,
    images.unusual_image,
    images.blank_image,
    masks.sixteen_bit_mask,
    masks.palette_mask,
    labels.nearly_empty_mask,
    labels.class_never_seen,
)


def findings(scan: Scan) -> list[Finding]:
    """Return what is wrong, errors first. The code of a finding is the name of its function."""
    found = [replace(finding, code=fault.__name__) for fault in FAULTS if (finding := fault(scan)) is not None]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))
