"""From the tensors of a file to those of a network: renamed by rules, counted, and the classifier made anew where it must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from imageseg.errors import InputError, counted
from imageseg.models.base import Network
from imageseg.weight_files import WeightFile
from imageseg.weights.classifier_rows import Rows, classes_of
from imageseg.weights.input_normalization import renormalized
from imageseg.weights.sources.source import Source

_ENOUGH = 0.95
COUNTER = "num_batches_tracked"  # absent from files of before 2018, and of no use to anyone


@dataclass(frozen=True)
class LoadedWeights:
    """What became of a file's tensors and of a network's."""

    path: str
    source: str
    loaded: int
    """Tensors of the network that now hold the file's values."""
    in_all: int
    encoder_loaded: int
    encoder_in_all: int
    renewed: tuple[str, ...]
    """Of the classifiers: as they began, because the classes are others."""
    carried: int
    """Classes whose rows of the classifiers were carried over by name."""
    missing: tuple[str, ...]
    """Of the network, and not in the file."""
    mismatched: tuple[str, ...]
    """In both, with other shapes."""
    dropped: tuple[str, ...]
    """In the file, and not of the network."""

    @property
    def complete(self) -> bool:
        """Whether the network is the file's in every tensor."""
        return self.loaded == self.in_all

    def line(self) -> str:
        """One line for the user."""
        parts = [f"{self.path}: {self.source}", f"{self.loaded} of {counted(self.in_all, 'tensor', 'tensors')} loaded"]
        parts[-1] += f" (encoder {self.encoder_loaded} of {self.encoder_in_all})"
        if self.renewed:
            rows = f", {counted(self.carried, 'class', 'classes')} carried over by name" if self.carried else ""
            parts.append(f"classifier made anew for other classes{rows}")
        parts += [
            f"{len(names)} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for names, what in (
                (self.missing, "not in the file"),
                (self.mismatched, "of another shape"),
                (self.dropped, "of the file without use"),
            )
            if names
        ]
        return "; ".join(parts)


def load(
    network: Network,
    file: WeightFile,
    source: Source,
    *,
    besides: Mapping[str, int],
    class_names: Sequence[str] | None = None,
) -> LoadedWeights:
    """Puts a file's tensors into the network.

    Args:
        network: of the arguments that ``source`` asks for.
        file: as ``read_weights`` gives it.
        source: where it comes from.
        besides: the network's tensors that have a row for each class, as ``rows_besides`` gives them.
        class_names: of the network's classes. Where the file's are known too and others, the classifiers' rows are carried
            over by name, and the rest of them stays as it is.

    Raises:
        InputError: fewer than 95 % of the encoder's tensors have their counterpart.
    """
    ours = network.state_dict()
    found, dropped = renamed(file, source, ours)
    found = _converted(found, network, source)
    their_names = source.class_names_of(file, classes_of(found, besides), others_than=network.num_classes)
    rows = Rows(class_names, their_names, besides)
    loaded: dict[str, Tensor] = {}
    renewed: list[str] = []
    mismatched: list[str] = []
    for name, value in found.items():
        fitted = fitted_to(value, ours[name])
        if rows.are_others(name, value, ours[name]):
            rows.carry(name, value, ours[name])
            renewed.append(name)
        elif fitted is None:
            mismatched.append(name)
        else:
            loaded[name] = fitted
    encoder, fitting = _checked_encoder(loaded, dropped, ours, file=file, source=source)
    network.load_state_dict({**ours, **loaded})
    return LoadedWeights(
        path=file.path,
        source=source.name,
        loaded=len(_countable(loaded)),
        in_all=len(_countable(ours)),
        encoder_loaded=fitting,
        encoder_in_all=encoder,
        renewed=tuple(renewed),
        carried=rows.carried,
        missing=tuple(name for name in _countable(ours) if name not in found),
        mismatched=tuple(mismatched),
        dropped=tuple(_countable(dropped)),
    )


def _converted(found: dict[str, Tensor], network: Network, source: Source) -> dict[str, Tensor]:
    """The tensors with what their source does otherwise than ours put into their numbers."""
    if source.encoder_eps is not None:
        found = _with_eps(found, network, source.encoder_eps)
    return found if source.pixels is None else renormalized(found, network, source.pixels)


