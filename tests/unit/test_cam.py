from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles.cam import bilinear, cam_eq2, score_eq1
from torch import nn
from torch.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential

import explain
from explain.errors import InputError, ModelError
from explain.nets import Subject, anatomy
from explain.types import normalize_maps, resize_maps


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(head=None, channels=6, classes=4, inputs=3, seed=0):
    """A small trunk, GAP and Linear, or another head after the map ``2``."""
    torch.manual_seed(seed)
    head = [AdaptiveAvgPool2d(1), Flatten(), Linear(channels, classes)] if head is None else head
    return Sequential(Conv2d(inputs, 5, 3, 2), ReLU(), Conv2d(5, channels, 3), *head).eval()


class Given(nn.Module):
    """Channel maps that are the input itself, and a head of given weights."""

    def __init__(self, weights):
        super().__init__()
        self.trunk = nn.Conv2d(len(weights[0]), len(weights[0]), 1, bias=False)
        self.head = nn.Linear(len(weights[0]), len(weights), bias=True)
        with torch.no_grad():
            self.trunk.weight.copy_(torch.eye(len(weights[0]))[..., None, None])
            self.head.weight.copy_(torch.tensor(weights))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(self.trunk(x).mean((2, 3)))


# --- the worked example -----------------------------------------------------------------------------------

F0 = [[10, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]]
F1 = [[0, 0, 0, 2], [0, 0, 2, 0], [0, 2, 0, 0], [2, 0, 0, 0]]
F2 = [[10, 10, 10, 10], [0, 0, 0, 0], [0, 0, 0, 0], [20, 20, 20, 20]]
# .3 f0 + .5 f1 + .1 f2 and .4 f0 + .6 f1 + .8 f2, by hand
MAP0 = [[4, 1, 1, 2], [0, 3, 1, 0], [0, 1, 3, 0], [3, 2, 2, 5]]
MAP1 = [[12, 8, 8, 9.2], [0, 4, 1.2, 0], [0, 1.2, 4, 0], [17.2, 16, 16, 20]]
# Sums of the maps: 28 and 116.8. The paper's score is the sum, the network's logit the mean: a 16th of it.
LOGITS = [1.75, 7.3]


def test_the_worked_example():
    model = Given([[0.3, 0.5, 0.1], [0.4, 0.6, 0.8]])
    features = torch.tensor([F0, F1, F2], dtype=torch.float32)
    maps = explain.cam(model, features[None], classes=[0, 1])
    assert maps.values.dtype == torch.float32
    assert maps.values.shape == (1, 2, 4, 4)
    torch.testing.assert_close(maps.values[0], torch.tensor([MAP0, MAP1], dtype=torch.float32))
    torch.testing.assert_close(maps.scores, torch.tensor([LOGITS]))
    torch.testing.assert_close(maps.constants, torch.zeros(1, 2))
    for k, weights in enumerate(([0.3, 0.5, 0.1], [0.4, 0.6, 0.8])):
        assert np.allclose(maps.values[0, k], cam_eq2(features.numpy(), weights), atol=1e-6)
        assert score_eq1(features.numpy(), weights) == pytest.approx(16 * LOGITS[k])
        assert float(maps.values[0, k].sum()) == pytest.approx(16 * LOGITS[k])
        assert float(maps.values[0, k].mean()) == pytest.approx(LOGITS[k])


def test_the_bias_is_the_constant():
    model = Given([[0.3, 0.5, 0.1], [0.4, 0.6, 0.8]])
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([-3.0, 7.0]))
    maps = explain.cam(model, torch.tensor([F0, F1, F2], dtype=torch.float32)[None], classes=[0, 1])
    torch.testing.assert_close(maps.values[0], torch.tensor([MAP0, MAP1], dtype=torch.float32))
    torch.testing.assert_close(maps.constants, torch.tensor([[-3.0, 7.0]]))
    torch.testing.assert_close(maps.scores, torch.tensor([[-1.25, 14.3]]))


def test_probabilities_are_the_softmax_over_all_classes():
    model, x = net(), noise(3, 3, 20, 20)
    maps = explain.cam(model, x, "top2")
    torch.testing.assert_close(maps.probabilities, model(x).softmax(1).topk(2).values)


