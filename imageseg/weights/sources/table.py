"""The sources that are known, each as a table of rules: torchvision, SMP, semseg, VainF, wkentaro, milesial, mmsegmentation."""

from __future__ import annotations

from imageseg.weights.input_normalization import Pixels
from imageseg.weights.sources.common import aspp
from imageseg.weights.sources.mmseg import MMSEG, NVLABS
from imageseg.weights.sources.smp import SMP
from imageseg.weights.sources.source import Rules, Source

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_AS_TORCHVISION: Rules = (
    (r"backbone\.", "encoder."),
    (r"aux_classifier\.", "auxiliary."),
)
_TORCHVISION = (
    Source(
        name="torchvision's DeepLabV3 on MobileNetV3",
        model="DeepLabV3",
        marks=(r"backbone\.0\.0\.", r"classifier\.0\.convs\."),
        # Its auxiliary head sits on a finer map than ours.
        rules=(
            (r"backbone\.", "encoder."),
            *aspp(r"classifier\.0\."),
            (r"classifier\.1\.", "conv.0."),
            (r"classifier\.2\.", "conv.1."),
            (r"classifier\.4\.", "classifier."),
        ),
        preset={
            "encoder": "mobilenetv3_large_100",
            "first_block": "full",
            "rates": (12, 24, 36),
            "align_corners": False,
        },
        habits={"output_stride": 16, "dropout": 0.5},
        class_names=VOC_CLASSES,
        encoder_by_order=True,
        encoder_eps=1e-3,
    ),
    Source(
        name="torchvision's DeepLabV3",
        model="DeepLabV3",
        marks=(r"backbone\.conv1\.", r"classifier\.0\.convs\.", r"classifier\.4\."),
        rules=(
            *_AS_TORCHVISION,
            *aspp(r"classifier\.0\."),
            (r"classifier\.1\.", "conv.0."),
            (r"classifier\.2\.", "conv.1."),
            (r"classifier\.4\.", "classifier."),
        ),
        preset={"head_conv": True, "first_block": "contract", "align_corners": False},
        habits={"output_stride": 8, "dropout": 0.5},
        class_names=VOC_CLASSES,
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
        class_names=VOC_CLASSES,
        encoder_by_order=True,
    ),
    Source(
        name="torchvision's FCN",
        model="FCN",
        marks=(r"backbone\.conv1\.", r"classifier\.0\.weight", r"classifier\.4\."),
        rules=(*_AS_TORCHVISION, (r"classifier\.", "head.")),
        preset={"variant": "dilated", "first_block": "contract", "align_corners": False},
        class_names=VOC_CLASSES,
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
            *aspp(r"classifier\.aspp\."),
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
            *aspp(r"classifier\.classifier\.0\."),
            (r"classifier\.classifier\.1\.", "conv.0."),
            (r"classifier\.classifier\.2\.", "conv.1."),
            (r"classifier\.classifier\.4\.", "classifier."),
        ),
        preset={"head_conv": True, "first_block": "contract", "align_corners": False},
        habits={"output_stride": 16, "dropout": 0.1},
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

SOURCES: tuple[Source, ...] = (*_TORCHVISION, *_VAINF, *SMP, _SEMSEG, NVLABS, *MMSEG, _WKENTARO, _MILESIAL)
"""In the order in which they are tried: the more particular marks first."""
