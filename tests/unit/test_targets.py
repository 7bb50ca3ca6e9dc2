"""What is explained where it is no class's score; structured outputs; networks with further inputs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from oracles.perturbation import score_cam_algorithm_1
from torch import nn
from torch.nn import Conv2d, Linear

import explain
from explain.errors import InputError, ModelError
from explain.saliency import targets


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = noise(3, 3, 16, 16)


class Net(nn.Module):
    """A trunk with a bent head, so that gradients differ from image to image, and any form of output."""

    def __init__(self, outputs=5, wrap=lambda y: y):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(Conv2d(3, 4, 3, 2), nn.ReLU(), Conv2d(4, 6, 3), nn.ReLU())
        self.hidden, self.out, self.wrap = Linear(6, 8), Linear(8, outputs), wrap
        self.eval()

    def scores(self, a):
        return self.out(self.hidden(a.mean((2, 3))).tanh())

    def forward(self, x):
        return self.wrap(self.scores(self.trunk(x)))


def signed(a, g):
    """Grad-CAM without its ReLU, so that no map is zero."""
    return torch.einsum("bkc,bchw->bkhw", g.mean((3, 4)), a)


def literal(model, number, x=X):
    """The same of numbers ``(b,)`` of the map, by plain autograd, one image at a time."""
    maps = []
    for i in range(len(x)):
        a = model.trunk(x[i : i + 1]).detach().requires_grad_()
        (g,) = torch.autograd.grad(number(a, i).sum(), a)
        maps.append((g.mean((2, 3), keepdim=True) * a.detach()).sum(1))
    return torch.stack(maps)


LAYERS = [None, "trunk.3"]


def check(model, found, number, x=X):
    expected = literal(model, number, x)
    assert float(expected.abs().amax((1, 2, 3)).min()) > 1e-6
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("layer", LAYERS)
def test_similarity(layer):
    model, goals = Net(), noise(2, 5, seed=1)
    maps = explain.attribute(model, X, signed, targets.similarity(goals), layer=layer)
    assert maps.values.shape[:2] == (3, 2)
    assert maps.classes.tolist() == [[-1, -1]] * 3
    assert bool(maps.probabilities.isnan().all())
    for k in range(2):
        check(
            model,
            maps.values[:, k : k + 1],
            lambda a, i, k=k: F.cosine_similarity(model.scores(a), goals[k : k + 1]),
        )
        torch.testing.assert_close(maps.scores[:, k], F.cosine_similarity(model(X), goals[k : k + 1]).detach())
    one = explain.attribute(model, X, signed, targets.similarity(goals[0]), layer=layer)
    torch.testing.assert_close(one.values, maps.values[:, :1])


@pytest.mark.parametrize("layer", LAYERS)
def test_difference_and_loss(layer):
    model, goal = Net(), torch.tensor([1, 4, 2])
    found = explain.attribute(model, X, signed, targets.difference(2, 0), layer=layer)
    check(model, found.values, lambda a, i: model.scores(a)[:, 2] - model.scores(a)[:, 0])
    torch.testing.assert_close(found.scores[:, 0], (model(X)[:, 2] - model(X)[:, 0]).detach())
    target = targets.loss(lambda out: F.cross_entropy(out, goal[: len(out)], reduction="none"))
    found = explain.attribute(model, X, signed, target, layer=layer)
    check(model, found.values, lambda a, i: -F.cross_entropy(model.scores(a), goal[i : i + 1], reduction="none"))


def squared(out, goal):
    return (out - goal).square().mean(1)


GOALS = 3 * noise(3, 5, seed=4)


@pytest.mark.parametrize(
    ("method", "options", "sizes"),
    [
        (signed, None, (1, 2, 32)),
        ("fullgrad", None, (1, 2, 32)),
        ("scorecam", {"chunk": 3}, (1, 2, 32)),
        ("ablationcam", {"chunk": 3}, (1, 2, 32)),
        ("captum:integrated_gradients", {"n_steps": 3}, (1,)),
        ("captum:gradient_shap", {"n_samples": 3}, (1,)),
    ],
)
def test_goals_go_with_their_images(method, options, sizes):
    model = Net()
    alone = [
        explain.attribute(model, X[i : i + 1], method, targets.loss(squared, GOALS[i : i + 1]), options=options)
        for i in range(3)
    ]
    expected = torch.cat([one.values for one in alone])
    scale = float(expected.abs().max())
    for size in sizes:
        found = explain.attribute(model, X, method, targets.loss(squared, GOALS), options=options, batch_size=size)
        torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-5 * scale)
        torch.testing.assert_close(found.scores[:, 0], -squared(model(X), GOALS).detach())
    turned = explain.attribute(model, X, method, targets.loss(squared, GOALS.flip(0)), options=options, batch_size=1)
    assert not torch.allclose(turned.values, expected, atol=1e-3 * scale)
    with pytest.raises(InputError, match="loss has 2 goals, which are fewer than the images"):
        explain.attribute(model, X, method, targets.loss(squared, GOALS[:2]), options=options)


def test_one_goal_for_all_images():
    found = explain.attribute(Net(), X, "scorecam", targets.loss(squared, GOALS[:1]))
    same = explain.attribute(Net(), X, "scorecam", targets.loss(lambda out: squared(out, GOALS[:1])))
    torch.testing.assert_close(found.values, same.values)


@pytest.mark.parametrize(
    ("method", "options"),
    [("scorecam", {"chunk": 3}), ("ablationcam", {"chunk": 3}), ("captum:gradient_shap", {"n_samples": 3})],
)
def test_what_cannot_follow_its_image_is_refused(method, options):
    """Three images or samples at a time have the shape of the batch, and would get each other's goals."""
    with pytest.raises(InputError, match=r"moves images to other places.*of_images\(rows\)"):
        explain.attribute(Net(), X, method, lambda out: squared(out, GOALS), options=options)
    with pytest.raises(InputError, match="3 rows for 1 images"):
        explain.attribute(Net(), X, method, lambda out: squared(out, GOALS), options=options, batch_size=1)
    if method.startswith("captum"):
        with pytest.raises(InputError, match="moves images to other places.*: use batch_size=1"):
            explain.attribute(Net(), X, method, targets.loss(squared, GOALS), options=options)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("shape", ["(b,)", "(b, 1)"])
