"""Rules for networks of single GitHub repositories: VainF, hszhao/semseg, wkentaro and milesial."""

from __future__ import annotations

from imageseg.weights.input_normalization import InputNormalization
from imageseg.weights.sources.shared_rules import aspp
from imageseg.weights.sources.source import Source

_VGG16 = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
"""Block number -> positions of its convolutions among all layers of VGG16."""

GITHUB: tuple[Source, ...] = (
    Source(
        name="VainF's DeepLabV3+",
        model="DeepLabv3_plus",
        name_patterns=(r"backbone\.conv1\.", r"classifier\.project\.", r"classifier\.aspp\."),
        rules=(
            (r"backbone\.", "encoder."),
            (r"classifier\.project\.", "reduce."),
            *aspp(r"classifier\.aspp\."),
            (r"classifier\.classifier\.([01])\.", r"decoder.0.\1."),
            (r"classifier\.classifier\.3\.", "classifier."),
        ),
        required_arguments={"decoder_convs": 1, "separable": False, "first_block": "contract", "align_corners": False},
        training_arguments={"output_stride": 16, "dropout": 0.1},
    ),
    Source(
        name="VainF's DeepLabV3",
        model="DeepLabV3",
        name_patterns=(r"backbone\.conv1\.", r"classifier\.classifier\.0\.convs\."),
        rules=(
            (r"backbone\.", "encoder."),
            *aspp(r"classifier\.classifier\.0\."),
            (r"classifier\.classifier\.1\.", "conv.0."),
            (r"classifier\.classifier\.2\.", "conv.1."),
            (r"classifier\.classifier\.4\.", "classifier."),
        ),
        required_arguments={"head_conv": True, "first_block": "contract", "align_corners": False},
        training_arguments={"output_stride": 16, "dropout": 0.1},
    ),
    Source(
        name="hszhao/semseg's PSPNet",
        model="PSPNet",
        name_patterns=(r"layer0\.0\.", r"ppm\.features\.", r"cls\.4\."),
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
        required_arguments={"first_block": "full", "align_corners": True},
        training_arguments={"output_stride": 8},
    ),
    Source(
        name="wkentaro's FCN",
        model="FCN",
        name_patterns=(r"conv1_1\.", r"fc6\.", r"score_fr\."),
        # No rules for the upsampling kernels: they are fixed.
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
        required_arguments={"variant": "32s", "pad": "caffe", "encoder": "vgg16"},
        required_if=((r"score_pool4\.", {"variant": "16s"}), (r"score_pool3\.", {"variant": "8s"})),
        input_normalization=InputNormalization("bgr", mean=(104.00698793, 116.66876762, 122.67891434), std=(1, 1, 1)),
    ),
    Source(
        name="milesial's UNet",
        model="UNetClassic",
        name_patterns=(r"inc\.double_conv\.", r"down4\.maxpool_conv\.", r"outc\.conv\."),
        rules=(
            (r"inc\.double_conv\.", "encoder.0."),
            (r"down(\d)\.maxpool_conv\.1\.double_conv\.", r"encoder.\1."),
            *((rf"up{i + 1}\.up\.", f"ups.{i}.") for i in range(4)),
            *((rf"up{i + 1}\.conv\.double_conv\.", f"decoder.{i}.") for i in range(4)),
            (r"outc\.conv\.", "classifier."),
        ),
        required_arguments={"up": "bilinear", "align_corners": True},
        required_if=((r"up1\.up\.weight", {"up": "deconv", "align_corners": False}),),
        input_normalization=InputNormalization("rgb", mean=(0, 0, 0), std=(255, 255, 255)),
    ),
)
