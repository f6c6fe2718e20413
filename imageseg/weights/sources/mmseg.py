"""The networks of mmsegmentation, and SegFormer's authors', which is written with it."""

from __future__ import annotations

from imageseg.weights.sources.shared_rules import conv_modules, mit
from imageseg.weights.sources.source import Rules, Source

_MMSEG_BACKBONE: Rules = (
    (r"backbone\.stem\.7\.", "encoder.bn1."),
    (r"backbone\.stem\.", "encoder.conv1."),
    (r"backbone\.", "encoder."),
)
_MMSEG_AUXILIARY: Rules = (
    (r"auxiliary_head\.convs\.0\.conv\.", "auxiliary.0."),
    (r"auxiliary_head\.convs\.0\.bn\.", "auxiliary.1."),
    (r"auxiliary_head\.conv_seg\.", "auxiliary.4."),
)
_MMSEG_CLASSIFIER: Rules = ((r"decode_head\.conv_seg\.", "classifier."),)

MMSEG: tuple[Source, ...] = (
    Source(
        name="NVlabs' SegFormer",
        model="SegFormer",
        marks=(r"backbone\.patch_embed1\.", r"decode_head\.linear_c1\."),
        rules=(
            *mit(r"backbone\."),
            *((rf"decode_head\.linear_c{i + 1}\.proj\.", f"linears.{i}.") for i in range(4)),
            *conv_modules(r"decode_head\.linear_fuse", "fuse"),
            (r"decode_head\.linear_pred\.", "classifier."),
        ),
        preset={"align_corners": False},
    ),
    Source(
        name="mmsegmentation's UPerNet",
        model="UPerNet",
        marks=(r"backbone\.layer1\.", r"decode_head\.psp_modules\.", r"decode_head\.lateral_convs\."),
        rules=(
            *_MMSEG_BACKBONE,
            *conv_modules(r"decode_head\.psp_modules\.(\d)\.1", r"pyramid.branches.\1"),
            *conv_modules(r"decode_head\.bottleneck", "bottleneck"),
            *conv_modules(r"decode_head\.lateral_convs\.(\d)", r"laterals.\1"),
            *conv_modules(r"decode_head\.fpn_convs\.(\d)", r"smooth.\1"),
            *conv_modules(r"decode_head\.fpn_bottleneck", "fuse"),
            *_MMSEG_CLASSIFIER,
            *_MMSEG_AUXILIARY,
        ),
        preset={"channels": 512, "level_norm": False, "align_corners": False},
        habits={"dropout": 0.1},
    ),
    Source(
        name="mmsegmentation's PSPNet",
        model="PSPNet",
        marks=(r"backbone\.layer1\.0\.conv3\.", r"decode_head\.psp_modules\."),
        rules=(
            *_MMSEG_BACKBONE,
            *conv_modules(r"decode_head\.psp_modules\.(\d)\.1", r"pyramid.branches.\1"),
            *conv_modules(r"decode_head\.bottleneck", "bottleneck"),
            *_MMSEG_CLASSIFIER,
            *_MMSEG_AUXILIARY,
        ),
        preset={"first_block": "contract", "pyramid_channels": 512, "align_corners": False},
        habits={"output_stride": 8, "dropout": 0.1},
    ),
    Source(
        name="mmsegmentation's semantic FPN",
        model="FPN",
        marks=(r"backbone\.layer1\.", r"neck\.lateral_convs\.", r"decode_head\.scale_heads\."),
        rules=(
            *_MMSEG_BACKBONE,
            (r"neck\.lateral_convs\.(\d)\.conv\.", r"laterals.\1."),
            (r"neck\.fpn_convs\.(\d)\.conv\.", r"smoothing.\1."),
            # Between its convolutions stand layers that double the map, which take numbers too.
            *(
                rule
                for step in range(3)
                for rule in conv_modules(rf"decode_head\.scale_heads\.(\d)\.{2 * step}", rf"branches.\1.{step}")
            ),
            *_MMSEG_CLASSIFIER,
        ),
        preset={"smooth": True, "norm": "bn", "merge": "add", "align_corners": False},
        habits={"dropout": 0.1},
    ),
    Source(
        name="mmsegmentation's PSPNet on ResNet-18 or 34",
        model="PSPNet",
        marks=(r"backbone\.layer1\.", r"decode_head\.psp_modules\."),
        rules=(),
        refusal="its blocks dilate the first of their two convolutions alone, which no encoder of timm does",
    ),
    *(
        Source(name=f"mmsegmentation's {kind}", model=model, marks=marks, rules=(), refusal=why)
        for kind, model, marks, why in (
            (
                "DeepLabV3 or V3+",
                "DeepLabV3",
                (r"decode_head\.aspp_modules\.",),
                "its ASPP is 512 channels wide and joined by a 3x3 convolution, which ours has not",
            ),
            (
                "SegFormer head",
                "SegFormer",
                (r"decode_head\.fusion_conv\.",),
                "its levels have a normalisation each, which ours have not",
            ),
            (
                "FCN",
                "FCN",
                (r"decode_head\.conv_cat\.",),
                "its files do not tell whether the head dilates (FCN-D6, our variant 'd6') or not (FCN-D8, which ours has not)",
            ),
        )
    ),
)