@pytest.mark.parametrize("spec", ["top1", 0])
def test_regression(layer, shape, spec):
    model = Net(1, (lambda y: y[:, 0]) if shape == "(b,)" else (lambda y: y))
    maps = explain.attribute(model, X, signed, spec, layer=layer)
    check(model, maps.values, lambda a, i: model.scores(a))
    assert maps.classes.tolist() == [[0]] * 3
    torch.testing.assert_close(maps.scores[:, 0], model(X).detach().reshape(3))
    assert bool(maps.probabilities.isnan().all())  # one number has no softmax
    for method in ("scorecam", "ablationcam", "fullgrad", "captum:saliency"):
        other = explain.attribute(model, X, method, spec)
        torch.testing.assert_close(other.scores, maps.scores)
        assert bool(other.values.isfinite().all())


@pytest.mark.parametrize("layer", LAYERS)
def test_classes_as_a_function(layer):
    model = Net()
    second = explain.attribute(model, X, signed, lambda out: out.topk(2).indices[:, 1:], layer=layer)
    assert second.classes[:, 0].tolist() == model(X).topk(2).indices[:, 1].tolist()
    named = explain.attribute(model, X, signed, second.classes, layer=layer)
    torch.testing.assert_close(second.values, named.values)
    floats = explain.attribute(model, X, signed, lambda out: out[:, :2].exp(), layer=layer)
    for k in range(2):
        check(model, floats.values[:, k : k + 1], lambda a, i, k=k: model.scores(a)[:, k].exp())
    torch.testing.assert_close(floats.scores, model(X)[:, :2].exp().detach())


