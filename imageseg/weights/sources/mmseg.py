"""Rules for the networks of mmsegmentation and of NVlabs' SegFormer, which is built on it."""

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
        name_patterns=(r"backbone\.patch_embed1\.", r"decode_head\.linear_c1\."),
        rules=(
            *mit(r"backbone\."),
            *((rf"decode_head\.linear_c{i + 1}\.proj\.", f"linears.{i}.") for i in range(4)),
            *conv_modules(r"decode_head\.linear_fuse", "fuse"),
            (r"decode_head\.linear_pred\.", "classifier."),
        ),
        required_arguments={"align_corners": False},
    ),
    Source(
        name="mmsegmentation's UPerNet",
        model="UPerNet",
        name_patterns=(r"backbone\.layer1\.", r"decode_head\.psp_modules\.", r"decode_head\.lateral_convs\."),
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
        required_arguments={"channels": 512, "level_norm": False, "align_corners": False},
        training_arguments={"dropout": 0.1},
    ),
    Source(
        name="mmsegmentation's PSPNet",
        model="PSPNet",
        name_patterns=(r"backbone\.layer1\.0\.conv3\.", r"decode_head\.psp_modules\."),
        rules=(
            *_MMSEG_BACKBONE,
            *conv_modules(r"decode_head\.psp_modules\.(\d)\.1", r"pyramid.branches.\1"),
            *conv_modules(r"decode_head\.bottleneck", "bottleneck"),
            *_MMSEG_CLASSIFIER,
            *_MMSEG_AUXILIARY,
        ),
        required_arguments={"first_block": "contract", "pyramid_channels": 512, "align_corners": False},
        training_arguments={"output_stride": 8, "dropout": 0.1},
    ),
    Source(
        name="mmsegmentation's semantic FPN",
        model="FPN",
        name_patterns=(r"backbone\.layer1\.", r"neck\.lateral_convs\.", r"decode_head\.scale_heads\."),
        rules=(
            *_MMSEG_BACKBONE,
            (r"neck\.lateral_convs\.(\d)\.conv\.", r"laterals.\1."),
            (r"neck\.fpn_convs\.(\d)\.conv\.", r"smoothing.\1."),
            # Upsampling layers between the convolutions are numbered too.
            *(
                rule
                for step in range(3)
                for rule in conv_modules(rf"decode_head\.scale_heads\.(\d)\.{2 * step}", rf"branches.\1.{step}")
            ),
            *_MMSEG_CLASSIFIER,
        ),
        required_arguments={"smooth": True, "norm": "bn", "merge": "add", "align_corners": False},
        training_arguments={"dropout": 0.1},
    ),
    Source(
        name="mmsegmentation's PSPNet on ResNet-18 or 34",
        model="PSPNet",
        name_patterns=(r"backbone\.layer1\.", r"decode_head\.psp_modules\."),
        rules=(),
        refusal="its blocks dilate only the first of their two convolutions, unlike every encoder of timm",
    ),
    *(
        Source(name=f"mmsegmentation's {kind}", model=model, name_patterns=marks, rules=(), refusal=why)
        for kind, model, marks, why in (
            (
                "DeepLabV3 or V3+",
                "DeepLabV3",
                (r"decode_head\.aspp_modules\.",),
                "its ASPP has 512 channels and is followed by a 3x3 convolution, unlike ours",
            ),
            (
                "SegFormer head",
                "SegFormer",
                (r"decode_head\.fusion_conv\.",),
                "it normalizes every level, unlike ours",
            ),
            (
                "FCN",
                "FCN",
                (r"decode_head\.conv_cat\.",),
                "its files do not tell whether the head dilates (FCN-D6, our variant 'd6') or not (FCN-D8, which imageseg lacks)",
            ),
        )
    ),
)
