"""The sources that are known, each as a table of rules: torchvision, SMP, semseg, VainF, wkentaro, milesial, mmsegmentation."""

from __future__ import annotations

from imageseg.models.weights.pixels import Pixels
from imageseg.models.weights.sources import Rules, Source

VOC_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor"
).split()

_AS_TORCHVISION: Rules = (
    (r"backbone\.", "encoder."),
    (r"aux_classifier\.", "auxiliary."),
)
_ASPP_IN = {
    "torchvision": r"classifier\.0\.",
    "VainF 3": r"classifier\.classifier\.0\.",
    "VainF 3+": r"classifier\.aspp\.",
    "SMP 3": r"decoder\.aspp\.",
    "SMP 3+": r"decoder\.aspp\.0\.",
}
"""Where torchvision's ASPP, which all of them share, hangs in each."""


def _aspp(where: str) -> Rules:
    inside = _ASPP_IN[where]
    return (
        (rf"{inside}convs\.4\.1\.", "aspp.pooled.0."),
        (rf"{inside}convs\.4\.2\.", "aspp.pooled.1."),
        (inside, "aspp."),
    )


_TORCHVISION = (
    Source(
        name="torchvision's DeepLabV3 on MobileNetV3",
        model="DeepLabV3",
        marks=(r"backbone\.0\.0\.", r"classifier\.0\.convs\."),
        # Its auxiliary head sits on a finer map than ours.
        rules=(
            (r"backbone\.", "encoder."),
            *_aspp("torchvision"),
            (r"classifier\.1\.", "conv.0."),
            (r"classifier\.2\.", "conv.1."),
            (r"classifier\.4\.", "classifier."),
        ),
        preset={"encoder": "mobilenetv3_large_100", "first_block": "full", "rates": (12, 24, 36), "align_corners": False},
        habits={"output_stride": 16, "dropout": 0.5},
        class_names=tuple(VOC_CLASSES),
        encoder_by_order=True,
        encoder_eps=1e-3,
    ),
    Source(
        name="torchvision's DeepLabV3",
        model="DeepLabV3",
        marks=(r"backbone\.conv1\.", r"classifier\.0\.convs\.", r"classifier\.4\."),
        rules=(
            *_AS_TORCHVISION,
            *_aspp("torchvision"),
            (r"classifier\.1\.", "conv.0."),
            (r"classifier\.2\.", "conv.1."),
            (r"classifier\.4\.", "classifier."),
        ),
        preset={"head_conv": True, "first_block": "contract", "align_corners": False},
        habits={"output_stride": 8, "dropout": 0.5},
        class_names=tuple(VOC_CLASSES),
    ),
    Source(
        name="torchvision's LRASPP",
        model="LRASPP",
        marks=(r"backbone\.0\.0\.", r"classifier\.cbr\."),
        rules=(
            (r"backbone\.", "encoder."),
            (r"classifier\.cbr\.", "project."),
            (r"classifier\.scale\.1\.", "gate.0."),
            (r"classifier\.(low|high)_classifier\.", r"\1_classifier."),
        ),
        preset={"encoder": "mobilenetv3_large_100", "norm_epsilon": 0.001},
        habits={"output_stride": 16},
        class_names=tuple(VOC_CLASSES),
        classifier="high_classifier.weight",
        encoder_by_order=True,
    ),
    Source(
        name="torchvision's FCN",
        model="FCN",
        marks=(r"backbone\.conv1\.", r"classifier\.0\.weight", r"classifier\.4\."),
        rules=(*_AS_TORCHVISION, (r"classifier\.", "head.")),
        preset={"variant": "dilated", "first_block": "contract", "align_corners": False},
        class_names=tuple(VOC_CLASSES),
        classifier="head.4.weight",
    ),
)

