"""Networks of the published figures that torchvision has no name for: give their weights by --weights."""

from torch import nn
from torchvision import models

from explain.nets import to_pooled


def resnet18_places365():
    """Return ResNet-18 with the 365 scenes of Places365, as the file resnet18_places365.pth.tar was trained."""
    return models.resnet18(num_classes=365)


def fine_resnet50(classes=1000):
    """Return ResNet-50 as wsolevaluation changed it: the last stage keeps its input's resolution (14 x 14 at 224)."""
    net = models.resnet50(num_classes=classes)
    first = net.layer4[0]
    first.conv2.stride = (1, 1)
    first.downsample[0].stride = (1, 1)
    return net


def fine_resnet50_cub():
    return fine_resnet50(200)


def fine_resnet50_openimages():
    return fine_resnet50(100)


def googlenet_gap():
    return _gap(models.googlenet(aux_logits=False, init_weights=False))


def vgg16_gap():
    return _gap(models.vgg16(init_weights=False))


def alexnet_gap():
    return _gap(models.alexnet())


def _gap(net: nn.Module) -> nn.Module:
    """Return the CAM paper's form of a network: cut at a fine map, one convolution of 1024 units, mean, linear."""
    return to_pooled(net, "avg", classes=1000)