# --- classes ----------------------------------------------------------------------------------------------


def named():
    return Subject(net(), classes=("cat", "dog, hound", "bird", "tree"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (2, [[2], [2]]),
        ("dog, hound", [[1], [1]]),
        ("HOUND", [[1], [1]]),
        (["tree", 0], [[3, 0], [3, 0]]),
        ([[0, "bird"], [3, 1]], [[0, 2], [3, 1]]),
        (torch.tensor([3, 1]), [[3, 1], [3, 1]]),
        (torch.tensor([[3], [1]]), [[3], [1]]),
        (np.array([[3], [1]]), [[3], [1]]),
        ([np.int64(2)], [[2], [2]]),
        (lambda logits: torch.zeros(len(logits), 1, dtype=torch.long), [[0], [0]]),
        (lambda logits: "tree", [[3], [3]]),
        ("3", [[3], [3]]),
    ],
)
def test_classes(spec, expected):
    x = noise(2, 3, 20, 20)
    maps = explain.cam(named(), x, spec)
    assert maps.classes.tolist() == expected
    assert maps.classes.dtype == torch.int64
    torch.testing.assert_close(maps.scores, named().model(x).gather(1, torch.tensor(expected)))


@pytest.mark.parametrize("count", [1, 3])
def test_top_classes_by_logit(count):
    x = noise(5, 3, 20, 20)
    maps = explain.cam(named(), x, f"top{count}")
    assert maps.classes.tolist() == named().model(x).topk(count).indices.tolist()
    assert explain.cam(named(), x).classes.shape == (5, 1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (4, "class 4 does not exist: the model has classes 0 to 3"),
        (-1, "class -1 does not exist"),
        ("houd", r"unknown class 'houd'; near: dog, hound"),
        ("top5", "top5 asked for, but the model has 4 classes"),
        ("top0", "top0"),
        ([], "give an index, a name"),
        ([0, [1]], "mixes single classes and lists"),
        ([[0], [1], [2]], "3 lists for 2 images"),
        ([[0], [1, 2]], "the same length"),
        ([[], []], "the same length, at least 1"),
        (torch.tensor([0.5]), "give integers"),
        (torch.tensor([True]), "give integers"),
        ([1.5], "class 1.5 is no index and no name"),
        ([None], "class None is no index and no name"),
        (None, "classes=None: give an index"),
    ],
)
def test_wrong_classes(spec, message):
    with pytest.raises(InputError, match=message):
        explain.cam(named(), noise(2, 3, 20, 20), spec)


def test_names_without_names_or_of_several_classes():
    with pytest.raises(InputError, match="no class names: give an index"):
        explain.cam(net(), noise(1, 3, 20, 20), "cat")
    twice = Subject(net(), classes=("crane", "dog", "crane", "tree"))
    with pytest.raises(InputError, match=r"'crane' is the name of classes \[0, 2\]"):
        explain.cam(twice, noise(1, 3, 20, 20), "crane")
    with pytest.raises(InputError, match="2 class names for a network of 4 classes"):
        explain.cam(Subject(net(), classes=("a", "b")), noise(1, 3, 20, 20), 0)
    digits = Subject(net(), classes=("3", "1", "0", "2"))
    assert explain.cam(digits, noise(1, 3, 20, 20), ["3", 3]).classes.tolist() == [[0, 3]]


def test_per_sample_lists_must_be_as_many_as_images_in_all_not_in_each_chunk():
    with pytest.raises(InputError, match="2 lists for 4 images"):
        explain.cam(net(), noise(4, 3, 20, 20), [[0], [1]], batch_size=2)


# --- one forward, any batch -------------------------------------------------------------------------------


