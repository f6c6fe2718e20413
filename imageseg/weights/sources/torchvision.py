"""Rules for the segmentation networks of torchvision."""

from __future__ import annotations

from imageseg.weights.sources.shared_rules import aspp
from imageseg.weights.sources.source import Rules, Source

_VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_ENCODER_AND_AUXILIARY: Rules = (
    (r"backbone\.", "encoder."),
    (r"aux_classifier\.", "auxiliary."),
)
TORCHVISION: tuple[Source, ...] = (
    Source(
        name="torchvision's DeepLabV3 on MobileNetV3",
        model="DeepLabV3",
        name_patterns=(r"backbone\.0\.0\.", r"classifier\.0\.convs\."),
        # No rule for the auxiliary head: it uses a finer feature map than ours.
        rules=(
            (r"backbone\.", "encoder."),
            *aspp(r"classifier\.0\."),
            (r"classifier\.1\.", "conv.0."),
            (r"classifier\.2\.", "conv.1."),
            (r"classifier\.4\.", "classifier."),
        ),
        required_arguments={
            "encoder": "mobilenetv3_large_100",
            "first_block": "full",
            "rates": (12, 24, 36),
            "align_corners": False,
        },
        training_arguments={"output_stride": 16, "dropout": 0.5},
        class_names=_VOC_CLASSES,
        encoder_by_order=True,
        encoder_epsilon=1e-3,
    ),
    Source(
        name="torchvision's DeepLabV3",
        model="DeepLabV3",
        name_patterns=(r"backbone\.conv1\.", r"classifier\.0\.convs\.", r"classifier\.4\."),
        rules=(
            *_ENCODER_AND_AUXILIARY,
            *aspp(r"classifier\.0\."),
            (r"classifier\.1\.", "conv.0."),
            (r"classifier\.2\.", "conv.1."),
            (r"classifier\.4\.", "classifier."),
        ),
        required_arguments={"head_conv": True, "first_block": "contract", "align_corners": False},
        training_arguments={"output_stride": 8, "dropout": 0.5},
        class_names=_VOC_CLASSES,
    ),
    Source(
        name="torchvision's LRASPP",
        model="LRASPP",
        name_patterns=(r"backbone\.0\.0\.", r"classifier\.cbr\."),
        rules=(
            (r"backbone\.", "encoder."),
            (r"classifier\.cbr\.", "project."),
            (r"classifier\.scale\.1\.", "gate.0."),
            (r"classifier\.(low|high)_classifier\.", r"\1_classifier."),
        ),
        required_arguments={"encoder": "mobilenetv3_large_100", "norm_epsilon": 0.001},
        training_arguments={"output_stride": 16},
        class_names=_VOC_CLASSES,
        encoder_by_order=True,
    ),
    Source(
        name="torchvision's FCN",
        model="FCN",
        name_patterns=(r"backbone\.conv1\.", r"classifier\.0\.weight", r"classifier\.4\."),
        rules=(*_ENCODER_AND_AUXILIARY, (r"classifier\.", "head.")),
        required_arguments={"variant": "dilated", "first_block": "contract", "align_corners": False},
        class_names=_VOC_CLASSES,
    ),
)