def test_a_number_of_ones_own_has_no_class_activation_map():
    class Pooled(Net):
        def scores(self, a):
            return self.out(self.hidden(a.mean((2, 3))))

    assert explain.attribute(Pooled(), X, "cam", 0).exact
    with pytest.raises(InputError, match="a class activation map is of a class"):
        explain.attribute(Pooled(), X, "cam", targets.difference(0, 1))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (targets.region(1), r"region\(1\) needs scores \(b, classes, H, W\).*got \(3, 5\)"),
        (targets.similarity(torch.ones(4)), r"similarity needs embeddings \(b, 4\): got \(3, 5\)"),
        (targets.difference(0, 5), r"difference\(0, 5\) needs logits .* with both: got \(3, 5\)"),
        (targets.difference(-1, 2), r"difference\(-1, 2\)"),
        (targets.detections(1), "detections needs a list of dicts .* got Tensor"),
        (lambda out: out.mean(), r"returned \(\): it must return \(b,\) or \(b, k\)"),
        (lambda out: out[0], r"returned 5 rows for 3 images"),
        (lambda out: out[None], r"returned \(1, 3, 5\): it must"),
        (lambda out: 3.5, "3.5"),
        (lambda out: out.detach()[:, 0], "do not depend on"),
        (lambda out: torch.zeros(3), "do not depend on"),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_wrong_targets(target, message, layer):
    with pytest.raises((InputError, ModelError), match=message):
        explain.attribute(Net(), X, signed, target, layer=layer)


# --- segmentation and detection -----------------------------------------------------------------------------


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(Conv2d(3, 6, 3, 2, padding=1), nn.ReLU())
        self.classifier = Conv2d(6, 4, 1)
        self.eval()

    def forward(self, x):
        return {"out": F.interpolate(self.classifier(self.trunk(x)), x.shape[2:], mode="bilinear"), "aux": None}


@pytest.mark.parametrize("shape", [None, (16, 16), (8, 8), (3, 32, 32)])
def test_region(shape):
    model = Segmenter()
    mask = None if shape is None else noise(*shape, seed=2) > 0.3
    maps = explain.attribute(model, X, signed, targets.region(2, mask), layer="trunk")
    out = model(X)["out"].detach()
    means = []
    for i in range(3):
        a = model.trunk(X[i : i + 1]).detach().requires_grad_()
        scores = F.interpolate(model.classifier(a), (16, 16), mode="bilinear")[0]
        picked = []
        for y in range(16):
            for x in range(16):
                if shape is None:
                    inside = int(out[i, :, y, x].argmax()) == 2
                else:
                    plane = mask[i] if mask.ndim == 3 else mask
                    inside = bool(plane[y * plane.shape[0] // 16, x * plane.shape[1] // 16])
                if inside:
                    picked.append(scores[2, y, x])
        number = torch.stack(picked).mean()
        means.append(float(number.detach()))
        (g,) = torch.autograd.grad(number, a)
        expected = (g.mean((2, 3), keepdim=True) * a.detach()).sum(1)
        torch.testing.assert_close(maps.values[i], expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(maps.scores[:, 0], torch.tensor(means))


def test_a_region_that_is_empty_gives_a_zero_map():
    maps = explain.attribute(Segmenter(), X, signed, targets.region(0, torch.zeros(16, 16)), layer="trunk")
    assert torch.equal(maps.values, torch.zeros_like(maps.values))
    with pytest.raises(InputError, match=r"region\(9\)"):
        explain.attribute(Segmenter(), X, signed, targets.region(9), layer="trunk")


@pytest.mark.parametrize("method", [signed, "fullgrad"])
@pytest.mark.parametrize("size", [1, 2])
def test_masks_go_with_their_images(size, method):
    mask, layer = noise(3, 16, 16, seed=3) > 0, None if method == "fullgrad" else "trunk"
    whole = explain.attribute(Segmenter(), X, method, targets.region(1, mask), layer=layer)
    parts = explain.attribute(Segmenter(), X, method, targets.region(1, mask), layer=layer, batch_size=size)
    torch.testing.assert_close(parts.values, whole.values)
    for some in (mask[:2], mask[None]):
        with pytest.raises(InputError, match=r"region\(1\) has"):
            explain.attribute(Segmenter(), X, method, targets.region(1, some), layer=layer, batch_size=size)


@pytest.mark.parametrize("size", [1, 2, 32])
def test_score_cam_of_a_dense_output(size):
    model, mask = Segmenter(), noise(3, 16, 16, seed=3) > 0
    target = targets.region(2, mask)
    maps = explain.attribute(model, X, "scorecam", target, layer="trunk", batch_size=size, options={"chunk": 3})
    for i in range(3):
        with torch.no_grad():
            feature_map = model.trunk(X[i : i + 1])[0]

            def score(image, i=i):
                return float(targets.region(2, mask[i])(model(torch.from_numpy(image)[None].float())["out"]))

            expected = score_cam_algorithm_1(feature_map.numpy(), X[i].numpy(), score)
        assert expected.max() > 0
        torch.testing.assert_close(
            maps.values[i, 0].double(), torch.from_numpy(expected).double(), rtol=1e-3, atol=1e-5
        )
    torch.testing.assert_close(maps.scores[:, 0], target(model(X)["out"]).detach())


def test_ablation_cam_of_a_dense_output_is_refused():
    with pytest.raises(ModelError, match=r"shape \(3, 4, 16, 16\).*runs only what follows the layer.*'scorecam'"):
        explain.attribute(Segmenter(), X, "ablationcam", targets.region(1), layer="trunk")


def test_torchvisions_segmentation():
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(0)
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).eval()
    x = noise(2, 3, 64, 64)
    maps = explain.attribute(model, x, signed, targets.region(1, torch.ones(64, 64)), layer="backbone.16")
    a = {}
    handle = model.backbone["16"].register_forward_hook(lambda m, i, o: a.update(value=o))
    scores = model(x)["out"][:, 1].mean((1, 2))
    handle.remove()
    (g,) = torch.autograd.grad(scores.sum(), a["value"])
    expected = (g.mean((2, 3), keepdim=True) * a["value"].detach()).sum(1, keepdim=True)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(maps.values, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(maps.scores[:, 0], scores.detach())


def test_torchvisions_detection():
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=96, max_size=96
    ).eval()
    x = noise(1, 3, 96, 96).abs().clamp(max=1)
    layer = "backbone.body.13"
    maps = explain.attribute(model, x, signed, targets.detections(1), layer=layer)
    a = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: a.update(value=o))
    (found,) = model(x)
    handle.remove()
    total = found["scores"][found["labels"] == 1].sum()
    assert int((found["labels"] == 1).sum()) > 0
    (g,) = torch.autograd.grad(total, a["value"])
    expected = (g.mean((2, 3), keepdim=True) * a["value"].detach()).sum(1, keepdim=True)
    torch.testing.assert_close(
        maps.values, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max().clamp_min(1e-6))
    )
    torch.testing.assert_close(maps.scores[0, 0], total.detach())


