"""From the tensors of a file to those of a network: renamed by rules, counted, and the classifier made anew where it must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imageseg.errors import InputError, counted
from imageseg.models.base import Network
from imageseg.models.weights.files import WeightFile
from imageseg.models.weights.pixels import renormalized
from imageseg.models.weights.sources import Source

_ENOUGH = 0.95
_COUNTER = "num_batches_tracked"  # absent from files of before 2018, and of no use to anyone


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
    network: Network, file: WeightFile, source: Source, *, class_names: Sequence[str] | None = None
) -> LoadedWeights:
    """Puts a file's tensors into the network.

    Args:
        network: of the arguments that ``source`` asks for.
        file: as ``read_weights`` gives it.
        source: where it comes from.
        class_names: of the network's classes. Where the file's are known too and others, the classifiers' rows are carried
            over by name, and the rest of them stays as it is.

    Raises:
        InputError: fewer than 95 % of the encoder's tensors have their counterpart.
    """
    ours = network.state_dict()
    found, dropped = renamed(file, source, ours)
    if source.encoder_eps is not None:
        found = _with_eps(found, network, source.encoder_eps)
    if source.pixels is not None:
        found = renormalized(found, network, source.pixels)
    theirs_named = source.class_names_of(found, file)
    loaded: dict[str, Tensor] = {}
    renewed: list[str] = []
    mismatched: list[str] = []
    carried: set[str] = set()
    for name, value in found.items():
        there = ours[name]
        fitted = _fitted(value, there)
        if _is_of_classes(value, there, network.num_classes) and (fitted is None or theirs_named not in (None, class_names)):
            rows = _common_rows(class_names, theirs_named, value)
            if fitted is None or rows is not None:
                renewed.append(name)
                for to, of in rows or ():
                    there[to] = value[of]
                    carried.add(str(to))
                continue
        if fitted is None:
            mismatched.append(name)
        else:
            loaded[name] = fitted
    encoder = [name for name in ours if name.startswith("encoder.") and not name.endswith(_COUNTER)]
    fitting = sum(name in loaded for name in encoder)
    # A smaller encoder of the same family would be filled, with layers that never followed each other.
    without_use = sum(is_of_encoder(name, source) for name in dropped)
    if fitting < _ENOUGH * max(len(encoder), fitting + without_use):
        raise InputError(
            f"{file.path}: {source.name}, but only {fitting} of {len(encoder)} tensors of the encoder fit, and {without_use} of the "
            "file's are without use; pass the encoder that the file was trained with, --network.encoder"
        )
    network.load_state_dict({**ours, **loaded})
    counters = sum(name.endswith(_COUNTER) for name in ours)
    return LoadedWeights(
        path=file.path,
        source=source.name,
        loaded=sum(not name.endswith(_COUNTER) for name in loaded),
        in_all=len(ours) - counters,
        encoder_loaded=fitting,
        encoder_in_all=len(encoder),
        renewed=tuple(renewed),
        carried=len(carried),
        missing=tuple(name for name in ours if name not in found and not name.endswith(_COUNTER)),
        mismatched=tuple(mismatched),
        dropped=tuple(name for name in dropped if not name.endswith(_COUNTER)),
    )


def renamed(
    file: WeightFile, source: Source, ours: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The file's tensors by our names, and the names of those that have no counterpart."""
    bare = {_bare(name): name for name in ours}
    candidates = {name: rename(name, source.rules) for name in file.tensors}
    if source.encoder_by_order:
        candidates |= _by_order([name for name in file.tensors if is_of_encoder(name, source)], ours)
    found: dict[str, Tensor] = {}
    dropped: list[str] = []
    for name, value in file.tensors.items():
        candidate = candidates[name]
        target = None if candidate is None else bare.get(_bare(candidate))
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
    return new is not None and new.startswith("encoder.") and not name.endswith(_COUNTER)


def _bare(name: str) -> str:
    """A name as both sides write it: timm writes ``stages_0`` for ``stages.0`` once a network gives feature maps."""
    part, dot, rest = name.partition(".")
    if part != "encoder":
        return name
    return part + dot + rest.removeprefix("network.").replace(".", "_")


def _by_order(names: list[str], ours: Mapping[str, Tensor]) -> dict[str, str | None]:
    """Pairs the encoder's tensors one by one, for networks that two libraries build alike and name differently."""
    wanted = [name for name in ours if name.startswith("encoder.") and not name.endswith(_COUNTER)]
    return dict(zip(names, wanted, strict=True)) if len(names) == len(wanted) else {}


