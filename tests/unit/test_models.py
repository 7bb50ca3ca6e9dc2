"""Exactness on torchvision's networks, with random weights and BatchNorm statistics filled by one pass."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

import explain
from explain.errors import ModelError
from explain.nets import anatomy


def made(name, side):
    """The network with statistics filled, and two images."""
    torch.manual_seed(0)
    net = models.get_model(name, weights=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.randn(4, 3, side, side)
    with torch.no_grad():
        net.train()(images)
    return net.eval(), images[:2]


EXACT = [
    ("mobilenet_v2", 96, "features"),
    ("resnet18", 96, "layer4"),
    ("resnet50", 96, "layer4"),
    ("densenet121", 96, "features:relu"),
    ("efficientnet_b0", 96, "features"),
    ("regnet_y_400mf", 96, "trunk_output"),
    ("shufflenet_v2_x1_0", 96, "conv5"),
    ("swin_t", 128, "permute"),
    ("squeezenet1_1", 96, "classifier.2"),
]


@pytest.mark.parametrize(("name", "side", "layer"), EXACT)
def test_maps_add_up_to_the_logits(name, side, layer):
    net, images = made(name, side)
    with torch.no_grad():
        logits = net(images)
    largest = logits.abs().amax(1)
    assert float(largest.min()) > 0.05
    maps = explain.cam(net, images, [0, 500, 999])
    assert maps.exact
    assert maps.layer == layer
    assert maps.residual < 1e-5
    torch.testing.assert_close(maps.scores, logits[:, [0, 500, 999]])
    deviation = (maps.values.mean((2, 3)) + maps.constants - maps.scores).abs().amax(1)
    assert float((deviation / largest).max()) < 1e-5
    assert float(maps.values.std((2, 3)).max()) > 0  # not flat


def test_anatomy_of_a_residual_net():
    net, images = made("resnet18", 96)
    parts = anatomy(net, images=images)
    assert (parts.layer, parts.channels, parts.grid, parts.classes) == ("layer4", 512, (3, 3), 1000)
    assert parts.exact
    assert parts.residual < 1e-5
    assert parts.probe.additivity < 1e-10
    assert parts.probe.permutation < 1e-10
    names = dict(parts.candidates)
    assert names["layer1"] == (64, 24, 24)
    assert names["layer4"] == (512, 3, 3)
    assert list(names)[-1] == "layer4"
    feature_map = torch.randn(3, 512, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(parts.head(feature_map), net.fc(feature_map.mean((2, 3))), rtol=1e-4, atol=1e-5)
    assert parts.head(feature_map.double()).dtype == torch.float64


def test_a_pooling_head_that_is_not_affine():
    refused(*made("mobilenet_v3_small", 96), "not affine in its mean")


def test_a_flattened_map():
    torch.manual_seed(0)
    with torch.device("meta"):  # its classifier has 124 million weights, which take seconds to fill
        net = models.vgg11(weights=None)
    net.features.to_empty(device="cpu")
    for module in net.features:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    net.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 10))
    net.eval()
    refused(net, torch.randn(2, 3, 64, 64), "sees positions")


def refused(net, images, reason):
    parts = anatomy(net, images=images)
    assert not parts.exact
    assert reason in parts.reason
    with pytest.raises(ModelError, match=reason):
        explain.cam(net, images)


SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not (SHARED / "weights-torchvision").is_dir(), reason="no trained weights in ../shared/data")
def test_trained_weights_name_the_object_and_add_up():
    weights = SHARED / "weights-torchvision" / "mobilenet_v2_imagenet_fp16.pth"
    subject = explain.load("mobilenet_v2", weights=weights)
    with (SHARED / "imagenet-sample" / "images.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))[::62][:16]
    maps = explain.cam(subject, [SHARED / "imagenet-sample" / "images" / row["image"] for row in rows], batch_size=8)
    assert maps.residual < 1e-5
    assert maps.frame == "original"
    right = sum(int(c) == int(row["class_index"]) for c, row in zip(maps.classes[:, 0], rows, strict=True))
    assert right >= 10  # the pack says 80 % on its 1000 photos; a wrong normalisation or class order gives 0
    assert all(len(row[0]) == 1 for row in explain.locate(maps))


def test_a_vision_transformer_has_no_exact_map():
    torch.manual_seed(0)
    net = models.VisionTransformer(32, 16, 2, 2, 24, 48, num_classes=10).eval()
    nn.init.normal_(net.heads.head.weight)  # zero in torchvision, which would make everything pass
    images = torch.randn(2, 3, 32, 32)
    assert float(net(images).detach().abs().min()) > 1e-3
    for batch in (images, images[:1]):
        with pytest.raises(ModelError, match=r"no exact class activation map at encoder\S*layer_1.ln_1: .*class token"):
            explain.cam(net, batch)