def test_detections_of_a_box():
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 4.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 10.0, 9.0]]
    )
    out = [{"boxes": boxes, "labels": torch.tensor([1, 1, 1, 2]), "scores": torch.tensor([0.5, 0.25, 0.125, 1.0])}]
    assert float(targets.detections(1)(out)) == 0.875
    assert float(targets.detections(1, (0, 0, 10, 10))(out)) == 0.5  # the second has IoU 0.4
    assert float(targets.detections(1, (0, 0, 10, 10), iou=0.4)(out)) == 0.75
    assert float(targets.detections(2, (0, 0, 10, 10))(out)) == 1.0
    assert float(targets.detections(3)(out)) == 0.0


# --- outputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda y: {"logits_per_image": y, "text": 3}, None),
        (lambda y: SimpleNamespace(logits=y), None),
        (lambda y: (y, {"aux": 1}), None),
        (lambda y: {"head": {"cls": y}}, lambda out: out["head"]["cls"]),
        (lambda y: {"emb": y, "logits": -y}, "emb"),
    ],
)
def test_structured_outputs(wrap, output, layer):
    maps = explain.attribute(Net(wrap=wrap), X, signed, [1, 3], layer=layer, output=output)
    plain = explain.attribute(Net(), X, signed, [1, 3], layer=layer)
    torch.testing.assert_close(maps.values, plain.values)
    torch.testing.assert_close(maps.scores, plain.scores)
    for method in ("scorecam", "ablationcam", "fullgrad", "captum:saliency"):
        one = explain.attribute(Net(wrap=wrap), X, method, [1, 3], output=output)
        torch.testing.assert_close(one.values, explain.attribute(Net(), X, method, [1, 3]).values)


@pytest.mark.parametrize("layer", LAYERS)
def test_outputs_that_are_no_scores(layer):
    with pytest.raises((InputError, ModelError), match=r"shape \(3, 5, 1\)|returned|not logits"):
        explain.attribute(Net(wrap=lambda y: y[..., None]), X, signed, layer=layer)
    with pytest.raises((InputError, ModelError), match="embeds"):
        explain.attribute(Net(wrap=lambda y: {"embeds": y}), X, signed, layer=layer)
    with pytest.raises(InputError, match="class 5 does not exist"):
        explain.attribute(Net(), X, signed, 5, layer=layer)