_VAINF = (
    Source(
        name="VainF's DeepLabV3+",
        model="DeepLabv3_plus",
        marks=(r"backbone\.conv1\.", r"classifier\.project\.", r"classifier\.aspp\."),
        rules=(
            (r"backbone\.", "encoder."),
            (r"classifier\.project\.", "reduce."),
            *_aspp("VainF 3+"),
            (r"classifier\.classifier\.([01])\.", r"decoder.0.\1."),
            (r"classifier\.classifier\.3\.", "classifier."),
        ),
        preset={"decoder_convs": 1, "separable": False, "first_block": "contract", "align_corners": False},
        habits={"output_stride": 16, "dropout": 0.1},
    ),
    Source(
        name="VainF's DeepLabV3",
        model="DeepLabV3",
        marks=(r"backbone\.conv1\.", r"classifier\.classifier\.0\.convs\."),
        rules=(
            (r"backbone\.", "encoder."),
            *_aspp("VainF 3"),
            (r"classifier\.classifier\.1\.", "conv.0."),
            (r"classifier\.classifier\.2\.", "conv.1."),
            (r"classifier\.classifier\.4\.", "classifier."),
        ),
        preset={"head_conv": True, "first_block": "contract", "align_corners": False},
        habits={"output_stride": 16, "dropout": 0.1},
    ),
)

# On encoders of its own, SMP dilates the first block of a stage at once; on timm's ("tu-") it does what timm does.
_SMP_ENCODER: Rules = ((r"encoder\.model\.", "encoder."), (r"encoder\.", "encoder."))
_SMP_HEAD: Rules = ((r"segmentation_head\.0\.", "classifier."),)
_ON_TIMM = ((r"encoder\.model\.", {"first_block": "contract"}),)


def _mit(where: str) -> Rules:
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


_SMP = (
    Source(
        name="SMP's Unet",
        model="UNet",
        marks=(r"encoder\.", r"decoder\.blocks\.0\.conv1\.0\.", r"segmentation_head\."),
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
        when=((r"decoder\.blocks\.0\.attention1\.attention\.cSE", {"attention": "scse"}),),
    ),
    Source(
        name="SMP's DeepLabV3Plus",
        model="DeepLabv3_plus",
        marks=(r"encoder\.", r"decoder\.aspp\.0\.convs\.", r"decoder\.block2\."),
        rules=(
            *_SMP_ENCODER,
            # Depthwise, pointwise and normalisation are (0.0, 0.1, 1) there and (0, 1, 2) here.
            *((rf"decoder\.aspp\.0\.convs\.{i}\.0\.", f"aspp.convs.{i}.") for i in (1, 2, 3)),
            *((rf"decoder\.aspp\.0\.convs\.{i}\.1\.", f"aspp.convs.{i}.2.") for i in (1, 2, 3)),
            *_aspp("SMP 3+"),
            (r"decoder\.aspp\.1\.", "aspp_conv."),
            (r"decoder\.aspp\.2\.", "aspp_conv.2."),
            (r"decoder\.block1\.", "reduce."),
            (r"decoder\.block2\.0\.", "decoder.0."),
            (r"decoder\.block2\.1\.", "decoder.0.2."),
            *_SMP_HEAD,
        ),
        preset={
            "separable": True,
            "norm_between": False,
            "aspp_conv": True,
            "decoder_convs": 1,
            "rates": (12, 24, 36),
            "first_block": "full",
            "align_corners": True,
        },
        habits={"output_stride": 16, "dropout": 0.5},
        when=_ON_TIMM,
    ),
    Source(
        name="SMP's DeepLabV3",
        model="DeepLabV3",
        marks=(r"encoder\.", r"decoder\.aspp\.convs\.", r"decoder\.conv\."),
        rules=(
            *_SMP_ENCODER,
            *_aspp("SMP 3"),
            (r"decoder\.conv\.", "conv.0."),
            (r"decoder\.bn\.", "conv.1."),
            *_SMP_HEAD,
        ),
        preset={"head_conv": True, "rates": (12, 24, 36), "first_block": "full", "align_corners": True},
        habits={"output_stride": 8, "dropout": 0.5},
        when=_ON_TIMM,
    ),
    Source(
        name="SMP's FPN",
        model="FPN",
        marks=(r"encoder\.", r"decoder\.p5\.", r"decoder\.seg_blocks\."),
        rules=(
            *_SMP_ENCODER,
            (r"decoder\.p5\.", "laterals.3."),
            *((rf"decoder\.p{level + 2}\.skip_conv\.", f"laterals.{level}.") for level in (0, 1, 2)),
            # Theirs count from the coarsest.
            *((rf"decoder\.seg_blocks\.{3 - i}\.block\.(\d+)\.block\.", rf"branches.{i}.\1.") for i in range(4)),
            *_SMP_HEAD,
        ),
        preset={"smooth": False, "norm": "gn", "merge": "add", "align_corners": True},
        habits={"dropout": 0.2},
    ),
    Source(
        name="SMP's UPerNet",
        model="UPerNet",
        marks=(r"encoder\.", r"decoder\.psp\.out_conv\.", r"decoder\.fpn_lateral_blocks\."),
        rules=(
            *_SMP_ENCODER,
            (r"decoder\.feature_norms\.", "norms."),
            (r"decoder\.psp\.blocks\.(\d)\.1\.", r"pyramid.branches.\1."),
            (r"decoder\.psp\.out_conv\.", "bottleneck."),
            # Theirs count from the coarsest.
            *((rf"decoder\.fpn_lateral_blocks\.{2 - i}\.conv_norm_relu\.", f"laterals.{i}.") for i in range(3)),
            *((rf"decoder\.fpn_conv_blocks\.{2 - i}\.", f"smooth.{i}.") for i in range(3)),
            (r"decoder\.fusion_block\.", "fuse."),
            *_SMP_HEAD,
        ),
        preset={"channels": 256, "level_norm": True, "align_corners": True},
    ),
    Source(
        name="SMP's Segformer",
        model="SegFormer",
        marks=(r"encoder\.patch_embed1\.", r"decoder\.mlp_stage\."),
        rules=(
            *_mit(r"encoder\."),
            # Theirs count from the coarsest.
            *((rf"decoder\.mlp_stage\.{3 - i}\.linear\.", f"linears.{i}.") for i in range(4)),
            (r"decoder\.fuse_stage\.", "fuse."),
            *_SMP_HEAD,
        ),
        preset={"align_corners": True},
    ),
    Source(
        name="SMP's PSPNet",
        model="PSPNet",
        marks=(r"encoder\.", r"decoder\.psp\.blocks\.\d\.pool\."),
        rules=(),
        refusal="it stops at stride 8 and dilates nothing, so it is not the PSPNet of the paper and there is no network for it here",
    ),
)

