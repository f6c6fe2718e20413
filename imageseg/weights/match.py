"""Matching of a file's tensors to those of a network: renamed by rules, counted, classifiers of other classes replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from imageseg.errors import InputError, counted
from imageseg.models.base import Network
from imageseg.weight_files import WeightFile
from imageseg.weights.classifier_rows import ClassifierRows, count_classes
from imageseg.weights.input_normalization import adapt_first_convolution
from imageseg.weights.sources.source import Rules, Source

_MIN_ENCODER_SHARE = 0.95
BATCH_COUNTER = "num_batches_tracked"
"""A buffer of batch normalization that files from before 2018 lack and that has no effect here."""


@dataclass(frozen=True)
class LoadedWeights:
    """Counts and names of the tensors that were loaded, and of those that were not."""

    path: str
    source: str
    loaded: int
    """Number of the network's tensors that have the file's values."""
    total: int
    """Number of all tensors of the network."""
    encoder_loaded: int
    encoder_total: int
    reinitialized: tuple[str, ...]
    """Classifier tensors that keep their random initialization because the classes differ."""
    classes_kept: int
    """Number of classes whose classifier rows were kept by name."""
    missing: tuple[str, ...]
    """Tensors of the network that the file lacks."""
    mismatched: tuple[str, ...]
    """Tensors that have different shapes in file and network."""
    unused: tuple[str, ...]
    """Tensors of the file that the network lacks."""

    def summary(self) -> str:
        """Return one line for the user."""
        tensors = f"{self.loaded} of {counted(self.total, 'tensor', 'tensors')} loaded"
        parts = [f"{self.path}: {self.source}", f"{tensors} (encoder {self.encoder_loaded} of {self.encoder_total})"]
        if self.reinitialized:
            kept = f", {counted(self.classes_kept, 'class', 'classes')} kept by name" if self.classes_kept else ""
            parts.append(f"classifier re-initialized for other classes{kept}")
        parts += [
            f"{len(names)} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for names, what in (
                (self.missing, "not in the file"),
                (self.mismatched, "of another shape"),
                (self.unused, "in the file unused"),
            )
            if names
        ]
        return "; ".join(parts)


def load_matching(
    network: Network,
    file: WeightFile,
    source: Source,
    *,
    extra_rows: Mapping[str, int],
    class_names: Sequence[str] | None = None,
) -> LoadedWeights:
    """Load a file's tensors into a network.

    Args:
        network: Network with the arguments that ``source`` requires.
        file: File as ``read_weights`` returns it.
        source: Source of the file.
        extra_rows: Classifier tensors of the network, as ``extra_classifier_rows`` returns them.
        class_names: Names of the network's classes. If the file's classes have other names, the classifier rows of classes
            with the same name are loaded, and the other rows keep their initialization.

    Raises:
        InputError: Less than 95 % of the encoder's tensors match.
    """
    ours = network.state_dict()
    found, unused = match_tensors(file, source, ours)
    found = _converted(found, network, source)
    their_names = source.class_names_of(file, count_classes(found, extra_rows), network_classes=network.num_classes)
    rows = ClassifierRows(class_names, their_names, extra_rows)
    loaded: dict[str, Tensor] = {}
    reinitialized: list[str] = []
    mismatched: list[str] = []
    for name, value in found.items():
        reshaped = reshaped_like(value, ours[name])
        if rows.differ(name, value, ours[name]):
            rows.copy_shared(name, value, ours[name])
            reinitialized.append(name)
        elif reshaped is None:
            mismatched.append(name)
        else:
            loaded[name] = reshaped
    encoder_loaded, encoder_total = _checked_encoder(loaded, unused, ours, file=file, source=source)
    network.load_state_dict({**ours, **loaded})
    return LoadedWeights(
        path=file.path,
        source=source.name,
        loaded=len(_without_counters(loaded)),
        total=len(_without_counters(ours)),
        encoder_loaded=encoder_loaded,
        encoder_total=encoder_total,
        reinitialized=tuple(reinitialized),
        classes_kept=rows.num_kept,
        missing=tuple(name for name in _without_counters(ours) if name not in found),
        mismatched=tuple(mismatched),
        unused=tuple(_without_counters(unused)),
    )


def _converted(found: dict[str, Tensor], network: Network, source: Source) -> dict[str, Tensor]:
    """Fold what the source computes differently from our networks into the values of the tensors."""
    if source.encoder_epsilon is not None:
        found = _with_epsilon(found, network, source.encoder_epsilon)
    normalization = source.input_normalization
    return found if normalization is None else adapt_first_convolution(found, network, normalization)


def _checked_encoder(
    loaded: Mapping[str, Tensor],
    unused: Sequence[str],
    ours: Mapping[str, Tensor],
    *,
    file: WeightFile,
    source: Source,
) -> tuple[int, int]:
    """Return the number of the encoder's tensors that are loaded, and of all its tensors.

    Raises:
        InputError: Too few are loaded, or too many of the file's are unused: a smaller encoder of the same family would be
            filled completely, with layers that never followed each other.
    """
    encoder = [name for name in _without_counters(ours) if name.startswith("encoder.")]
    fitting = sum(name in loaded for name in encoder)
    left = sum(_is_of_encoder(name, source) for name in unused)
    if fitting < _MIN_ENCODER_SHARE * max(len(encoder), fitting + left):
        raise InputError(
            f"{file.path}: {source.name}, but only {fitting} of {len(encoder)} tensors of the encoder fit, and {left} encoder "
            "tensors of the file are unused; pass the encoder that the file was trained with, --network.encoder"
        )
    return fitting, len(encoder)


def _without_counters(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith(BATCH_COUNTER)]


def match_tensors(file: WeightFile, source: Source, ours: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the file's tensors by our names, and the names of those that ``ours`` lacks."""
    by_comparable = {comparable(name): name for name in ours}
    candidates = {name: renamed(name, source.rules) for name in file.tensors}
    if source.encoder_by_order:
        candidates |= _by_order([name for name in file.tensors if _is_of_encoder(name, source)], ours)
    found: dict[str, Tensor] = {}
    unused: list[str] = []
    for name, value in file.tensors.items():
        candidate = candidates[name]
        target = None if candidate is None else by_comparable.get(comparable(candidate))
        if target is None or target in found:
            unused.append(name)
        else:
            found[target] = value
    return found, unused


