"""Rules for the networks of segmentation_models_pytorch (SMP)."""

from __future__ import annotations

from imageseg.weights.sources.shared_rules import aspp, mit
from imageseg.weights.sources.source import Rules, Source

# In its own encoders SMP dilates the first block of a stage fully; in timm's ("tu-") it dilates as timm does.
_SMP_ENCODER: Rules = ((r"encoder\.model\.", "encoder."), (r"encoder\.", "encoder."))
_SMP_HEAD: Rules = ((r"segmentation_head\.0\.", "classifier."),)
_ON_TIMM = ((r"encoder\.model\.", {"first_block": "contract"}),)

SMP: tuple[Source, ...] = (
    Source(
        name="SMP's Unet",
        model="UNet",
        name_patterns=(r"encoder\.", r"decoder\.blocks\.0\.conv1\.0\.", r"segmentation_head\."),
        rules=(
            *_SMP_ENCODER,
            (r"decoder\.blocks\.(\d+)\.conv1\.", r"blocks.\1.0."),
            (r"decoder\.blocks\.(\d+)\.conv2\.", r"blocks.\1.1."),
            *(
                (rf"decoder\.blocks\.(\d+)\.attention{number}\.attention\.{theirs}\.", rf"{when}.\1.{ours}.")
                for number, when in ((1, "before"), (2, "after"))
                for theirs, ours in ((r"cSE\.1", "channel.0"), (r"cSE\.3", "channel.2"), (r"sSE\.0", "place.0"))
            ),
            *_SMP_HEAD,
        ),
        required_if=((r"decoder\.blocks\.0\.attention1\.attention\.cSE", {"attention": "scse"}),),
    ),
    Source(
        name="SMP's DeepLabV3Plus",
        model="DeepLabv3_plus",
        name_patterns=(r"encoder\.", r"decoder\.aspp\.0\.convs\.", r"decoder\.block2\."),
        rules=(
            *_SMP_ENCODER,
            # Depthwise, pointwise and normalization are (0.0, 0.1, 1) in SMP and (0, 1, 2) in imageseg.
            *((rf"decoder\.aspp\.0\.convs\.{i}\.0\.", f"aspp.convs.{i}.") for i in (1, 2, 3)),
            *((rf"decoder\.aspp\.0\.convs\.{i}\.1\.", f"aspp.convs.{i}.2.") for i in (1, 2, 3)),
            *aspp(r"decoder\.aspp\.0\."),
            (r"decoder\.aspp\.1\.", "aspp_conv."),
            (r"decoder\.aspp\.2\.", "aspp_conv.2."),
            (r"decoder\.block1\.", "reduce."),
            (r"decoder\.block2\.0\.", "decoder.0."),
            (r"decoder\.block2\.1\.", "decoder.0.2."),
            *_SMP_HEAD,
        ),
        required_arguments={
            "separable": True,
            "norm_between": False,
            "aspp_conv": True,
            "decoder_convs": 1,
            "rates": (12, 24, 36),
            "first_block": "full",
            "align_corners": True,
        },
        training_arguments={"output_stride": 16, "dropout": 0.5},
        required_if=_ON_TIMM,
    ),
    Source(
        name="SMP's DeepLabV3",
        model="DeepLabV3",
        name_patterns=(r"encoder\.", r"decoder\.aspp\.convs\.", r"decoder\.conv\."),
        rules=(
            *_SMP_ENCODER,
            *aspp(r"decoder\.aspp\."),
            (r"decoder\.conv\.", "conv.0."),
            (r"decoder\.bn\.", "conv.1."),
            *_SMP_HEAD,
        ),
        required_arguments={"head_conv": True, "rates": (12, 24, 36), "first_block": "full", "align_corners": True},
        training_arguments={"output_stride": 8, "dropout": 0.5},
        required_if=_ON_TIMM,
    ),
    Source(
        name="SMP's FPN",
        model="FPN",
        name_patterns=(r"encoder\.", r"decoder\.p5\.", r"decoder\.seg_blocks\."),
        rules=(
            *_SMP_ENCODER,
            (r"decoder\.p5\.", "laterals.3."),
            *((rf"decoder\.p{level + 2}\.skip_conv\.", f"laterals.{level}.") for level in (0, 1, 2)),
            # SMP counts levels from the coarsest.
            *((rf"decoder\.seg_blocks\.{3 - i}\.block\.(\d+)\.block\.", rf"branches.{i}.\1.") for i in range(4)),
            *_SMP_HEAD,
        ),
        required_arguments={"smooth": False, "norm": "gn", "merge": "add", "align_corners": True},
        training_arguments={"dropout": 0.2},
    ),
    Source(
        name="SMP's UPerNet",
        model="UPerNet",
        name_patterns=(r"encoder\.", r"decoder\.psp\.out_conv\.", r"decoder\.fpn_lateral_blocks\."),
        rules=(
            *_SMP_ENCODER,
            (r"decoder\.feature_norms\.", "norms."),
            (r"decoder\.psp\.blocks\.(\d)\.1\.", r"pyramid.branches.\1."),
            (r"decoder\.psp\.out_conv\.", "bottleneck."),
            # SMP counts levels from the coarsest.
            *((rf"decoder\.fpn_lateral_blocks\.{2 - i}\.conv_norm_relu\.", f"laterals.{i}.") for i in range(3)),
            *((rf"decoder\.fpn_conv_blocks\.{2 - i}\.", f"smooth.{i}.") for i in range(3)),
            (r"decoder\.fusion_block\.", "fuse."),
            *_SMP_HEAD,
        ),
        required_arguments={"channels": 256, "level_norm": True, "align_corners": True},
    ),
    Source(
        name="SMP's Segformer",
        model="SegFormer",
        name_patterns=(r"encoder\.patch_embed1\.", r"decoder\.mlp_stage\."),
        rules=(
            *mit(r"encoder\."),
            # SMP counts levels from the coarsest.
            *((rf"decoder\.mlp_stage\.{3 - i}\.linear\.", f"linears.{i}.") for i in range(4)),
            (r"decoder\.fuse_stage\.", "fuse."),
            *_SMP_HEAD,
        ),
        required_arguments={"align_corners": True},
    ),
    Source(
        name="SMP's PSPNet",
        model="PSPNet",
        name_patterns=(r"encoder\.", r"decoder\.psp\.blocks\.\d\.pool\."),
        rules=(),
        refusal="it stops at stride 8 without dilation, unlike the PSPNet of the paper; imageseg has no such network",
    ),
)