def counted(model):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_several_classes_cost_one_forward_pass():
    model, x = net(), noise(3, 3, 20, 20)
    calls = counted(model)
    maps = explain.cam(model, x, [0, 1, 2, 3])
    assert len(calls) == 1
    single = [explain.cam(model, x, c) for c in range(4)]
    torch.testing.assert_close(maps.values, torch.cat([one.values for one in single], 1))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_chunks_equal_one_batch(size):
    model, x = net(), noise(5, 3, 20, 20)
    rows = [[0, 3], [1, 2], [2, 0], [3, 1], [1, 0]]
    whole, parts = explain.cam(model, x, rows), explain.cam(model, x, rows, batch_size=size)
    assert torch.equal(whole.classes, parts.classes)
    for name in ("values", "scores", "constants", "probabilities"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    with pytest.raises(InputError, match="batch_size=0"):
        explain.cam(model, x, batch_size=0)


def test_channel_order_changes_nothing():
    model, x = net(), noise(2, 3, 20, 20)
    other, order = copy.deepcopy(model), torch.tensor([4, 0, 5, 2, 1, 3])
    with torch.no_grad():
        other[2].weight.copy_(model[2].weight[order])
        other[2].bias.copy_(model[2].bias[order])
        other[5].weight.copy_(model[5].weight[:, order])
    torch.testing.assert_close(explain.cam(other, x).values, explain.cam(model, x).values)


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_the_scale_of_logits_changes_no_shape(scale):
    model, x = net(), noise(2, 3, 20, 20)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[5].weight.mul_(scale)
        other[5].bias.mul_(scale)
    a, b = explain.cam(model, x, "top4"), explain.cam(other, x, "top4")
    assert b.residual < 1e-5
    torch.testing.assert_close(b.normalized("minmax").values, a.normalized("minmax").values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(b.normalized().values, a.normalized().values, rtol=1e-4, atol=1e-5)


# --- heads ------------------------------------------------------------------------------------------------


class Written(nn.Module):
    """A trunk and a head written as a function."""

    def __init__(self, head, features=6, classes=4):
        super().__init__()
        self.trunk, self.head = net([], features), head
        self.linear = Linear(features, classes)

    def forward(self, x):
        return self.head(self, self.trunk(x))


def dense_net(m, f):  # DenseNet: a function in place gives the map, no module owns it
    return m.linear(torch.flatten(F.adaptive_avg_pool2d(F.relu(f, inplace=True), (1, 1)), 1))


HEADS = {
    "view": lambda m, f: m.linear(f.mean(3).mean(2).view(f.size(0), -1)),
    "view pooled": lambda m, f: m.linear(F.adaptive_avg_pool2d(f, 1).view(f.shape[0], f.shape[1])),
    "reshape": lambda m, f: m.linear(F.avg_pool2d(f, f.shape[-1]).reshape(f.size(0), -1)),
    "reshape tuple": lambda m, f: m.linear(F.adaptive_avg_pool2d(f, 1).reshape((len(f), -1))),
    "flatten": lambda m, f: m.linear(F.adaptive_avg_pool2d(f, 1).flatten(1)),
    "mean list": lambda m, f: m.linear(f.mean([2, 3])),
    "mean then": lambda m, f: m.linear(f.flatten(2).mean(-1)),
    "squeeze dims": lambda m, f: m.linear(F.adaptive_avg_pool2d(f, 1).squeeze(-1).squeeze(-1)),
    "matmul": lambda m, f: f.mean((2, 3)) @ m.linear.weight.T + m.linear.bias,
    "cast": lambda m, f: m.linear(f.mean((2, 3)).float().to(torch.float32)),
    "split": lambda m, f: m.linear(torch.cat(f.mean((2, 3)).chunk(2, 1), 1)),
    "in place relu": dense_net,
    "in place on the pooled": lambda m, f: m.linear(f.mean((2, 3)).mul_(3).add_(1)),
    "starts in place": lambda m, f: m.linear(f.flatten(2).mul_(2).mean(2)),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_ways_to_write_a_head(name, batch):
    torch.manual_seed(1)
    model = Written(HEADS[name]).eval()
    x = noise(batch, 3, 20, 20)
    if name == "starts in place":  # the map itself is overwritten, so no map can be shown that adds up
        with pytest.raises(ModelError, match="do not add up"):
            explain.cam(model, x)
        return
    maps = explain.cam(model, x, "top4")
    assert maps.exact
    assert maps.residual < 1e-5
    torch.testing.assert_close(maps.values.mean((2, 3)) + maps.constants, model(x).sort(1, True).values)
    assert float(maps.scores.abs().max()) > 1e-3


def test_squeeze_of_everything_needs_more_than_one_image():
    model = Written(lambda m, f: m.linear(F.adaptive_avg_pool2d(f, 1).squeeze())).eval()
    for batch in (2, 3):
        assert explain.cam(model, noise(batch, 3, 20, 20)).residual < 1e-5
    with pytest.raises(ModelError, match="the output has batch 4, the map at trunk 1"):
        explain.cam(model, noise(1, 3, 20, 20))


def test_a_map_with_channels_last_is_not_averaged_over_the_wrong_axes():
    model = Written(lambda m, f: m.linear(f.permute(0, 2, 3, 1)).mean((1, 2))).eval()
    x = noise(2, 3, 20, 20)
    maps = explain.cam(model, x, [2, 0])
    assert maps.layer == "linear"
    assert maps.residual < 1e-5
    by_position = model.linear(model.trunk(x).permute(0, 2, 3, 1)).detach()
    torch.testing.assert_close(maps.values, by_position[..., [2, 0]].permute(0, 3, 1, 2))
    assert anatomy(model, images=x).grid == (7, 7)


def test_dense_net_style_map_has_a_name_of_its_own():
    model = Written(dense_net).eval()
    x = noise(2, 3, 20, 20)
    maps = explain.cam(model, x, [0, 1])
    assert maps.layer == "trunk:relu"
    features = model.trunk(x).relu()
    expected = torch.einsum("kc,bchw->bkhw", model.linear.weight[:2], features)
    torch.testing.assert_close(maps.values, expected.detach())


def test_stacked_linear_layers():
    model = net([AdaptiveAvgPool2d(1), Flatten(), Linear(6, 9), Linear(9, 5, bias=False), Linear(5, 4)])
    x = noise(3, 3, 20, 20)
    maps = explain.cam(model, x, [0, 1, 2, 3])
    assert maps.residual < 1e-5
    weight = model[7].weight @ model[6].weight @ model[5].weight
    torch.testing.assert_close(
        maps.values, torch.einsum("kc,bchw->bkhw", weight, model[:3](x)).detach(), rtol=1e-4, atol=1e-6
    )


def test_batch_norm_between_pooling_and_linear():
    head = [AdaptiveAvgPool2d(1), Flatten(), nn.BatchNorm1d(6), Linear(6, 4)]
    model = net(head).train()
    model(noise(8, 3, 20, 20))
    assert explain.cam(model.eval(), noise(2, 3, 20, 20), "top4").residual < 1e-5


@pytest.mark.parametrize("relu", [False, True])
def test_one_by_one_convolution_then_pooling(relu):
    tail = [Conv2d(6, 4, 1), *([ReLU(inplace=True)] if relu else []), AdaptiveAvgPool2d(1), Flatten()]
    model, x = net(tail), noise(2, 3, 20, 20)
    maps = explain.cam(model, x, [0, 1, 2, 3])
    torch.testing.assert_close(maps.values, model[: 5 if relu else 4](x).detach())
    torch.testing.assert_close(maps.constants, torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ([Flatten(), Linear(6 * 49, 4)], "sees positions"),
        ([AdaptiveAvgPool2d(1), Flatten(), Linear(6, 9), ReLU(), Linear(9, 4)], "not affine in its mean"),
        ([AdaptiveAvgPool2d(1), Flatten(), nn.LayerNorm(6), nn.Tanh(), Linear(6, 4)], "not affine in its mean"),
        ([AdaptiveAvgPool2d(1), Flatten(), nn.Hardswish(), Linear(6, 4)], "not affine in its mean"),
        ([nn.AdaptiveMaxPool2d(1), Flatten(), Linear(6, 4)], "not affine in its mean"),
        ([AdaptiveAvgPool2d(1), Flatten(), Linear(6, 4), nn.Softmax(1)], "not affine in its mean"),
    ],
)
def test_heads_without_exact_maps_are_refused(head, reason):
    model = net(head)
    parts = anatomy(model, images=noise(1, 3, 20, 20))
    assert not parts.exact
    assert reason in parts.reason
    with pytest.raises(ModelError, match=f"no exact class activation map at 2: .*{reason}.*linear_head"):
        explain.cam(model, noise(2, 3, 20, 20))


def test_a_head_that_mixes_earlier_maps_in_is_refused():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.fc = Conv2d(3, 4, 3), Conv2d(4, 4, 3), Linear(8, 3)

        def forward(self, x):
            early = self.a(x)
            pooled = early.mean((2, 3))
            return self.fc(torch.cat([pooled, self.b(early).mean((2, 3))], 1))

    torch.manual_seed(0)
    with pytest.raises(ModelError, match="needs more than the map"):
        explain.cam(Mixed().eval(), noise(2, 3, 9, 9))


def test_a_head_of_zeros_is_refused():
    model = net()
    with torch.no_grad():
        model[5].weight.zero_()
    with pytest.raises(ModelError, match="the logits do not depend on the map"):
        explain.cam(model, noise(2, 3, 20, 20))


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda logits, f: {"scores": logits}, "returns dict with scores, not a tensor of logits"),
        (lambda logits, f: ("scores", logits), "returns a tuple of 2, not a tensor"),
        (lambda logits, f: f, r"shape \(2, 6, 7, 7\), not logits \(batch, classes\)"),
        (lambda logits, f: torch.zeros(2, 4), "does not come from the last spatial map"),
    ],
)
def test_outputs_that_are_no_logits_are_named(wrap, message):
    model = Written(lambda m, f: wrap(m.linear(f.mean((2, 3))), f)).eval()
    with pytest.raises(ModelError, match=message):
        explain.cam(model, noise(2, 3, 20, 20))


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda y: SimpleNamespace(logits=y), None),
        (lambda y: {"logits": y, "loss": None}, None),
        (lambda y: {"scores": y}, "scores"),
        (lambda y: (y, y + 1), None),
        (lambda y: ["aux", y], 1),
        (lambda y: [{"cls": y}], lambda out: out[0]["cls"]),
    ],
)
def test_structured_outputs(wrap, output):
    model = Written(lambda m, f: wrap(m.linear(f.mean((2, 3))))).eval()
    x = noise(2, 3, 20, 20)
    maps = explain.cam(model, x, "top2", output=output)
    assert maps.residual < 1e-5
    plain = explain.cam(Written(lambda m, f: m.linear(f.mean((2, 3)))).eval(), x, "top2")
    torch.testing.assert_close(maps.values, plain.values)
    with explain.watch(model, output=output) as w:
        model(x)
        assert torch.equal(w.cam("top2").values, maps.values)