def renamed(name: str, rules: Rules) -> str | None:
    """Rename a tensor by the first rule that matches the beginning of its name; None if no rule does."""
    for pattern, replacement in rules:
        new, times = re.subn(f"^{pattern}", replacement, name)
        if times:
            return new
    return None


def _is_of_encoder(name: str, source: Source) -> bool:
    new = renamed(name, source.rules)
    return new is not None and new.startswith("encoder.") and not name.endswith(BATCH_COUNTER)


def comparable(name: str) -> str:
    """Remove the differences in spelling: timm writes ``stages_0`` for ``stages.0`` in networks that return feature maps."""
    part, dot, rest = name.partition(".")
    if part != "encoder":
        return name
    return part + dot + rest.removeprefix("network.").replace(".", "_")


def _by_order(names: list[str], ours: Mapping[str, Tensor]) -> dict[str, str | None]:
    """Pair the encoder's tensors by position, for networks that two libraries build alike and name differently."""
    wanted = [name for name in ours if name.startswith("encoder.") and not name.endswith(BATCH_COUNTER)]
    return dict(zip(sorted(names, key=_sort_key), wanted, strict=True)) if len(names) == len(wanted) else {}


_LAYER_TENSORS = ("weight", "bias", "running_mean", "running_var")
"""The tensors of a layer in the order in which torch lists them."""


def _sort_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort names as torch lists the tensors of numbered layers; safetensors sorts them alphabetically, 10 before 2."""
    *layers, end = name.split(".")
    within = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in layers)
    return (*within, (2, _LAYER_TENSORS.index(end) if end in _LAYER_TENSORS else len(_LAYER_TENSORS), end))


def _with_epsilon(found: dict[str, Tensor], network: Network, epsilon: float) -> dict[str, Tensor]:
    """Shift the encoder's variances, so that with the network's own epsilon they normalize as with ``epsilon``."""
    ours = {
        f"{name}.running_var": layer.eps for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)
    }
    return {
        name: value + (epsilon - ours[name]) if name in ours and name.startswith("encoder.") else value
        for name, value in found.items()
    }


def reshaped_like(value: Tensor, ours: Tensor) -> Tensor | None:
    """Reshape between a linear layer and the equal convolution, 1x1 or VGG's 7x7; None if the shapes do not match."""
    if value.shape == ours.shape:
        return value
    is_layer = {value.dim(), ours.dim()} == {2, 4}
    if is_layer and value.shape[0] == ours.shape[0] and value.numel() == ours.numel():
        return value.reshape(ours.shape)
    return None