# --- a second input -------------------------------------------------------------------------------------------


class Answering(nn.Module):
    """Answers a question about an image: the question's vector scales the channels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(Conv2d(3, 4, 3, 2), nn.ReLU(), Conv2d(4, 6, 3), nn.ReLU())
        self.words, self.out = nn.Embedding(10, 6), Linear(6, 4)
        self.eval()

    def forward(self, pixels, question=None, scale=1.0):
        asked = self.words(question).mean(1)
        return {"logits": scale * self.out((self.trunk(pixels).mean((2, 3)) * asked).tanh())}


QUESTION = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [1, 2, 32])
@pytest.mark.parametrize("name", [None, "pixels"])
def test_each_image_keeps_its_own_question(layer, size, name):
    model = Answering()
    inputs = {"question": QUESTION, "scale": 2.0}
    maps = explain.attribute(model, X, signed, [0, 2], layer=layer, inputs=inputs, image_name=name, batch_size=size)
    for k, index in enumerate([0, 2]):

        def number(a, i, index=index):
            asked = model.words(QUESTION[i : i + 1]).mean(1)
            return 2 * model.out((a.mean((2, 3)) * asked).tanh())[:, index]

        check(model, maps.values[:, k : k + 1], number)
    torch.testing.assert_close(maps.scores, model(X, QUESTION, 2.0)["logits"][:, [0, 2]].detach())


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "fullgrad"])
@pytest.mark.parametrize("size", [1, 2])
def test_other_methods_keep_questions_too(method, size):
    model, inputs = Answering(), {"question": QUESTION}
    whole = explain.attribute(model, X, method, [0, 2], inputs=inputs)
    parts = explain.attribute(model, X, method, [0, 2], inputs=inputs, batch_size=size)
    torch.testing.assert_close(parts.values, whole.values, rtol=1e-4, atol=1e-6)
    turned = explain.attribute(model, X, method, [0, 2], inputs={"question": QUESTION.flip(0)})
    assert not torch.allclose(turned.values, whole.values)


def test_captum_keeps_questions_image_by_image():
    model, inputs = Answering(), {"question": QUESTION}
    with pytest.raises(InputError, match="use batch_size=1"):
        explain.attribute(model, X, "captum:saliency", [0, 2], inputs=inputs)
    maps = explain.attribute(model, X, "captum:input_x_gradient", [0, 2], inputs=inputs, batch_size=1)
    x = X.clone().requires_grad_()
    for k, index in enumerate([0, 2]):
        (g,) = torch.autograd.grad(model(x, QUESTION)["logits"][:, index].sum(), x)
        torch.testing.assert_close(maps.values[:, k], (g * X).sum(1), rtol=1e-4, atol=1e-6)


def test_one_question_for_all_images():
    model = Answering()
    one = explain.attribute(model, X, signed, 1, inputs={"question": QUESTION[:1]}, layer="trunk")
    same = explain.attribute(model, X, signed, 1, inputs={"question": QUESTION[:1].expand(3, -1)}, layer="trunk")
    torch.testing.assert_close(one.values, same.values)
    default = explain.attribute(model, X, signed, 1, inputs={"question": QUESTION[:1]})
    torch.testing.assert_close(default.values, same.values, rtol=1e-4, atol=1e-7)


def test_a_question_beside_the_pooled_map_is_no_constant():
    class Adding(Answering):
        def forward(self, pixels, question=None):
            return self.out(self.trunk(pixels).mean((2, 3))) + self.words(question).mean(1)[:, :4]

    with pytest.raises(ModelError, match="needs more than the map"):
        explain.cam(Adding(), X, [0, 3], inputs={"question": QUESTION}, batch_size=2)


def test_a_wrong_input_name_is_one_line():
    for layer in LAYERS:
        with pytest.raises(ModelError, match="unexpected keyword argument 'query'"):
            explain.attribute(Answering(), X, signed, 0, inputs={"query": QUESTION}, layer=layer)
        for method in ("scorecam", "ablationcam"):
            with pytest.raises(ModelError, match="unexpected keyword argument 'query'"):
                explain.attribute(Answering(), X, method, 0, inputs={"query": QUESTION}, layer=layer)
