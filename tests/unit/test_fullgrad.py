from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles.fullgrad import fullgrad_eq8, terms
from oracles.fullgrad import scores as oracle_scores
from torch import nn

from explain.errors import InputError, ModelError
from explain.saliency.fullgrad import full_gradient_sum, fullgrad


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(model, *shape):
    """The model in float64, with BatchNorm statistics that are not the trivial ones."""
    model = model.double()
    with torch.no_grad():
        model.train()(2 * noise(3, *shape, seed=9) + 1)
    return model.eval()


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.ReLU(), Mean()
    )
    return filled(nn.Sequential(*body, nn.Linear(4, 3)), 2, 7, 6)


def numpy_of(net):
    names = {
        "weight0": net[0].weight, "bias0": net[0].bias, "gamma": net[1].weight, "beta": net[1].bias,
        "mean": net[1].running_mean, "var": net[1].running_var, "weight1": net[3].weight, "bias1": net[3].bias,
        "weight2": net[6].weight, "bias2": net[6].bias,
    }  # fmt: skip
    return {name: value.detach().numpy() for name, value in names.items()} | {"eps": net[1].eps}


# --- the formula ------------------------------------------------------------------------------------------


def test_the_map_is_equation_8(net):
    images = noise(2, 2, 7, 6)
    ours = fullgrad(net, images, lambda x: net(x)[:, [2, 0]])
    by_channel = fullgrad(net, images, lambda x: net(x)[:, [2, 0]], rescale="channel")
    assert ours.shape == (2, 2, 7, 6) and ours.dtype == torch.float64
    assert not ours.requires_grad
    plain = numpy_of(net)
    for b in range(2):
        zeros = [0.0, 0.0, 0.0]
        np.testing.assert_allclose(oracle_scores(plain, images[b].numpy(), zeros), net(images[b : b + 1])[0].detach())
        found = terms(plain, images[b].numpy())
        for k, which in enumerate((2, 0)):
            for maps, per in ((ours, "layer"), (by_channel, "channel")):
                theirs = fullgrad_eq8(found, (7, 6), which, per)
                np.testing.assert_allclose(maps[b, k].numpy(), theirs, atol=1e-6 * theirs.max())


def test_biases_count_where_a_layer_shares_its_scale():
    """Scaled channel by channel they drop out, for a bias is one number per channel."""
    images, weight, head = noise(1, 2, 7, 6), noise(3, 2, 3, 3), noise(3, 2)
    ones = torch.ones(3, dtype=torch.float64)
    maps = {}
    for mean in (0.5, 2.0):  # the same function, its constant shared out differently between conv and BatchNorm

        def scores(x, mean=mean):
            y = F.conv2d(x, weight, torch.tensor([mean, 0.3, 0.1]).double())
            y = F.batch_norm(y, torch.tensor([mean, 0.0, 0.0]).double(), ones)
            return torch.tanh(y).mean((2, 3)) @ head

        for rescale in ("layer", "channel"):
            maps[mean, rescale] = fullgrad(nn.Identity(), images, scores, rescale=rescale)
    assert not torch.allclose(maps[0.5, "layer"], maps[2.0, "layer"], rtol=0.01)
    torch.testing.assert_close(maps[0.5, "channel"], maps[2.0, "channel"])


# --- completeness: proposition 1 ----------------------------------------------------------------------------


def relative(model, images, scores=None):
    scores = model if scores is None else scores
    expected = scores(images).detach()
    return float((full_gradient_sum(model, images, scores) - expected).abs().max() / expected.abs().max())


def test_the_terms_of_a_relu_net_add_up_to_the_logit(net):
    assert relative(net, 3 * noise(4, 2, 9, 8)) < 1e-13
    assert relative(net, noise(2, 2, 9, 8), lambda x: net(x)[:, [1]]) < 1e-13


