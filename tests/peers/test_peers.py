"""Second opinions on class activation maps: captum and torch-cam."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

import explain


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = models.resnet18(weights=None)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 96, 96))
    return model.eval(), torch.randn(3, 3, 96, 96)


CLASSES = [[1], [999], [500]]


def test_captums_grad_cam(net):
    """On a net that ends in GAP and one linear layer, Grad-CAM before its ReLU is CAM / (h w)."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, x = net
    theirs = attr.LayerGradCam(model, model.layer4).attribute(x, target=[row[0] for row in CLASSES])
    ours = explain.cam(model, x, CLASSES).values
    torch.testing.assert_close(theirs.detach() * 9, ours, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))


def test_torchcams_cam(net):
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed")
    model, x = net
    with methods.CAM(model, target_layer="layer4", fc_layer="fc") as extractor, torch.no_grad():
        model(x)
        (theirs,) = extractor([row[0] for row in CLASSES], normalized=False)
    ours = explain.cam(model, x, CLASSES).values[:, 0]
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))


def test_torchcams_grad_cam(net):
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed")
    model, x = net
    with methods.GradCAM(model, target_layer="layer4") as extractor:
        scores = model(x)
        (theirs,) = extractor([row[0] for row in CLASSES], scores, normalized=False)
    ours = explain.cam(model, x, CLASSES).values[:, 0].relu()
    torch.testing.assert_close(theirs.detach() * 9, ours, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))