def test_parts_of_an_output_that_are_not_there_are_named():
    model = Written(lambda m, f: {"scores": m.linear(f.mean((2, 3)))}).eval()
    with pytest.raises(InputError, match=r"output='score': the model returns dict with scores.*scores"):
        explain.cam(model, noise(2, 3, 20, 20), output="score")
    with pytest.raises(InputError, match="output=3"):
        explain.cam(model, noise(2, 3, 20, 20), output=3)


def test_models_without_maps_are_named():
    with pytest.raises(ModelError, match="no spatial feature map"):
        explain.cam(Sequential(Flatten(), Linear(12, 3)), noise(1, 3, 2, 2))
    with pytest.raises(InputError, match="cannot explain a int"):
        explain.cam(3, noise(1, 3, 20, 20))


def test_maps_with_nan_are_refused():
    model = net()
    with torch.no_grad():
        model[2].bias[0] = torch.nan
    with pytest.raises(ModelError, match="the map at 2 holds NaN"):
        explain.cam(model, noise(2, 3, 20, 20))


# --- inputs and models as they come ------------------------------------------------------------------------


def test_one_channel():
    model = net(inputs=1)
    assert explain.cam(model, noise(2, 1, 20, 20)).residual < 1e-5
    assert anatomy(model, (1, 20, 20)).grid == (7, 7)