_SEMSEG = Source(
    name="hszhao/semseg's PSPNet",
    model="PSPNet",
    marks=(r"layer0\.0\.", r"ppm\.features\.", r"cls\.4\."),
    rules=(
        (r"layer0\.7\.", "encoder.bn1."),
        (r"layer0\.", "encoder.conv1."),
        (r"layer(\d)\.", r"encoder.layer\1."),
        (r"ppm\.features\.(\d)\.1\.", r"pyramid.branches.\1.0."),
        (r"ppm\.features\.(\d)\.2\.", r"pyramid.branches.\1.1."),
        (r"cls\.([01])\.", r"bottleneck.\1."),
        (r"cls\.4\.", "classifier."),
        (r"aux\.", "auxiliary."),
    ),
    preset={"first_block": "full", "align_corners": True},
    habits={"output_stride": 8},
)

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


def _conv_modules(theirs: str, ours: str) -> Rules:
    """mmsegmentation's convolution and normalisation by name, ours by number."""
    return (rf"{theirs}\.conv\.", f"{ours}.0."), (rf"{theirs}\.bn\.", f"{ours}.1.")


_MMSEG = (
    Source(
        name="mmsegmentation's UPerNet",
        model="UPerNet",
        marks=(r"backbone\.layer1\.", r"decode_head\.psp_modules\.", r"decode_head\.lateral_convs\."),
        rules=(
            *_MMSEG_BACKBONE,
            *_conv_modules(r"decode_head\.psp_modules\.(\d)\.1", r"pyramid.branches.\1"),
            *_conv_modules(r"decode_head\.bottleneck", "bottleneck"),
            *_conv_modules(r"decode_head\.lateral_convs\.(\d)", r"laterals.\1"),
            *_conv_modules(r"decode_head\.fpn_convs\.(\d)", r"smooth.\1"),
            *_conv_modules(r"decode_head\.fpn_bottleneck", "fuse"),
            *_MMSEG_CLASSIFIER,
            *_MMSEG_AUXILIARY,
        ),
        preset={"channels": 512, "level_norm": False, "align_corners": False},
        habits={"dropout": 0.1},
    ),
    Source(
        name="mmsegmentation's PSPNet",
        model="PSPNet",
        marks=(r"backbone\.layer1\.", r"decode_head\.psp_modules\."),
        rules=(
            *_MMSEG_BACKBONE,
            *_conv_modules(r"decode_head\.psp_modules\.(\d)\.1", r"pyramid.branches.\1"),
            *_conv_modules(r"decode_head\.bottleneck", "bottleneck"),
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
                for rule in _conv_modules(rf"decode_head\.scale_heads\.(\d)\.{2 * step}", rf"branches.\1.{step}")
            ),
            *_MMSEG_CLASSIFIER,
        ),
        preset={"smooth": True, "norm": "bn", "merge": "add", "align_corners": False},
        habits={"dropout": 0.1},
    ),
    *(
        Source(name=f"mmsegmentation's {kind}", model=model, marks=marks, rules=(), refusal=f"{why}, which ours has not")
        for kind, model, marks, why in (
            (
                "DeepLabV3 or V3+",
                "DeepLabV3",
                (r"decode_head\.aspp_modules\.",),
                "its ASPP is 512 channels wide and joined by a 3x3 convolution",
            ),
            ("SegFormer head", "SegFormer", (r"decode_head\.fusion_conv\.",), "its levels have a normalisation each"),
            ("FCN", "FCN", (r"decode_head\.conv_cat\.",), "its head is two convolutions joined with their input"),
        )
    ),
)