@pytest.mark.parametrize(
    "layer",
    [
        nn.ReLU(inplace=True), nn.LeakyReLU(), nn.PReLU(), nn.ReLU6(inplace=True), nn.Hardtanh(-0.3, 0.2, inplace=True),
        nn.GELU(), nn.GELU("tanh"), nn.SiLU(inplace=True), nn.Mish(inplace=True), nn.Hardswish(inplace=True),
        nn.Hardsigmoid(inplace=True), nn.ELU(inplace=True), nn.SELU(inplace=True), nn.CELU(), nn.Softplus(),
        nn.Sigmoid(), nn.Tanh(), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink(), nn.Softshrink(), nn.Hardshrink(),
        nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm2d(4, track_running_stats=True), nn.LayerNorm([4, 6, 6]), nn.LayerNorm(6), nn.RMSNorm([6]),
        nn.MaxPool2d(2, 1, 1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Dropout(),
    ],
    ids=str,
)  # fmt: skip
def test_the_terms_add_up_whatever_the_layers_are(layer):
    torch.manual_seed(0)
    last = [nn.ReLU(), nn.ConvTranspose2d(5, 4, 2), nn.MaxPool2d(2), Mean(), nn.Linear(4, 3)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.Conv2d(4, 5, 3, bias=False), *last)
    with torch.no_grad():
        model[0].bias.add_(0.5)
    assert relative(filled(model, 3, 8, 8), 3 * noise(2, 3, 8, 8)) < 1e-12


class Functional(nn.Module):
    """No submodule holds a bias: everything is a function, with constants on either side of sums."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(noise(4, 3, 3, 3, seed=1))
        self.bias = nn.Parameter(noise(4, seed=2))
        self.shift = nn.Parameter(noise(4, 1, 1, seed=3))
        self.register_buffer("mean", noise(3, 1, 1, seed=4))

    def forward(self, x):
        x = 1 - (x - self.mean) / 0.5
        y = F.conv2d(x, self.weight, bias=self.bias, padding=1)
        y = F.relu(y, inplace=True) + self.shift
        y += 0.25
        y = torch.add(y, y.detach().new_ones(1), alpha=2) - 0.5
        z = self.shift - F.max_pool2d(input=y, kernel_size=2)
        return torch.relu(z).mean((2, 3)) + torch.sigmoid(input=z).mean((2, 3))


def test_biases_of_functions_and_constants_are_found():
    model = Functional().double()
    assert relative(model, noise(2, 3, 8, 8)) < 1e-13
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # frozen parameters are constants all the same
    assert relative(model, noise(2, 3, 8, 8)) < 1e-13


class Computed(nn.Module):
    """What is added was computed from parameters: by a product, an activation, a layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.shift = nn.Conv2d(3, 4, 3), nn.Parameter(noise(4, seed=1))
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        y = self.conv(x) + 2 * self.shift[:, None, None]
        y += F.gelu(self.shift[:, None, None])
        return self.out(F.relu(y).mean((2, 3)) + self.inner(self.shift))


def test_what_comes_from_parameters_alone_is_a_constant():
    torch.manual_seed(0)
    model, images = Computed().double(), noise(2, 3, 8, 8)
    assert relative(model, images) < 1e-13
    trained = fullgrad(model, images, model)
    model.requires_grad_(False)
    assert relative(model, images) < 1e-13
    torch.testing.assert_close(fullgrad(model, images, model), trained)


def test_a_resnet_is_complete():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = filled(resnet18(num_classes=7), 3, 33, 33)
    assert relative(model, noise(1, 3, 33, 33)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["densenet121", "mobilenet_v2", "convnext_tiny", "googlenet", "vgg11_bn", "regnet_x_400mf"]
)
def test_torchvisions_networks_are_complete(name):
    from torchvision import models

    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    model = filled(getattr(models, name)(weights=None, num_classes=7, **options), 3, 64, 64)
    scaled = {"convnext_tiny"}  # layer scale is a product with a parameter: linear
    assert relative(model, noise(2, 3, 64, 64)) < (1e-9 if name in scaled else 1e-11)


# --- where the terms lie ------------------------------------------------------------------------------------


class ChannelsLast(nn.Module):
    """What ConvNeXt and Swin do: linear layers on ``(b, h, w, c)``."""

    def __init__(self, last):
        super().__init__()
        self.last = last
        self.pointwise = nn.Linear(2, 5)
        self.norm = nn.LayerNorm(5)

    def forward(self, x):
        weight = self.pointwise.weight[..., None, None]
        if self.last:
            y = F.gelu(self.norm(self.pointwise(x.permute(0, 2, 3, 1))))
            return y.permute(0, 3, 1, 2).mean((2, 3))
        y = F.conv2d(x, weight, self.pointwise.bias)
        return F.gelu(self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).mean((2, 3))


def test_channels_last_gives_the_map_of_channels_first():
    model = ChannelsLast(True).double()
    images = noise(1, 2, 5, 7)
    last = fullgrad(model, images, model)
    model.last = False
    torch.testing.assert_close(last, fullgrad(model, images, model))


def test_biases_without_positions_have_no_place_in_the_map():
    gate = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Flatten())
    gate = nn.Sequential(*gate, nn.Linear(3, 2)).double()
    x = noise(1, 2, 6, 6)
    before = fullgrad(gate, x, gate)
    with torch.no_grad():
        gate[3].bias[1] += 100
        gate[5].bias[1] += 100
    torch.testing.assert_close(fullgrad(gate, x, gate), before)
    assert relative(gate, x) < 1e-13