def test_frozen_parameters_and_inference_mode():
    model = net().requires_grad_(False)
    expected = explain.cam(model, noise(2, 3, 20, 20), "top4")
    with torch.inference_mode():
        maps = explain.cam(model, noise(2, 3, 20, 20), "top4")
    assert torch.equal(maps.values, expected.values)
    assert maps.residual < 1e-5
    with torch.no_grad():
        assert torch.equal(explain.cam(model, noise(2, 3, 20, 20), "top4").values, expected.values)


def test_double_precision():
    model, x = net().double(), noise(2, 3, 20, 20)
    for images in (x.double(), x):
        maps = explain.cam(model, images, "top4")
        assert maps.values.dtype == maps.scores.dtype == maps.constants.dtype == torch.float32
        assert maps.residual < 1e-6
    torch.testing.assert_close(maps.values, explain.cam(net(), x, "top4").values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model, x = net().to(dtype), noise(2, 3, 20, 20)
    maps = explain.cam(model, x.to(dtype), [0, 1, 2, 3])
    assert maps.values.dtype == torch.float32
    assert maps.residual < 4 * torch.finfo(dtype).eps
    expected = explain.cam(net(), x, [0, 1, 2, 3]).values
    assert (maps.values - expected).abs().max() < 8 * torch.finfo(dtype).eps * expected.abs().max()


def test_autocast():
    model, x = net(), noise(2, 3, 20, 20)
    with torch.autocast("cpu", torch.bfloat16):
        maps = explain.cam(model, x, [0, 1])
    expected = explain.cam(net(), x, [0, 1]).values
    assert (maps.values - expected).abs().max() < 0.05 * expected.abs().max()


def test_train_mode_models_are_explained_in_eval_mode():
    torch.manual_seed(0)
    layers = [
        Conv2d(3, 6, 3),
        BatchNorm2d(6),
        ReLU(),
        AdaptiveAvgPool2d(1),
        Flatten(),
        nn.Dropout(),
        Linear(6, 4),
    ]
    model = Sequential(*layers)
    x = noise(4, 3, 9, 9)
    expected = explain.cam(copy.deepcopy(model).eval(), x, "top4")
    assert torch.equal(explain.cam(model, x, "top4").values, expected.values)


def test_wrong_images():
    for images, message in [
        (noise(3, 20, 20), "no preprocessed batch"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "no preprocessed batch"),
        (noise(0, 3, 20, 20), "holds no images"),
        ([], "no images were given"),
        ([noise(3, 20, 20)], "stack it into one tensor"),
        ("cat.jpg", "pictures need a transform"),
        (7, "pictures need a transform"),
    ]:
        with pytest.raises(InputError, match=message):
            explain.cam(net(), images)


# --- results ----------------------------------------------------------------------------------------------


def test_upsampling_is_by_definition():
    maps = explain.cam(net(), noise(2, 3, 20, 20), "top2")
    for size in [(20, 33), (4, 5), (7, 7)]:
        large = maps.resized(size)
        assert large.values.shape == (2, 2, *size)
        for b, k in np.ndindex(2, 2):
            assert np.allclose(large.values[b, k], bilinear(maps.values[b, k].numpy(), size), atol=1e-6)
    with pytest.raises(InputError, match="cannot resize"):
        maps.resized((0, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("how", ["max", "minmax"])
def test_flat_maps_stay_finite(dtype, how):
    assert (normalize_maps(torch.zeros(1, 1, 3, 3, dtype=dtype), how) == 0).all()
    assert (normalize_maps(torch.full((1, 1, 3, 3), -2.0, dtype=dtype), how) == 0).all()
    with pytest.raises(InputError, match="unknown normalisation"):
        normalize_maps(torch.zeros(1, 1, 2, 2), "softmax")


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e10])
def test_normalising_has_no_epsilon(scale):
    maps = noise(2, 3, 4, 4) * scale
    assert (normalize_maps(maps).amax((2, 3)) == 1).all()
    both = normalize_maps(maps, "minmax")
    assert (both.amax((2, 3)) == 1).all()
    assert (both.amin((2, 3)) == 0).all()
    torch.testing.assert_close(normalize_maps(maps), normalize_maps(maps / scale))


def test_frames():
    maps = explain.cam(net(), noise(1, 3, 20, 24))
    assert maps.frame == "input"
    assert maps.input_size == (20, 24)
    assert maps.name(2) == "class 2"
    assert resize_maps(maps.values, (20, 24)).shape[2:] == (20, 24)


# --- watch ------------------------------------------------------------------------------------------------


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("values", "classes", "scores", "constants"))