def _checked_encoder(
    loaded: Mapping[str, Tensor],
    dropped: Sequence[str],
    ours: Mapping[str, Tensor],
    *,
    file: WeightFile,
    source: Source,
) -> tuple[int, int]:
    """How many tensors the encoder has, and how many of them the file fills.

    Raises:
        InputError: too few, or too many of the file's are left: a smaller encoder of the same family would be filled too,
            with layers that never followed each other.
    """
    encoder = [name for name in _countable(ours) if name.startswith("encoder.")]
    fitting = sum(name in loaded for name in encoder)
    left = sum(is_of_encoder(name, source) for name in dropped)
    if fitting < _ENOUGH * max(len(encoder), fitting + left):
        raise InputError(
            f"{file.path}: {source.name}, but only {fitting} of {len(encoder)} tensors of the encoder fit, and {left} of the "
            "file's are without use; pass the encoder that the file was trained with, --network.encoder"
        )
    return len(encoder), fitting


def _countable(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith(COUNTER)]


def renamed(file: WeightFile, source: Source, ours: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The file's tensors by our names, and the names of those that have no counterpart."""
    by_bare = {bare(name): name for name in ours}
    candidates = {name: rename(name, source.rules) for name in file.tensors}
    if source.encoder_by_order:
        candidates |= _by_order([name for name in file.tensors if is_of_encoder(name, source)], ours)
    found: dict[str, Tensor] = {}
    dropped: list[str] = []
    for name, value in file.tensors.items():
        candidate = candidates[name]
        target = None if candidate is None else by_bare.get(bare(candidate))
        if target is None or target in found:
            dropped.append(name)
        else:
            found[target] = value
    return found, dropped


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    """The name by the first rule that fits its beginning; None where none fits."""
    for pattern, replacement in rules:
        new, times = re.subn(f"^{pattern}", replacement, name)
        if times:
            return new
    return None


def is_of_encoder(name: str, source: Source) -> bool:
    """Whether a tensor of the file belongs to the encoder, by its rules."""
    new = rename(name, source.rules)
    return new is not None and new.startswith("encoder.") and not name.endswith(COUNTER)


def bare(name: str) -> str:
    """A name as both sides write it: timm writes ``stages_0`` for ``stages.0`` once a network gives feature maps."""
    part, dot, rest = name.partition(".")
    if part != "encoder":
        return name
    return part + dot + rest.removeprefix("network.").replace(".", "_")


def _by_order(names: list[str], ours: Mapping[str, Tensor]) -> dict[str, str | None]:
    """Pairs the encoder's tensors one by one, for networks that two libraries build alike and name differently."""
    wanted = [name for name in ours if name.startswith("encoder.") and not name.endswith(COUNTER)]
    return dict(zip(sorted(names, key=_place), wanted, strict=True)) if len(names) == len(wanted) else {}


_ENDS = ("weight", "bias", "running_mean", "running_var")
"""The order in which torch lists a layer's tensors."""


def _place(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as torch lists the tensors of numbered layers; safetensors lists them by the alphabet, 10 before 2."""
    *layers, end = name.split(".")
    within = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in layers)
    return (*within, (2, _ENDS.index(end) if end in _ENDS else len(_ENDS), end))


def _with_eps(found: dict[str, Tensor], network: Network, eps: float) -> dict[str, Tensor]:
    """The encoder's variances, so that with this network's epsilon they normalise as with that one."""
    ours = {
        f"{name}.running_var": layer.eps for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)
    }
    return {
        name: value + (eps - ours[name]) if name in ours and name.startswith("encoder.") else value
        for name, value in found.items()
    }


def fitted_to(value: Tensor, there: Tensor) -> Tensor | None:
    """The tensor in the network's shape: a linear layer is a 1x1 convolution, and VGG's first one a 7x7."""
    if value.shape == there.shape:
        return value
    is_layer = {value.dim(), there.dim()} == {2, 4}
    if is_layer and value.shape[0] == there.shape[0] and value.numel() == there.numel():
        return value.reshape(there.shape)
    return None
