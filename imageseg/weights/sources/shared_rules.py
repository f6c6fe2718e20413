"""Rules that several projects' tables share: torchvision's ASPP, SegFormer's MiT, mmsegmentation's convolutions."""

from __future__ import annotations

from imageseg.weights.sources.source import Rules


def aspp(inside: str) -> Rules:
    """torchvision's ASPP, which VainF and SMP took over, below the names that ``inside`` fits."""
    return (
        (rf"{inside}convs\.4\.1\.", "aspp.pooled.0."),
        (rf"{inside}convs\.4\.2\.", "aspp.pooled.1."),
        (inside, "aspp."),
    )


def mit(where: str) -> Rules:
    """SegFormer's own MiT, which is timm's PVTv2 with wider hidden layers, under other names."""
    stages = ((rf"{where}", f"encoder.stages.{k}", k + 1) for k in range(4))
    by_stage = (
        (
            (rf"{theirs}block{number}\.(\d+)\.mlp\.dwconv\.dwconv\.", rf"{ours}.blocks.\1.mlp.dwconv."),
            (rf"{theirs}block{number}\.", f"{ours}.blocks."),
            (rf"{theirs}norm{number}\.", f"{ours}.norm."),
            (rf"{theirs}patch_embed{number}\.", "encoder.patch_embed." if number == 1 else f"{ours}.downsample."),
        )
        for theirs, ours, number in stages
    )
    return tuple(rule for rules in by_stage for rule in rules)


def conv_modules(theirs: str, ours: str) -> Rules:
    """mmsegmentation's convolution and normalisation by name, ours by number."""
    return (rf"{theirs}\.conv\.", f"{ours}.0."), (rf"{theirs}\.bn\.", f"{ours}.1.")