def _with_eps(found: dict[str, Tensor], network: Network, eps: float) -> dict[str, Tensor]:
    """The encoder's variances, so that with this network's epsilon they normalise as with that one."""
    ours = {
        f"{name}.running_var": layer.eps for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)
    }
    return {
        name: value + (eps - ours[name]) if name in ours and name.startswith("encoder.") else value
        for name, value in found.items()
    }


def _fitted(value: Tensor, there: Tensor) -> Tensor | None:
    """The tensor in the network's shape: a linear layer is a 1x1 convolution, and VGG's first one a 7x7."""
    if value.shape == there.shape:
        return value
    is_layer = {value.dim(), there.dim()} == {2, 4}
    if is_layer and value.shape[0] == there.shape[0] and value.numel() == there.numel():
        return value.reshape(there.shape)
    return None


def _is_of_classes(value: Tensor, there: Tensor, num_classes: int) -> bool:
    """Whether the tensor has a row for each class, here and there."""
    return there.dim() > 0 and there.shape[0] == num_classes and value.shape[1:] == there.shape[1:]


def _common_rows(
    ours: Sequence[str] | None, theirs: Sequence[str] | None, value: Tensor
) -> list[tuple[int, int]] | None:
    """(row here, row there) of each class that both know by name; None where names are unknown."""
    if ours is None or theirs is None or value.shape[0] != len(theirs):
        return None
    place = {_folded(name): index for index, name in enumerate(theirs)}
    return [(index, place[_folded(name)]) for index, name in enumerate(ours) if _folded(name) in place]


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def load_encoder(encoder: nn.Module, file: WeightFile, *, name: str, full: set[str]) -> None:
    """Puts a file's tensors into an encoder; every tensor of the encoder must be there, in its shape.

    Args:
        encoder: a network's.
        file: of a classifier, whose encoder it is.
        name: timm's name of the encoder.
        full: the names of all tensors of timm's classifier of that name: what of them the encoder lacks may be in the file.

    Raises:
        InputError: a tensor is missing or of another shape, or the file has some that no such classifier has.
    """
    ours = encoder.state_dict()
    by_bare = {_bare(f"encoder.{_of_classifier(key)}"): key for key in file.tensors}
    state: dict[str, Tensor] = {}
    wanted = [key for key in ours if not key.endswith(_COUNTER)]
    missing = [key for key in wanted if _bare(f"encoder.{key}") not in by_bare]
    if missing:
        raise InputError(
            f"{file.path}: lacks {len(missing)} of {len(wanted)} tensors of encoder '{name}' ({_bare_example(missing[0])}, ...); pass the "
            "file of that encoder, or its name with --network.encoder"
        )
    for key, there in ours.items():
        source = by_bare.pop(_bare(f"encoder.{key}"), None)
        if source is None:
            continue
        value = _with_channels(file.tensors[source], there)
        fitted = _fitted(value, there)
        if fitted is None:
            raise InputError(
                f"{file.path}: {source} is {list(file.tensors[source].shape)}, encoder '{name}' has {list(there.shape)}; pass the "
                "file of that encoder"
            )
        state[key] = fitted
    known = {_bare(f"encoder.{key}") for key in full}
    strange = [
        key for bare, key in by_bare.items() if bare not in known and not re.match(r"(classifier|fc|head)\b", _of_classifier(key))
    ]
    if strange:
        raise InputError(
            f"{file.path}: has {len(strange)} tensors that encoder '{name}' lacks ({strange[0]}, ...); pass the file of that encoder"
        )
    encoder.load_state_dict({**ours, **state})


def _of_classifier(key: str) -> str:
    return re.sub(r"^(encoder|backbone)\.(network\.|model\.)?", "", key)


def _bare_example(key: str) -> str:
    return key.removeprefix("network.")


def _with_channels(value: Tensor, there: Tensor) -> Tensor:
    """The first convolution spread over another number of channels, as timm does it."""
    if value.dim() != 4 or there.dim() != 4 or value.shape[1] != 3 or there.shape[1] == 3:
        return value
    if value.shape[0] != there.shape[0] or value.shape[2:] != there.shape[2:]:
        return value
    from timm.models import adapt_input_conv

    spread: Tensor = adapt_input_conv(there.shape[1], value)
    return spread.to(torch.float32)