_NVLABS = Source(
    name="NVlabs' SegFormer",
    model="SegFormer",
    marks=(r"backbone\.patch_embed1\.", r"decode_head\.linear_c1\."),
    rules=(
        *_mit(r"backbone\."),
        *((rf"decode_head\.linear_c{i + 1}\.proj\.", f"linears.{i}.") for i in range(4)),
        *_conv_modules(r"decode_head\.linear_fuse", "fuse"),
        (r"decode_head\.linear_pred\.", "classifier."),
    ),
    preset={"align_corners": False},
)

_VGG16 = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
"""The numbers of VGG16's convolutions among all its layers, by the pools between them."""

_WKENTARO = Source(
    name="wkentaro's FCN",
    model="FCN",
    marks=(r"conv1_1\.", r"fc6\.", r"score_fr\."),
    # Its kernels that enlarge are fixed, so that ours need none of the file.
    rules=(
        *(
            (rf"conv{block}_{place}\.", f"encoder.features.{layer}.")
            for block, layers in _VGG16.items()
            for place, layer in enumerate(layers, start=1)
        ),
        (r"fc([67])\.", r"head.fc\1."),
        (r"score_fr\.", "head.scores.0."),
        (r"score_pool4\.", "head.scores.1."),
        (r"score_pool3\.", "head.scores.2."),
    ),
    preset={"variant": "32s", "pad": "caffe", "encoder": "vgg16"},
    when=((r"score_pool4\.", {"variant": "16s"}), (r"score_pool3\.", {"variant": "8s"})),
    classifier="head.scores.0.weight",
    pixels=Pixels("bgr", mean=(104.00698793, 116.66876762, 122.67891434), std=(1, 1, 1)),
)

_MILESIAL = Source(
    name="milesial's UNet",
    model="UNetClassic",
    marks=(r"inc\.double_conv\.", r"down4\.maxpool_conv\.", r"outc\.conv\."),
    rules=(
        (r"inc\.double_conv\.", "encoder.0."),
        (r"down(\d)\.maxpool_conv\.1\.double_conv\.", r"encoder.\1."),
        *((rf"up{i + 1}\.up\.", f"ups.{i}.") for i in range(4)),
        *((rf"up{i + 1}\.conv\.double_conv\.", f"decoder.{i}.") for i in range(4)),
        (r"outc\.conv\.", "classifier."),
    ),
    preset={"up": "bilinear", "align_corners": True},
    when=((r"up1\.up\.weight", {"up": "deconv", "align_corners": False}),),
    pixels=Pixels("rgb", mean=(0, 0, 0), std=(255, 255, 255)),
)

SOURCES: tuple[Source, ...] = (*_TORCHVISION, *_VAINF, *_SMP, _SEMSEG, _NVLABS, *_MMSEG, _WKENTARO, _MILESIAL)
"""In the order in which they are tried: the more particular marks first."""