def test_watch_equals_cam_without_a_second_forward():
    model, x = net(), noise(3, 3, 20, 20)
    expected = explain.cam(model, x, "top3"), explain.cam(model, x, 1)
    calls = counted(model)
    with explain.watch(model) as w:
        out = model(x)
        first = w.cam("top3")
        resize_maps(x, (30, 30))  # the user's own spatial tensors are not the model's
        out.softmax(1)
        second = w.cam(1)
    after = w.cam("top3")
    assert len(calls) == 1
    assert same(first, expected[0])
    assert same(after, expected[0])
    assert same(second, expected[1])
    assert not first.values.is_inference()


def test_watch_gives_the_last_forward_and_takes_keywords():
    model = Written(HEADS["flatten"]).eval()
    with explain.watch(Subject(model)) as w:
        with pytest.raises(ModelError, match="no forward pass was seen"):
            w.cam()
        model(noise(2, 3, 20, 20))
        model(x=noise(3, 3, 24, 20, seed=5))
        assert same(w.cam(), explain.cam(model, noise(3, 3, 24, 20, seed=5)))
        assert w.cam().input_size == (24, 20)


def test_watch_after_a_forward_pass_that_failed():
    model, x = net(), noise(2, 3, 20, 20)
    with explain.watch(model) as w:
        with pytest.raises(RuntimeError):
            model(noise(2, 7, 20, 20))
        resize_maps(x, (30, 30))
        model(x)
        assert same(w.cam(), explain.cam(model, x))