# --- the model, threads, errors -----------------------------------------------------------------------------


def test_maps_do_not_depend_on_the_scale_of_the_logits(net):
    images = noise(1, 2, 7, 6)
    plain = fullgrad(net, images, net)
    for scale in (1e-10, 1e10):
        torch.testing.assert_close(fullgrad(net, images, lambda x, s=scale: net(x) * s), plain)


def test_the_model_comes_back_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(True), nn.Dropout(), Mean()).train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model(torch.randn(2, 2, 6, 6)).sum().backward()

    def state():
        return (
            [m.training for m in model.modules()],
            [(p.requires_grad, None if p.grad is None else p.grad.tolist()) for p in model.parameters()],
            {name: value.tolist() for name, value in model.state_dict().items()},
            [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
            torch.get_rng_state().tolist(),
        )

    before, images = state(), noise(2, 2, 6, 6).float()
    with torch.inference_mode():
        first = fullgrad(model, images, model)
    torch.testing.assert_close(fullgrad(model, images, model), first)  # no dropout
    assert first.dtype == torch.float32
    assert not images.requires_grad and images.grad is None

    def failing(x):
        model(x)
        raise ValueError("on purpose")

    with pytest.raises(ModelError, match="on purpose"):
        fullgrad(model, images, failing)
    assert state() == before


def test_other_threads_are_not_watched(net):
    images, maps = noise(6, 2, 7, 6), [None] * 6
    expected = fullgrad(net, images, net)

    def work(row):
        for _ in range(3):
            maps[row] = fullgrad(net, images[row : row + 1], net)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(torch.cat(maps), expected)


class BatchStatistics(nn.Module):
    def forward(self, x):
        return F.batch_norm(x, None, None, training=True).mean((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: fullgrad(net, noise(2, 7, 6), net), InputError, "images of shape"),
        (lambda net: fullgrad(net, noise(1, 2, 7, 6), net, rescale="none"), InputError, "unknown rescale"),
        (lambda net: fullgrad(net, noise(1, 2, 7, 6), lambda x: net(x).detach()), ModelError, "with a graph"),
        (lambda net: fullgrad(net, noise(1, 2, 7, 6), lambda x: net[6](noise(1, 4))), ModelError, "do not depend"),
        (lambda net: fullgrad(net, noise(1, 5, 7, 6), net), ModelError, "the network fails on an input"),
        (lambda net: fullgrad(net, noise(2, 2, 7, 6), BatchStatistics()), ModelError, "running statistics"),
    ],
)
def test_what_cannot_be_explained_is_refused(net, call, error, message):
    with pytest.raises(error, match=message):
        call(net)
