"""Second opinions on gradient methods, where the reference note finds the peers right.

Not asked: torch-cam's GradCAMpp (its alpha stays ``g^2``) and SmoothGradCAMpp, every peer's normalised maps (absolute
epsilons), their maps of a layer that is changed in place afterwards, and XGradCAM on maps with negative values.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

import explain
from explain.saliency.gradient import eigen_cam, eigen_grad_cam

CLASSES = [1, 999, 500]
ROWS = [[c] for c in CLASSES]


class Bent(nn.Module):
    """ResNet-18 whose head is not affine, so that gradients differ between images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = models.resnet18(weights=None)
        self.net.fc = nn.Sequential(nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 1000))

    def forward(self, x):
        return self.net(x)


@pytest.fixture(scope="module")
def bent():
    model = Bent()
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 96, 96))
        model.net.fc[0].weight.mul_(20)
    return model.eval(), torch.randn(3, 3, 96, 96)


LAYERS = ["net.layer4", "net.layer3"]


def ours(bent, method, layer):
    model, x = bent
    return explain.attribute(model, x, method, ROWS, layer=layer).values[:, 0]


def check(theirs, mine, tolerance=1e-4):
    scale = float(mine.abs().max())
    assert scale > 0
    assert float((torch.as_tensor(theirs) - mine).abs().max()) < tolerance * scale


@pytest.mark.parametrize("layer", LAYERS)
def test_captum(bent, layer):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, x = bent
    found = attr.LayerGradCam(model, model.get_submodule(layer)).attribute(x, CLASSES, relu_attributions=True)
    check(found.detach()[:, 0], ours(bent, "gradcam", layer))
    products = attr.LayerGradientXActivation(model, model.get_submodule(layer)).attribute(x, CLASSES)
    check(products.detach().sum(1).relu(), ours(bent, "hirescam", layer))
    check(products.detach().relu().sum(1), ours(bent, "elementwise", layer))


def test_captum_before_a_change_in_place(bent):
    """``out += identity`` and an in-place ReLU follow this layer: captum clones, as explain does."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, x = bent
    layer = "net.layer4.1.bn2"
    products = attr.LayerGradientXActivation(model, model.get_submodule(layer)).attribute(x, CLASSES)
    check(products.detach().sum(1).relu(), ours(bent, "hirescam", layer))


def test_captum_on_densenet():
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    torch.manual_seed(0)
    model = models.densenet121(weights=None)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 64, 64))
    x = torch.randn(2, 3, 64, 64)
    found = attr.LayerGradCam(model.eval(), model.features).attribute(x, [3, 7], relu_attributions=True)
    mine = explain.attribute(model, x, "gradcam", [[3], [7]], layer="features").values
    check(found.detach(), mine)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", ["GradCAM", "LayerCAM", "XGradCAM"])
def test_torchcam(bent, layer, name):
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed")
    model, x = bent
    with getattr(methods, name)(model, target_layer=layer) as extractor:
        scores = model(x)
        (found,) = extractor(CLASSES, scores, normalized=False)
    # Its XGradCAM adds 1e-8 to the denominator.
    check(found.detach(), ours(bent, name.lower(), layer), 1e-3)


def theirs(bent, name, layer):
    """Raw maps of pytorch-grad-cam, neither scaled nor resized, with the map and gradient that it saw."""
    cams = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, x = bent
    with getattr(cams, name)(model=model, target_layers=[model.get_submodule(layer)]) as cam:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = cam.activations_and_grads(x)
            targets = [ClassifierOutputTarget(c) for c in CLASSES]
            model.zero_grad()
            sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
            a = cam.activations_and_grads.activations[0].numpy()
            g = cam.activations_and_grads.gradients[0].numpy()
            found = cam.get_cam_image(x, model.get_submodule(layer), targets, a, g, False)
    model.zero_grad(set_to_none=True)
    return torch.as_tensor(np.asarray(found)), torch.as_tensor(a), torch.as_tensor(g)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("name", "method", "tolerance"),
    [
        ("GradCAM", "gradcam", 1e-4),
        ("HiResCAM", "hirescam", 1e-4),
        ("GradCAMElementWise", "elementwise", 1e-4),
        ("LayerCAM", "layercam", 1e-4),
        ("XGradCAM", "xgradcam", 1e-3),  # an epsilon in the denominator
    ],
)
def test_pytorch_grad_cam(bent, layer, name, method, tolerance):
    found, _, _ = theirs(bent, name, layer)
    check(found.relu(), ours(bent, method, layer), tolerance)


def test_pytorch_grad_cams_plus_plus(bent):
    """Its epsilon of 1e-6 in the denominator counts where gradients are small: here they are made large."""
    model, x = bent
    with torch.no_grad():
        model.net.fc[2].weight.mul_(1e4)
    found, _, _ = theirs(bent, "GradCAMPlusPlus", "net.layer4")
    mine = ours(bent, "gradcam++", "net.layer4")
    with torch.no_grad():
        model.net.fc[2].weight.div_(1e4)
    check(found.relu(), mine, 1e-2)


def test_pytorch_grad_cams_eigenvectors(bent):
    """Up to sign, which is arbitrary there."""
    for name, formula in (("EigenCAM", eigen_cam), ("EigenGradCAM", eigen_grad_cam)):
        found, a, g = theirs(bent, name, "net.layer3")
        mine = formula(a, g[:, None])[:, 0]
        for one, other in zip(found, mine, strict=True):
            sign = torch.sign((one * other).sum())
            check(one * sign, other, 1e-3)
