"""The CAM paper's networks: where they are cut, what their heads compute, that the user's model stays as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.cam import cam_eq2
from oracles.pooled import convolution_relu, pooled_scores
from torch import nn
from torchvision import models

import explain
from explain.errors import InputError, ModelError
from explain.nets import anatomy
from explain.nets.mlpconv import nin
from explain.nets.pooled import CutTrunk, to_pooled
from explain.nets.training import fine_tune


def small(classes=5):
    """A net as AlexNet is: convolutions, pooling, fully connected layers."""
    torch.manual_seed(0)
    features = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
    )
    full = nn.Sequential(nn.Flatten(), nn.Linear(8 * 16, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, classes))
    return nn.Sequential(features, full)


SIZE = (3, 16, 16)


class Branching(nn.Module):
    """A forward pass that depends on data, an end that holds more than the trunk, one ReLU for all."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.third = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.relu(self.first(x))
        if x.mean() > -1:
            x = self.relu(self.second(x))
        return self.fc(self.relu(self.third(x)).mean((2, 3)))


class Functional(nn.Module):
    """Dropout as a function, in the model's own forward: it must still follow the mode."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.third, self.fc = nn.Conv2d(6, 6, 3, stride=2), nn.Linear(6, 5)

    def forward(self, x):
        x = self.second(F.dropout(self.first(x), 0.5, training=self.training))
        return self.fc(self.third(x).mean((2, 3)))


# --- where networks are cut ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer", "channels", "grid"),
    [
        ("alexnet", "features.11", 256, 13),
        pytest.param("vgg16", "features.29", 512, 14, marks=pytest.mark.slow),
        pytest.param("googlenet", "inception4e", 832, 14, marks=pytest.mark.slow),
    ],
)
def test_paper_networks_are_cut_where_the_paper_cuts_them(name, layer, channels, grid):
    options = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, num_classes=20, **options)
    for pool in ("avg", "max"):
        net = to_pooled(model, pool, classes=7).eval()
        assert net.layer == layer
        images = torch.randn(1, 3, 224, 224)
        with torch.no_grad():
            trunk = net.trunk(images)
            units = net.head[:2](trunk)
            pooled = units.mean((2, 3)) if pool == "avg" else units.amax((2, 3))
            assert trunk.shape == (1, channels, grid, grid)
            assert units.shape == (1, 1024, grid, grid)
            expected = F.linear(pooled, net.head.linear.weight, net.head.linear.bias)
            torch.testing.assert_close(net(images), expected)
        assert not any(isinstance(m, nn.Linear) for m in net.trunk.modules())  # no dead weights
    parts = anatomy(to_pooled(model, classes=7))
    assert parts.exact
    assert parts.residual < 1e-6
    assert parts.grid == (grid, grid)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "vgg16", "googlenet"])
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_one_training_step_of_the_full_networks(name, pool):
    options = {"init_weights": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    net = to_pooled(models.get_model(name, weights=None, num_classes=3, **options), pool)
    before = copy.deepcopy(net.state_dict())
    data = [(torch.randn(3, 224, 224), index % 3) for index in range(3)]
    training = fine_tune(net, data, epochs=2, batch_size=3, lr=2e-6, schedule=lambda share: 1.0)
    assert training.losses[1] < training.losses[0]
    changed = {key for key, value in net.named_parameters() if not torch.equal(value, before[key])}
    assert changed == set(dict(net.named_parameters()))


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [("resnet18", "layer3", 14), ("mobilenet_v2", "features.13", 14), ("shufflenet_v2_x1_0", "stage3", 14)],
)
def test_other_trunks_are_cut_between_blocks(name, layer, grid):
    torch.manual_seed(0)
    net = to_pooled(models.get_model(name, weights=None), units=8, classes=3)
    assert net.layer == layer
    assert anatomy(net).grid == (grid, grid)


def test_the_cut_follows_structure_not_names():
    model = small()
    assert to_pooled(model, input_size=SIZE).layer == "0.5"  # after the second ReLU, before its pooling
    assert to_pooled(model, input_size=SIZE, layer="0.6").trunk(torch.randn(1, *SIZE)).shape == (1, 8, 4, 4)
    assert to_pooled(model, input_size=SIZE, layer="0.2").trunk(torch.randn(1, *SIZE)).shape == (1, 6, 16, 16)
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2))
    assert to_pooled(flat, input_size=SIZE).layer == "3"  # no pooling: the last map


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), {}, "no spatial feature map"),
        (models.vit_b_32(num_classes=3), {"input_size": (3, 224, 224)}, "no convolutional trunk"),
        (small(), {"layer": "0.9"}, "no layer '0.9'"),
        (small(), {"layer": "1.1"}, r"no map \(b, c, h, w\)"),
    ],
)
def test_networks_without_a_conv_map_are_refused(model, options, message):
    with pytest.raises(ModelError, match=message):
        to_pooled(model, **({"input_size": SIZE} | options))


@pytest.mark.parametrize("options", [{"pool": "mean"}, {"units": 0}, {"convs": 3}, {"classes": 0}, {"seed": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        to_pooled(small(), **({"input_size": SIZE} | options))


# --- what they compute -----------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(pool=st.sampled_from(["avg", "max"]), convs=st.sampled_from([1, 2]), seed=st.integers(0, 99))
def test_logits_and_maps_equal_the_oracle(pool, convs, seed):
    net = to_pooled(small(), pool, classes=3, units=4, convs=convs, input_size=SIZE, seed=seed).eval()
    image = torch.randn(1, *SIZE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        units = net.trunk(image)[0].double().numpy()
        logits = net(image)[0].double().numpy()
    state = {key: value.double().numpy() for key, value in net.head.state_dict().items()}
    for end in [""] if convs == 1 else ["1", "2"]:
        units = convolution_relu(units, state[f"conv{end}.weight"], state[f"conv{end}.bias"])
    scores = pooled_scores(units, state["linear.weight"], state["linear.bias"], pool)
    np.testing.assert_allclose(logits, scores, atol=1e-6)
    if pool == "avg":
        maps = explain.cam(net, image, [0, 1, 2])
        assert maps.exact
        for c in range(3):
            np.testing.assert_allclose(maps.values[0, c], cam_eq2(units, state["linear.weight"][c]), atol=1e-6)
        np.testing.assert_allclose(maps.values.mean((2, 3)) + maps.constants, logits[None], atol=1e-6)


def test_gmp_is_told_from_gap():
    parts = anatomy(to_pooled(small(), "max", units=4, input_size=SIZE), SIZE)
    assert not parts.exact
    assert parts.probe.permutation < 1e-9 < parts.probe.additivity


def test_two_convolutions_and_any_input_size():
    net = to_pooled(small(), convs=2, units=4, input_size=SIZE).eval()
    names = [name for name, _ in net.head.named_children()]
    assert names == ["conv1", "relu1", "conv2", "relu2", "pool", "flatten", "linear"]
    assert net(torch.randn(2, 3, 40, 24)).shape == (2, 5)  # no fully connected layer fixes the size


def test_the_trunk_is_what_the_model_computes_in_either_mode():
    model = small()
    images = torch.randn(4, *SIZE)
    net = to_pooled(model, input_size=SIZE, units=4)
    for mode in (True, False):
        expected = copy.deepcopy(model).train(mode)[0][:6](images)
        torch.testing.assert_close(copy.deepcopy(net).train(mode).trunk(images), expected)


# --- the user's model stays as it was ------------------------------------------------------------------------


def test_the_model_is_copied_and_left_as_it_was():
    model = small()
    model[1][3].eval()
    model[0][0].weight.requires_grad_(False)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    torch.manual_seed(4)
    state = torch.get_rng_state()
    net = to_pooled(model, input_size=SIZE, units=4, classes=2)
    assert torch.equal(torch.get_rng_state(), state)
    fine_tune(net, [(torch.randn(SIZE), index % 2) for index in range(4)], epochs=2)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*model.modules(), *net.modules()])
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in net.parameters()}
    assert net.training
    assert not to_pooled(model.eval(), input_size=SIZE).training


def test_new_weights_follow_the_seed():
    first, second, other = (to_pooled(small(), input_size=SIZE, units=4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.head.conv.weight, second.head.conv.weight)
    assert not torch.equal(first.head.conv.weight, other.head.conv.weight)
    assert not torch.equal(first.head.linear.weight, other.head.linear.weight)


def test_a_forward_pass_that_depends_on_data_is_run_as_it_is():
    torch.manual_seed(0)
    model = Branching().eval()
    net = to_pooled(model, input_size=SIZE, units=4)
    assert isinstance(net.trunk, CutTrunk)
    assert net.layer == "relu"  # its second call: the one before the map gets coarser
    images = torch.randn(2, *SIZE)
    with torch.no_grad():
        expected = F.relu(model.second(F.relu(model.first(images))))
        torch.testing.assert_close(net.trunk(images), expected)
    assert not [name for name, _ in net.named_parameters() if "third" in name or "fc" in name]
    assert anatomy(net, SIZE).exact


def test_functional_dropout_follows_the_mode():
    torch.manual_seed(0)
    net = to_pooled(Functional(), input_size=SIZE, units=4)
    images = torch.randn(1, *SIZE)
    assert not torch.equal(net.train().trunk(images), net.trunk(images))
    assert torch.equal(net.eval().trunk(images), net.trunk(images))


def test_pooled_networks_export():
    net = to_pooled(small(), input_size=SIZE, units=4).eval()
    images = torch.randn(2, *SIZE)
    torch.testing.assert_close(torch.export.export(net, (images,)).module()(images), net(images))


# --- Network in Network ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "side", "grid"), [("imagenet", 224, 6), ("cifar", 32, 8)])
def test_nin_ends_in_one_map_per_class(version, side, grid):
    net = nin(7, version=version).eval()
    parts = anatomy(net, (3, side, side))
    assert (parts.exact, parts.channels, parts.grid) == (True, 7, (grid, grid))
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        last = net[:-2](image)
    maps = explain.cam(net, image, [2, 5])
    torch.testing.assert_close(maps.values[0], last[0, [2, 5]], atol=1e-5, rtol=1e-5)
    assert float(maps.constants.abs().max()) == 0
    assert torch.equal(nin(7, version=version)[0][0].weight, net[0][0].weight)
    # Every mlpconv layer: one convolution, two of size 1.
    sizes = [m.kernel_size[0] for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert sizes == [11, 1, 1, 5, 1, 1, 3, 1, 1, 3, 1, 1] if version == "imagenet" else [5, 1, 1, 5, 1, 1, 3, 1, 1]


def test_nin_options_are_checked():
    with pytest.raises(InputError, match="near: imagenet"):
        nin(version="image")
    with pytest.raises(InputError, match="out of range"):
        nin(0)