def test_watch_inside_inference_mode():
    model = net()
    with torch.inference_mode(), explain.watch(model) as w:
        x = noise(2, 3, 20, 20)
        model(x)
        maps = w.cam("top2")
    assert same(maps, explain.cam(model, noise(2, 3, 20, 20), "top2"))
    assert same(w.cam("top2"), maps)


def test_watch_inside_inference_mode_with_a_factor_made_in_the_forward_pass():
    model = Written(lambda m, f: m.linear(f.mean((2, 3)) * torch.full((6,), 2.0, dtype=f.dtype))).double().eval()
    with torch.inference_mode(), explain.watch(model) as w:
        model(noise(2, 3, 20, 20).double())
        assert w.cam("top2").residual < 1e-6


def test_watch_in_training_code_leaves_gradients_alone():
    def step(watching):
        torch.manual_seed(0)
        model = Sequential(
            Conv2d(3, 6, 3), BatchNorm2d(6), ReLU(inplace=True), AdaptiveAvgPool2d(1), Flatten(), Linear(6, 4)
        ).train()
        x, y = noise(4, 3, 9, 9), torch.tensor([0, 1, 2, 3])
        maps = None
        if watching:
            with explain.watch(model) as w:
                out = model(x)
                maps = w.cam("top2")
                assert all(p.grad is None for p in model.parameters())
                loss = F.cross_entropy(out, y)
                loss.backward()
        else:
            out = model(x)
            F.cross_entropy(out, y).backward()
        return out.detach(), [p.grad for p in model.parameters()], dict(model.named_buffers()), maps

    out, grads, buffers, _ = step(False)
    watched, watched_grads, watched_buffers, maps = step(True)
    assert torch.equal(out, watched)
    assert all(torch.equal(a, b) for a, b in zip(grads, watched_grads, strict=True))
    assert all(torch.equal(buffers[name], watched_buffers[name]) for name in buffers)
    assert not maps.values.requires_grad
    torch.testing.assert_close(maps.scores, out.topk(2).values)
    assert maps.residual < 1e-5


@pytest.mark.parametrize("extra", [nn.Dropout(0.5), nn.BatchNorm1d(6)])
def test_watch_in_training_mode_leaves_chance_out_of_the_head(extra):
    model = net([AdaptiveAvgPool2d(1), Flatten(), extra, Linear(6, 4)]).train()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with explain.watch(model) as w:
        model(noise(3, 3, 20, 20))
        after = {name: value.clone() for name, value in model.named_buffers()}
        maps = w.cam("top2")
    assert maps.exact
    assert maps.residual < 1e-5
    # The trunk has neither, so the whole is what it is in eval mode.
    assert all(torch.equal(value, after[name]) for name, value in model.named_buffers())
    assert model.training
    assert extra.training
    expected = explain.cam(model, noise(3, 3, 20, 20), maps.classes)
    torch.testing.assert_close(maps.values, expected.values)
    torch.testing.assert_close(maps.scores, expected.scores)
    assert isinstance(extra, nn.Dropout) or any(not torch.equal(after[name], buffers[name]) for name in buffers)
