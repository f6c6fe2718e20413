"""Renaming rules that several projects share: torchvision's ASPP, SegFormer's MiT, mmsegmentation's ConvModule."""

from __future__ import annotations

from imageseg.weights.sources.source import Rules


def aspp(prefix: str) -> Rules:
    """Rename torchvision's ASPP, which VainF and SMP use too; ``prefix`` is a pattern for what precedes its layers."""
    return (
        (rf"{prefix}convs\.4\.1\.", "aspp.pooled.0."),
        (rf"{prefix}convs\.4\.2\.", "aspp.pooled.1."),
        (prefix, "aspp."),
    )


def mit(prefix: str) -> Rules:
    """Rename SegFormer's MiT, which is timm's PVTv2 with wider hidden layers; ``prefix`` is a pattern for what precedes it."""
    rules: list[tuple[str, str]] = []
    for stage in range(4):
        number, ours = stage + 1, f"encoder.stages.{stage}"
        rules += [
            (rf"{prefix}block{number}\.(\d+)\.mlp\.dwconv\.dwconv\.", rf"{ours}.blocks.\1.mlp.dwconv."),
            (rf"{prefix}block{number}\.", f"{ours}.blocks."),
            (rf"{prefix}norm{number}\.", f"{ours}.norm."),
            (rf"{prefix}patch_embed{number}\.", "encoder.patch_embed." if stage == 0 else f"{ours}.downsample."),
        ]
    return tuple(rules)


def conv_modules(theirs: str, ours: str) -> Rules:
    """Rename mmsegmentation's ConvModule, whose convolution and normalization have names where ours have numbers."""
    return (rf"{theirs}\.conv\.", f"{ours}.0."), (rf"{theirs}\.bn\.", f"{ours}.1.")
