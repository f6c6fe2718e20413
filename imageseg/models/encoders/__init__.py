"""Encoders: ``timm_encoder`` (feature pyramids of timm networks), ``vgg`` (with pooling indices) and ``vit`` (plain vision
transformers); ``families``, ``dilation`` and ``wheels`` hold the details of timm networks."""
