"""Rules for networks of single GitHub repositories: VainF, hszhao/semseg, wkentaro and milesial."""

from __future__ import annotations

from imageseg.weights.input_normalization import Pixels
from imageseg.weights.sources.shared_rules import aspp
from imageseg.weights.sources.source import Source

_VGG16 = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
"""The numbers of VGG16's convolutions among all its layers, by the pools between them."""

GITHUB: tuple[Source, ...] = (
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
    Source(
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
    ),
    Source(
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
    ),
    Source(
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
    ),
)
