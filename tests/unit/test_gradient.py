"""Every formula against its literal oracle; closed forms against the general ones; one trunk pass for all."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import gradient as oracle
from torch import nn
from torch.nn import AdaptiveAvgPool2d, Conv2d, Flatten, Linear, ReLU, Sequential

import explain
from explain.errors import InputError, ModelError
from explain.saliency.fusing import fuse
from explain.saliency.gradient import METHODS, grad_cam, hires_cam
from explain.types import normalize_maps, resize_maps

METHODS_OF_ALL = sorted(METHODS)
CLOSED = sorted(name for name, method in METHODS.items() if method.closed is not None)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(*, rectified=True, classes=5, head=None, seed=0):
    """A small trunk whose map is ``3`` (rectified or signed), GAP and Linear."""
    torch.manual_seed(seed)
    last = ReLU() if rectified else nn.Tanh()
    head = [AdaptiveAvgPool2d(1), Flatten(), Linear(6, classes)] if head is None else head
    return Sequential(Conv2d(3, 5, 3, 2), ReLU(), Conv2d(5, 6, 3), last, *head).eval()


def bent():
    """A net whose head is not affine: maps need its derivatives."""
    torch.manual_seed(1)
    return net(head=[AdaptiveAvgPool2d(1), Flatten(), Linear(6, 7), ReLU(), Linear(7, 5)])


def flat():
    """A net whose head sees positions."""
    torch.manual_seed(1)
    return net(head=[Flatten(), Linear(6 * 49, 8), nn.Tanh(), Linear(8, 5)])


X = noise(3, 3, 20, 20)
ROWS = [[0, 3], [1, 4], [2, 0]]


def derivatives(model, x, rows, cut=4):
    """Map and gradient ``(b, k, c, h, w)`` at module ``cut - 1``, by plain autograd, one number at a time."""
    feature_map = model[:cut](x).detach().requires_grad_()
    logits = model[cut:](feature_map)
    gradient = torch.stack(
        [
            torch.stack([torch.autograd.grad(logits[i, c], feature_map, retain_graph=True)[0][i] for c in row])
            for i, row in enumerate(rows)
        ]
    )
    return feature_map.detach(), gradient, logits.detach()


# --- formulas ---------------------------------------------------------------------------------------------

SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 5), st.integers(2, 4), st.integers(2, 4))


def drawn(shape, seed, signed):
    b, k, c, h, w = shape
    a, g = noise(b, c, h, w, seed=seed).double(), noise(b, k, c, h, w, seed=seed + 1).double()
    return (a if signed else a.abs()), g


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "layercam", "xgradcam", "eigengradcam"])
@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 1000), signed=st.booleans())
def test_formulas(name, shape, seed, signed):
    a, g = drawn(shape, seed, signed)
    literal = {
        "gradcam": oracle.grad_cam,
        "hirescam": oracle.hires_cam,
        "layercam": oracle.layer_cam,
        "xgradcam": oracle.xgrad_cam,
        "eigengradcam": oracle.eigen_grad_cam,
    }[name]
    found = METHODS[name].formula(a, g)
    assert found.shape == (*g.shape[:2], *g.shape[3:])
    for i in range(len(a)):
        for k in range(g.shape[1]):
            expected, got = literal(a[i].numpy(), g[i, k].numpy()), found[i, k].numpy()
            if name == "eigengradcam" and np.sum(got * expected) < 0:
                expected = -expected  # an eigenvector has no sign of its own
            assert np.allclose(got, expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(expected).max()))


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 1000), signed=st.booleans())
def test_eigen_cam(shape, seed, signed):
    a, g = drawn(shape, seed, signed)
    found = METHODS["eigencam"].formula(a, g)
    for i in range(len(a)):
        expected, got = oracle.eigen_cam(a[i].numpy()), found[i, 0].numpy()
        sign = 1 if np.sum(got * expected) >= 0 else -1
        assert np.allclose(got, sign * expected, rtol=1e-9, atol=1e-9)
        assert np.sum(got * a[i].sum(0).numpy()) >= -1e-9  # rises with the activation of a position
        assert all(torch.equal(found[i, k], found[i, 0]) for k in range(g.shape[1]))


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("head", ["pool", "relu", "flat"])
def test_grad_cam_pp_is_equation_19(rectified, head):
    """With the derivatives of exp(logit) written out, on heads that are piecewise linear."""
    torch.manual_seed(1)
    layers = {
        "pool": [AdaptiveAvgPool2d(1), Flatten(), Linear(6, 3)],
        "relu": [AdaptiveAvgPool2d(1), Flatten(), Linear(6, 9), ReLU(), Linear(9, 3)],
        "flat": [Flatten(), Linear(6 * 16, 9), ReLU(), Linear(9, 3)],
    }[head]
    model = net(rectified=rectified, head=layers).double()
    with torch.no_grad():
        model[-1].weight.mul_(5)  # so that the third derivative counts
    x, rows = noise(2, 3, 14, 14).double(), [[0, 2], [1, 0]]
    a, g, _ = derivatives(model, x, rows)
    found = METHODS["gradcam++"].formula(a, g)
    for i, row in enumerate(rows):
        for k, index in enumerate(row):
            expected = oracle.grad_cam_pp(a[i].numpy(), model[4:], index)
            assert expected.max() > 0
            assert np.allclose(found[i, k].numpy(), expected, rtol=1e-8, atol=1e-12)


def test_grad_cam_pp_where_gradients_and_denominators_are_zero():
    a = torch.tensor([[[[1.0, -3.0]], [[2.0, 1.0]]]])
    g = torch.tensor([[[[[1.0, 0.0]], [[0.0, 0.0]]]]])  # 2 + S g = 0 in the first place of the first channel
    found = METHODS["gradcam++"].formula(a, g)
    assert torch.equal(found, torch.zeros(1, 1, 1, 2))


def test_xgrad_cam_leaves_out_channels_that_cancel():
    a = noise(1, 2, 4, 4)
    a[0, 0] -= a[0, 0].mean()  # its sum is rounding
    g = noise(1, 1, 2, 4, 4, seed=1)
    found = METHODS["xgradcam"].formula(a, g)
    rest = METHODS["xgradcam"].formula(a[:, 1:], g[:, :, 1:])
    torch.testing.assert_close(found, rest)


def test_finer_cam():
    model = bent()
    a, g, logits = derivatives(model, X, [list(range(5))] * 3)
    maps = explain.attribute(model, X, "finercam", ROWS)
    for i, row in enumerate(ROWS):
        for k, index in enumerate(row):
            expected = oracle.finer_cam(a[i].numpy(), g[i].numpy(), logits[i].numpy(), index)
            assert np.allclose(maps.values[i, k].numpy(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps.scores, logits.gather(1, torch.tensor(ROWS)))


def test_closed_finer_cam_is_the_same_combination_of_class_activation_maps():
    model = net()
    cams = explain.cam(model, X, [0, 1, 2, 3, 4]).values
    logits = model(X).detach()
    found = explain.attribute(model, X, "finercam", ROWS).values
    for i, row in enumerate(ROWS):
        for k, c in enumerate(row):
            rivals = sorted((abs(float(logits[i, d] - logits[i, c])), d) for d in range(5) if d != c)[:3]
            mean = torch.stack([cams[i, d] for _, d in rivals]).mean(0)
            torch.testing.assert_close(found[i, k], (cams[i, c] - 0.6 * mean).relu() / 49, rtol=1e-4, atol=1e-7)


def test_finer_cam_of_a_network_with_two_classes_or_one():
    maps = explain.attribute(net(classes=2), X, "finercam", [0, 1])
    cams = explain.cam(net(classes=2), X, [0, 1]).values
    torch.testing.assert_close(maps.values, (cams - 0.6 * cams.flip(1)).relu() / 49, rtol=1e-4, atol=1e-7)
    with pytest.raises(InputError, match="only one"):
        explain.attribute(net(classes=1), X, "finercam", 0)


# --- closed forms and general ones ------------------------------------------------------------------------


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("name", METHODS_OF_ALL)
def test_the_default_layer_equals_the_named_one(name, rectified):
    """Closed forms (no gradient) against derivatives by plain autograd through the whole network's tail."""
    model = net(rectified=rectified)
    default, named = explain.attribute(model, X, name, ROWS), explain.attribute(model, X, name, ROWS, layer="3")
    assert default.layer == named.layer == "3"
    scale = float(named.values.abs().max())
    assert scale > 0
    torch.testing.assert_close(default.values, named.values, rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(default.scores, named.scores)
    assert torch.equal(default.classes, named.classes)
    a, g, logits = derivatives(model, X, ROWS)
    if name != "finercam":
        torch.testing.assert_close(default.values, METHODS[name].formula(a, g), rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(default.probabilities, logits.softmax(1).gather(1, torch.tensor(ROWS)))


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_on_a_map_and_its_weights(name):
    a, w = noise(2, 6, 4, 5).double(), noise(2, 3, 6, seed=1).double()
    g = (w / 20)[..., None, None].expand(2, 3, 6, 4, 5)
    method = METHODS[name]
    assert method.closed is not None
    torch.testing.assert_close(method.closed(a, w), method.formula(a, g))


@pytest.mark.parametrize("model", [bent(), flat()], ids=["not affine", "not pooled"])
@pytest.mark.parametrize("name", METHODS_OF_ALL)
def test_heads_without_a_closed_form(name, model):
    default, named = explain.attribute(model, X, name, ROWS), explain.attribute(model, X, name, ROWS, layer="3")
    torch.testing.assert_close(default.values, named.values, rtol=1e-4, atol=1e-5 * float(named.values.abs().max()))
    assert not default.exact
    if name != "finercam":
        a, g, _ = derivatives(model, X, ROWS)
        expected = METHODS[name].formula(a, g)
        torch.testing.assert_close(named.values, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("layer", ["0", "1", "2"])
def test_earlier_layers(layer):
    cut = int(layer) + 1
    a, g, _ = derivatives(bent(), X, ROWS, cut)
    maps = explain.attribute(bent(), X, "hirescam", ROWS, layer=layer)
    torch.testing.assert_close(maps.values, hires_cam(a, g), rtol=1e-4, atol=1e-7)


def test_a_formula_of_ones_own():
    def mine(a, g):
        return (g * a[:, None]).abs().sum(2)

    for layer in (None, "3"):
        maps = explain.attribute(bent(), X, mine, ROWS, layer=layer)
        a, g, _ = derivatives(bent(), X, ROWS)
        torch.testing.assert_close(maps.values, mine(a, g), rtol=1e-4, atol=1e-7)
        assert maps.method == "mine"
    with pytest.raises(InputError, match=r"the formula returned \(3, 6, 7, 7\): it must return maps \(3, 2, height"):
        explain.attribute(net(), X, lambda a, g: a, ROWS)


# --- scale, zero, order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [None, "3"])
@pytest.mark.parametrize("scale", [1e-10, 1e10])
@pytest.mark.parametrize(
    "name", ["gradcam", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam", "finercam"]
)
def test_the_scale_of_logits_changes_no_normalised_map(name, scale, layer):
    model = net()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[6].weight.mul_(scale)
        other[6].bias.mul_(scale)
    a, b = (explain.attribute(m, X, name, ROWS, layer=layer) for m in (model, other))
    torch.testing.assert_close(b.normalized().values, a.normalized().values, rtol=1e-4, atol=1e-5)
    assert float(b.normalized().values.amax()) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-10, 1e10])
@pytest.mark.parametrize("name", ["gradcam", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam"])
def test_the_scale_of_maps_changes_no_normalised_map(name, scale):
    a, g = noise(2, 4, 5, 5).abs(), noise(2, 3, 4, 5, 5, seed=1)
    plain, scaled = (normalize_maps(METHODS[name].formula(a * factor, g)) for factor in (1, scale))
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS_OF_ALL)
def test_zero_maps_and_zero_gradients_give_zeros(name):
    a, g = noise(2, 4, 3, 3), noise(2, 2, 4, 3, 3)
    method = METHODS[name]
    for features, slopes in ((a * 0, g), (a * 0, g * 0)) if name == "eigencam" else ((a * 0, g), (a, g * 0)):
        found = method.formula(features, slopes)
        assert torch.equal(found, torch.zeros(2, 2, 3, 3))
        assert torch.equal(normalize_maps(found), found)
        if method.closed is not None:
            assert torch.equal(method.closed(features, slopes.mean((3, 4))), torch.zeros(2, 2, 3, 3))


@pytest.mark.parametrize("name", METHODS_OF_ALL)
def test_channel_order_changes_nothing(name):
    model, order = net(), torch.tensor([4, 0, 5, 2, 1, 3])
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[2].weight.copy_(model[2].weight[order])
        other[2].bias.copy_(model[2].bias[order])
        other[6].weight.copy_(model[6].weight[:, order])
    for layer in (None, "3"):
        a, b = (explain.attribute(m, X, name, ROWS, layer=layer).values for m in (model, other))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


# --- one trunk pass ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [net, bent], ids=["affine", "not affine"])
@pytest.mark.parametrize("name", METHODS_OF_ALL)
def test_all_classes_cost_one_trunk_pass_without_graph(name, make):
    model = make()
    calls, graphs = [], []
    model[0].register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    model[3].register_forward_hook(lambda module, args, output: graphs.append(output.requires_grad))
    maps = explain.attribute(model, X, name, [0, 1, 2, 3, 4])
    assert calls == [3]
    assert graphs == [False]
    assert maps.values.shape == (3, 5, 7, 7)
    assert not maps.values.requires_grad


def test_a_named_layer_costs_one_pass_with_a_graph_from_there_on():
    model = bent()
    calls, graphs = [], {}
    model[0].register_forward_hook(lambda module, args, output: calls.append(1))
    for place in (1, 5):
        model[place].register_forward_hook(
            lambda m, a, output, place=place: graphs.update({place: output.requires_grad})
        )
    explain.attribute(model, X, "gradcam", [0, 1, 2, 3, 4], layer="3")
    assert calls == [1]
    assert graphs == {1: False, 5: True}


@pytest.mark.parametrize("layer", [None, "3", ("1", "3")])
@pytest.mark.parametrize("name", ["gradcam", "gradcam++", "eigengradcam", "finercam"])
@pytest.mark.parametrize("size", [1, 2])
def test_chunks_and_single_images_equal_one_batch(name, layer, size):
    model = bent()
    whole = explain.attribute(model, X, name, ROWS, layer=layer)
    parts = explain.attribute(model, X, name, ROWS, layer=layer, batch_size=size)
    for field in ("values", "scores", "probabilities"):
        torch.testing.assert_close(getattr(parts, field), getattr(whole, field), rtol=1e-4, atol=1e-6)
    single = [explain.attribute(model, X[i : i + 1], name, ROWS[i : i + 1], layer=layer).values for i in range(3)]
    torch.testing.assert_close(torch.cat(single), whole.values, rtol=1e-4, atol=1e-6)


# --- several layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["mean", "max", "product"])
def test_fusing_layers(how):
    layers = ["1", "3"]
    singles = [explain.attribute(bent(), X, "layercam", ROWS, layer=layer) for layer in layers]
    fused = explain.attribute(bent(), X, "layercam", ROWS, layer=layers, fusion=how)
    planes = []
    for one in singles:
        top = one.values.amax((2, 3), keepdim=True)
        planes.append(resize_maps(torch.where(top > 0, one.values / top, 0), (9, 9)))
    first, second = planes
    expected = {"mean": (first + second) / 2, "max": torch.maximum(first, second), "product": first * second}[how]
    torch.testing.assert_close(fused.values, expected)
    assert fused.layer == "1+3"
    assert fused.values.shape == (3, 2, 9, 9)
    torch.testing.assert_close(fused.scores, singles[0].scores)
    torch.testing.assert_close(fuse(singles, how).values, fused.values)


def test_layers_in_any_order_and_wrong_ones():
    both = explain.attribute(bent(), X, "gradcam", ROWS, layer=["3", "1"])
    torch.testing.assert_close(both.values, explain.attribute(bent(), X, "gradcam", ROWS, layer=["1", "3"]).values)
    with pytest.raises(InputError, match="unknown fusion 'sum': use mean, max or product"):
        explain.attribute(bent(), X, "gradcam", ROWS, layer=["1", "3"], fusion="sum")
    with pytest.raises(InputError, match="no maps"):
        fuse([])
    with pytest.raises(ModelError, match="no layer 'conv'"):
        explain.attribute(bent(), X, layer="conv")
    with pytest.raises(InputError, match="names no layer"):
        explain.attribute(bent(), X, layer=[])


@pytest.mark.parametrize(
    ("method", "layer", "message"),
    [
        ("gradcan", None, "unknown method 'gradcan'; near: .*gradcam"),
        ("cam", "3", "leave layer out"),
        ("auto", "3", "leave layer out"),
    ],
)
def test_wrong_methods(method, layer, message):
    with pytest.raises(InputError, match=message):
        explain.attribute(net(), X, method, layer=layer)


def test_methods_without_options_say_so():
    with pytest.raises(InputError, match="method 'gradcam' takes no options, got chunk"):
        explain.attribute(net(), X, "gradcam", options={"chunk": 2})


@pytest.mark.parametrize("spelling", ["Grad-CAM++", "gradcampp", "GradCAMPlusPlus", "grad_cam++"])
def test_spellings(spelling):
    assert explain.attribute(net(), X, spelling).method == "gradcam++"


def test_a_layer_without_a_grid_is_refused():
    with pytest.raises(ModelError, match=r"layer '5' gives a tensor of shape \(3, 6\)"):
        explain.attribute(net(), X, layer="5")
    with pytest.raises(ModelError, match="do not depend on layer"):
        explain.attribute(Unused().eval(), X, layer="aside")


class Unused(nn.Module):
    """A layer that nothing reads."""

    def __init__(self):
        super().__init__()
        self.trunk, self.aside = Conv2d(3, 4, 3), Conv2d(3, 4, 3)
        self.fc = Linear(4, 3)

    def forward(self, x):
        self.aside(x)
        return self.fc(self.trunk(x).mean((2, 3)))


def test_a_last_map_that_nothing_reads_is_passed_over():
    class Last(Unused):
        def forward(self, x):
            logits = self.fc(self.trunk(x).mean((2, 3)))
            self.aside(x)
            return logits

    torch.manual_seed(0)
    model = Last().eval()
    maps = explain.attribute(model, X, "auto", 1)
    assert (maps.layer, maps.exact) == ("trunk", True)
    torch.testing.assert_close(grad_cam(*derived(model, 1)), explain.attribute(model, X, "gradcam", 1).values)


def derived(model, index):
    a = model.trunk(X).detach().requires_grad_()
    (g,) = torch.autograd.grad(model.fc(a.mean((2, 3)))[:, index].sum(), a)
    return a.detach(), g[:, None]
