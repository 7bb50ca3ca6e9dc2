from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import attribution as oracle
from torch import nn

from explain.errors import DependencyError, InputError, ModelError
from explain.saliency.attribution import captum_maps, captum_names, grid_segments
from explain.saliency.captum_methods import METHODS, NOISY
from explain.saliency.twin import _SpreadPool

captum = pytest.importorskip("captum.attr")

LAYERED = [name for name in METHODS if "layer" in METHODS[name].needs]
HOOKED = ["guided_backprop", "deconvolution", "deep_lift", "deep_lift_shap", "guided_grad_cam"]
STEPPING = ("integrated_gradients", "layer_integrated_gradients", "layer_conductance", "internal_influence")
STEPS = {name: {"n_steps": 6} for name in STEPPING}
FEW = torch.tensor([0, 1]).repeat_interleave(12)[None, :] + 2 * torch.tensor([0, 1]).repeat_interleave(10)[:, None]
SMALL = {
    **STEPS,
    **{name: {"n_samples": 8, "feature_mask": FEW[None, None]} for name in ("kernel_shap", "lime")},
    "shapley_value_sampling": {"n_samples": 2, "feature_mask": FEW[None, None]},
    "feature_permutation": {"feature_mask": FEW[None, None]},
    "smoothgrad": {"nt_samples": 4},
    **{f"noise_tunnel:{name}": {"nt_samples": 4, **STEPS.get(name, {})} for name in NOISY},
}
TARGETS = torch.tensor([[0, 1], [2, 3], [1, 1]])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(relu=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 5, 3, 2), relu(), nn.Conv2d(5, 6, 3), relu(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(6, 4)).eval()
    with torch.no_grad():
        model[6].weight.mul_(10)
    return model


class Written(nn.Module):
    """The same network, its ReLUs written in another way."""

    def __init__(self, how):
        super().__init__()
        self.parts, self.how = net(), how
        self.shared = nn.ReLU(inplace="inplace" in how)

    def relu(self, value):
        if "shared" in self.how:
            return self.shared(value)
        if self.how == "unused result":
            F.relu(value, inplace=True)
            return value
        return {"function": F.relu, "method": Tensor_relu, "relu_": torch.relu_, "torch": torch.relu}[self.how](value)

    def forward(self, x):
        parts = self.parts
        x = self.relu(parts[2](self.relu(parts[0](x))))
        return parts[6](parts[5](parts[4](x)))


def Tensor_relu(value):
    return value.relu()


def layer_of(name, layer="3"):
    return layer if name.split(":")[-1] in LAYERED else None


def maps(name, model, images, targets, **given):
    given.setdefault("layer", layer_of(name))
    return captum_maps(name, model, images, targets, **given)


def state(model):
    hooks = [len(value) for m in model.modules() for key, value in vars(m).items() if key.endswith("_hooks")]
    return {
        "hooks": hooks,
        "modes": [m.training for m in model.modules()],
        "modules": [id(m) for m in model.modules()],
        "classes": [type(m) for m in model.modules()],
        "names": [sorted(vars(m)) for m in model.modules()],
        "inplace": [getattr(m, "inplace", None) for m in model.modules()],
        "tensors": [(id(p), p.data_ptr(), p._version, p.requires_grad, p.grad) for p in model.parameters()],
        "values": [p.sum().item() for p in model.parameters()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 - the generator that Captum uses
        "filters": list(warnings.filters),
        "grad": torch.is_grad_enabled(),
    }


# --- every method -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", captum_names())
def test_shape_dtype_graph_and_the_model_as_it_was(name):
    model = net(lambda: nn.ReLU(inplace=True)).train()
    model[0].weight.requires_grad_(False)
    images = noise(3, 3, 20, 24)
    before = state(model)
    found = maps(name, model, images, TARGETS, options=SMALL.get(name))
    assert state(model) == before
    assert found.shape == (3, 2, *((7, 9) if layer_of(name) and name != "guided_grad_cam" else (20, 24)))
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert not found.requires_grad
    assert float(found.abs().amax()) > 0
    assert not images.requires_grad
    torch.testing.assert_close(found[2, 0], found[2, 1])  # the same class twice
    if name != "layer_activation":
        assert not torch.allclose(found[0, 0], found[0, 1])


def test_captums_class_names_will_do():
    from explain.saliency.captum_methods import parse_name

    assert parse_name("IntegratedGradients") == ("integrated_gradients", False)
    assert parse_name("noise_tunnel:InputXGradient") == ("input_x_gradient", True)
    assert all(parse_name(name.title().replace("_", "")) == parse_name(name) for name in captum_names())


@pytest.mark.parametrize("name", captum_names())
def test_equal_to_captum_called_directly(name):
    """On a network that Captum is made for: each ReLU a module of its own, not in place."""
    model, images, seed = net(), noise(3, 3, 20, 24), 7
    inner = "saliency" if name == "smoothgrad" else name.split(":")[-1]
    method = METHODS[inner]
    if inner == "lrp":
        model[5].rule = __import__("captum.attr._utils.lrp_rules", fromlist=["x"]).EpsilonRule()
    layer = [] if layer_of(inner) is None else [model[3]]
    made = {"interpretable_model": ridge()} if inner == "lime" else {}
    algorithm = getattr(captum, method.captum)(model, *layer, **made)
    asked = {**method.defaults(images), **SMALL.get(name, {})}
    options = dict(SMALL.get(name, {}))
    tunnelled = name == "smoothgrad" or ":" in name
    if tunnelled:
        algorithm = captum.NoiseTunnel(algorithm)
        options |= {"stdevs": 0.3}
        asked |= options
    drawn = method.random or tunnelled
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for image, target in zip(images.split(1 if drawn else 3), TARGETS[:, 0].split(1 if drawn else 3), strict=True):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            asked_here = asked if inner == "layer_activation" else {**asked, "target": target}
            value = algorithm.attribute(image.clone().requires_grad_(), **asked_here)
            rows.append(value.mean(1) if method.segments else value.sum(1))
    found = maps(name, net(), images, TARGETS, options=options, seed=seed)
    torch.testing.assert_close(found[:, 0], torch.cat(rows).detach(), rtol=1e-4, atol=1e-6)


def ridge():
    from captum._utils.models.linear_model import SkLearnLinearModel

    return SkLearnLinearModel("linear_model.Ridge", alpha=1.0)


@pytest.mark.parametrize("name", [name for name in captum_names() if name != "feature_permutation"])
def test_a_map_does_not_depend_on_its_batch(name):
    model, images = net(), noise(3, 3, 20, 24)
    together = maps(name, model, images, TARGETS, options=SMALL.get(name), batch_size=2)
    alone = maps(name, model, images[2:], TARGETS[2:], options=SMALL.get(name), batch_size=2)
    torch.testing.assert_close(together[2:], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", captum_names())
def test_an_exception_at_any_pass_leaves_the_model_as_it_was(name):
    model = net(lambda: nn.ReLU(inplace=True)).train()
    left, raised = [0], 0

    def fail(module, args):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("no more")

    model[2].register_forward_pre_hook(fail)
    before = state(model)
    for passes in range(6):
        left[0] = passes
        try:
            maps(name, model, noise(3, 3, 20, 24), TARGETS, options=SMALL.get(name), batch_size=1)
        except ModelError as caught:
            raised += "no more" in str(caught)
        assert state(model) == before
    assert raised > 2


# --- against the papers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "guided"), [("guided_backprop", True), ("deconvolution", False)])
@pytest.mark.parametrize("how", ["function", "method", "relu_", "torch", "shared", "shared inplace", "unused result"])
def test_guided_rules_for_any_way_to_write_a_relu(name, guided, how):
    images = noise(3, 3, 20, 24)
    literal = net(lambda: oracle.RuleReLU(guided))
    leaf = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(literal(leaf)[range(3), TARGETS[:, 0]].sum(), leaf)
    found = captum_maps(name, Written(how), images, TARGETS)
    torch.testing.assert_close(found[:, 0], expected.sum(1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["deep_lift", "deep_lift_shap"])
@pytest.mark.parametrize("how", ["function", "shared", "shared inplace", "unused result"])
def test_deep_lift_for_any_way_to_write_a_relu(name, how):
    images = noise(3, 3, 20, 24)
    expected = captum_maps(name, net(), images, TARGETS)
    torch.testing.assert_close(captum_maps(name, Written(how), images, TARGETS), expected, rtol=1e-5, atol=1e-7)


def test_relu6_is_a_relu_with_a_ceiling():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        model[0].weight.mul_(8)
    images = 3 * noise(2, 3, 9, 9)
    assert (model[:2](images) == 6).any()
    leaf = images.clone().requires_grad_()
    low = oracle.Rule.apply(model[0](leaf), True)
    (expected,) = torch.autograd.grad(low.clamp(max=6).mean((2, 3))[:, 1].sum(), leaf)
    targets = torch.tensor([[1], [1]])
    found = captum_maps("guided_backprop", model, images, targets)
    torch.testing.assert_close(found[:, 0], expected.sum(1), rtol=1e-5, atol=1e-7)
    lifted = captum_maps("deep_lift", model, images, targets)
    change = model(images)[:, 1] - model(torch.zeros_like(images))[:, 1]
    torch.testing.assert_close(lifted.sum((1, 2, 3)), change.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (3, 2, 0), ((3, 2), (1, 2), (1, 0)), (5, 3, 2)])
def test_separated_windows_pool_the_same(kernel, stride, padding, ceil):
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    images = noise(2, 3, 11, 14) - 5
    expected = pool(images)
    pool.__class__ = _SpreadPool
    pool.pool = nn.MaxPool2d(kernel)
    assert torch.equal(pool(images), expected)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 1)],
        lambda: [nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.MaxPool2d(2)],
        lambda: [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(8, 4, 3), nn.ReLU6()],
    ],
    ids=["overlapping", "after a ReLU", "both"],
)
def test_deep_lift_sums_to_the_change_of_the_logit_with_pooling(layers):
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), *layers(), *head).eval()
    images, baselines = noise(2, 3, 20, 20), noise(2, 3, 20, 20, seed=1)
    options = {"baselines": baselines}
    found = captum_maps("deep_lift", model, images, torch.tensor([[0, 2], [1, 0]]), options=options)
    change = (model(images) - model(baselines)).detach()
    torch.testing.assert_close(
        found.sum((2, 3)), torch.stack([change[0, [0, 2]], change[1, [1, 0]]]), rtol=1e-4, atol=1e-5
    )


def test_integrated_gradients():
    model, images = net(), noise(1, 3, 12, 12)
    found = captum_maps("integrated_gradients", model, images, torch.tensor([[2]]), options={"n_steps": 100})
    expected = oracle.integrated_gradients(model, images[0], 2, 300)
    torch.testing.assert_close(found[0, 0], expected, rtol=0.02, atol=float(expected.abs().max()) / 100)


@torch.no_grad()
def test_occlusion_and_ablation():
    model, images = net(), noise(1, 3, 20, 24)
    target = torch.tensor([[3]])
    found = captum_maps("occlusion", model, images, target)
    torch.testing.assert_close(found[0, 0], oracle.occlusion(model, images[0], 3, (3, 4), (2, 2)), rtol=1e-4, atol=1e-6)
    found = captum_maps("feature_ablation", model, images, target)
    segments = grid_segments(20, 24)
    expected = oracle.ablation(model, images[0], 3, segments[0, 0])
    torch.testing.assert_close(found[0, 0], expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "samples", "within"), [("shapley_value_sampling", 60, 0.2), ("kernel_shap", 100, 0.1)]
)
def test_shapley_values(name, samples, within):
    model, images = net(), noise(1, 3, 12, 12)
    segments = grid_segments(12, 12, 2)
    options = {"n_samples": samples, "feature_mask": segments}
    found = captum_maps(name, model, images, torch.tensor([[1]]), options=options)[0, 0]
    expected = oracle.shapley(model, images[0], 1, segments[0, 0])
    assert float((found - expected).abs().max()) < within * float(expected.abs().max())


def test_saliency_is_absolute_and_signed_if_asked():
    model, images = net(), noise(3, 3, 20, 24)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[range(3), TARGETS[:, 1]].sum(), leaf)
    torch.testing.assert_close(captum_maps("saliency", model, images, TARGETS)[:, 1], gradient.abs().sum(1))
    signed = captum_maps("saliency", model, images, TARGETS, options={"abs": False})
    torch.testing.assert_close(signed[:, 1], gradient.sum(1))


@pytest.mark.parametrize(("height", "width", "cells"), [(20, 24, 7), (7, 7, 7), (3, 9, 7), (5, 5, 1)])
def test_segments_are_a_grid(height, width, cells):
    found = grid_segments(height, width, cells)
    assert found.shape == (1, 1, height, width)
    assert found.unique().tolist() == list(range(min(cells, height) * min(cells, width)))
    for ids in found[0, 0].unique().tolist():
        rows, columns = torch.where(found[0, 0] == ids)
        assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


# --- refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["guided_backprop", "deconvolution", "noise_tunnel:guided_backprop"])
def test_guided_rules_need_a_relu(name):
    with pytest.raises(ModelError, match="no ReLU.*plain gradient"):
        captum_maps(name, net(nn.SiLU), noise(3, 3, 20, 24), TARGETS)


@pytest.mark.parametrize("name", ["deep_lift", "deep_lift_shap"])
def test_deep_lift_is_refused_where_its_sum_is_wrong(name):
    with pytest.raises(ModelError, match=r"miss it by \d+%.*integrated_gradients"):
        captum_maps(name, net(nn.SiLU), 3 * noise(3, 3, 20, 24), TARGETS)


class Residual(nn.Module):
    def __init__(self, twice=False):
        super().__init__()
        self.first, self.relu, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Linear(3 * 64, 4)
        self.twice = twice

    def forward(self, x):
        if self.twice:
            return self.last(self.relu(self.first(self.relu(self.first(x)))).flatten(1))
        return self.last((x + self.relu(self.first(x))).flatten(1))


def test_lrp_is_refused_where_its_rules_see_only_part():
    targets = torch.tensor([[0]])
    with pytest.raises(ModelError, match=r"chain of modules.*\(add\)"):
        captum_maps("lrp", Residual(), noise(1, 3, 8, 8), targets)
    with pytest.raises(ModelError, match="called several times"):
        captum_maps("lrp", Residual(twice=True), noise(1, 3, 8, 8), targets)
    with pytest.raises(ModelError, match="captum's lrp fails"):
        captum_maps("lrp", net(nn.SiLU), noise(3, 3, 20, 24), TARGETS)


def test_unknown_names_and_options():
    model, images = net(), noise(3, 3, 20, 24)
    with pytest.raises(InputError, match=r"integrated_gradient'.*near: integrated_gradients.*all: .*occlusion"):
        captum_maps("integrated_gradient", model, images, TARGETS)
    with pytest.raises(InputError, match=r"no option 'n_step'; near: n_steps"):
        captum_maps("integrated_gradients", model, images, TARGETS, options={"n_step": 3})
    with pytest.raises(InputError, match=r"no option 'target'"):
        captum_maps("saliency", model, images, TARGETS, options={"target": 3})
    with pytest.raises(InputError, match=r"no option 'n_steps'"):
        captum_maps("smoothgrad", model, images, TARGETS, options={"n_steps": 3})
    with pytest.raises(ModelError, match=r"occlusion fails.*\['strides'\]"):
        captum_maps("occlusion", model, images, TARGETS, options={"strides": "x"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": torch.zeros(3, 3, 20, 24, dtype=torch.int64)}, "floating point"),
        ({"images": torch.zeros(0, 3, 20, 24)}, "at least 1"),
        ({"targets": torch.tensor([0, 1, 2])}, r"give int64 \(3, k\)"),
        ({"targets": TARGETS.float()}, "give int64"),
        ({"targets": TARGETS + 1}, r"targets 1 to 4, but the network has 4 outputs"),
        ({"targets": TARGETS - 1}, r"targets -1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"layer": "3"}, "give no layer"),
        ({"name": "layer_grad_cam"}, "give layer"),
        ({"name": "layer_grad_cam", "layer": "3:relu"}, "Captum hooks modules"),
    ],
)
def test_unusable_input(given, message):
    usual = {"name": "saliency", "network": net(), "images": noise(3, 3, 20, 24), "targets": TARGETS}
    with pytest.raises(InputError, match=message):
        captum_maps(**(usual | given))


def test_layers_that_are_no_map_or_are_called_twice():
    images = noise(3, 3, 20, 24)
    with pytest.raises(ModelError, match="no layer '33'"):
        captum_maps("layer_grad_cam", net(), images, TARGETS, layer="33")
    with pytest.raises(ModelError, match="layer '5' gives no map"):
        captum_maps("layer_grad_cam", net(), images, TARGETS, layer="5")
    with pytest.raises(ModelError, match="called 2 times"):
        captum_maps("layer_grad_cam", Written("shared"), images, TARGETS, layer="shared")


class ChannelsLast(nn.Module):
    def forward(self, value):
        return value.permute(0, 2, 3, 1)


class ChannelsFirst(nn.Module):
    def forward(self, value):
        return value.permute(0, 3, 1, 2)


def test_channels_last_is_read_right_or_refused():
    plain = net()
    turned = nn.Sequential(*plain[:4], ChannelsLast(), ChannelsFirst(), *plain[4:])
    images = noise(3, 3, 20, 24)
    expected = captum_maps("layer_gradient_x_activation", plain, images, TARGETS, layer="3")
    torch.testing.assert_close(captum_maps("layer_gradient_x_activation", turned, images, TARGETS, layer="4"), expected)
    with pytest.raises(ModelError, match="use method='gradcam'"):
        captum_maps("layer_grad_cam", turned, images, TARGETS, layer="4")


def test_feature_permutation_needs_other_images():
    with pytest.raises(InputError, match="give at least 2"):
        captum_maps("feature_permutation", net(), noise(1, 3, 20, 24), TARGETS[:1])


def test_compiled_and_uncopyable_networks_are_refused_by_methods_that_hook():
    images = noise(3, 3, 20, 24)
    compiled = nn.Sequential(net())
    compiled[0].__dict__["_orig_mod"] = net()  # as torch.compile's wrapper has it
    with pytest.raises(ModelError, match="give the original module"):
        captum_maps("guided_backprop", compiled, images, TARGETS)
    model = net()
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match="cannot be copied"):
        captum_maps("guided_backprop", model, images, TARGETS)
    assert captum_maps("saliency", model, images, TARGETS).isfinite().all()


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(DependencyError, match="pip install scikit-learn"):
        captum_maps("lime", net(), noise(3, 3, 20, 24), TARGETS, options={"n_samples": 4})


@pytest.mark.parametrize("name", ["saliency", "guided_backprop", "occlusion", "layer_grad_cam"])
def test_dropout_and_batch_statistics_are_off(name):
    model, images = net(), noise(3, 3, 20, 24)
    model.insert(6, nn.Dropout(0.5))
    model.insert(2, nn.BatchNorm2d(5))
    expected = maps(name, model.eval(), images, TARGETS, layer=layer_of(name, "4"))
    assert torch.equal(maps(name, model.train(), images, TARGETS, layer=layer_of(name, "4")), expected)
    assert int(model[2].num_batches_tracked) == 0


# --- odd networks, precision, threads ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [*METHODS, "smoothgrad"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=["bf16", "f64"])
def test_other_precisions(name, dtype):
    images = noise(3, 3, 20, 24)
    expected = maps(name, net(), images, TARGETS, options=SMALL.get(name))
    found = maps(name, net().to(dtype), images.to(dtype), TARGETS, options=SMALL.get(name))
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    if dtype == torch.float64 and name not in ("gradient_shap", "smoothgrad"):  # noise is drawn anew in float64
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["saliency", "guided_backprop", "occlusion", "lrp", "layer_grad_cam"])
def test_inference_mode_and_frozen_parameters(name):
    model, images = net().requires_grad_(False), noise(3, 3, 20, 24)
    expected = maps(name, model, images, TARGETS)
    with torch.inference_mode():
        found = maps(name, model, images.clone(), TARGETS)
    assert torch.equal(found, expected)
    with torch.no_grad():
        assert torch.equal(maps(name, model, images, TARGETS), expected)


class Keeper:
    """The owner of a hook that is a bound method."""

    def __init__(self):
        self.seen = []

    def keep(self, module, args, output):
        self.seen.append(output)


@pytest.mark.parametrize("name", ["saliency", "guided_backprop", "layer_grad_cam", "layer_activation"])
def test_the_users_own_hooks_and_kept_results_are_left_alone(name):
    model, images = net(), noise(3, 3, 20, 24)
    expected = maps(name, model, images, TARGETS)
    keeper = Keeper()
    model[1].register_forward_hook(keeper.keep)
    model.kept = model(images)  # holds a graph: cannot be deep-copied
    assert torch.equal(maps(name, model, images, TARGETS), expected)
    assert len(keeper.seen) > 1
    assert model.kept.requires_grad


@pytest.mark.parametrize("name", ["guided_backprop", "deep_lift", "layer_grad_cam", "smoothgrad", "gradient_shap"])
def test_two_threads_on_one_model(name):
    model = net(lambda: nn.ReLU(inplace=True))
    batches = [noise(3, 3, 20, 24, seed=n) for n in range(6)]
    expected = [maps(name, model, images, TARGETS) for images in batches]
    found = [None] * 6

    def work(numbers):
        for n in numbers:
            found[n] = maps(name, model, batches[n], TARGETS)

    threads = [threading.Thread(target=work, args=(range(start, 6, 2),)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_memory_is_bounded_by_the_batch_size():
    model, sizes = net(), []
    model[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    images = noise(5, 3, 20, 24)
    targets = torch.zeros(5, 1, dtype=torch.int64)
    for name in [*METHODS, "smoothgrad"]:
        if name in ("deep_lift_shap", "gradient_shap"):
            continue
        maps(name, model, images, targets, options=SMALL.get(name), batch_size=4)
        assert max(sizes) <= 4, name


@pytest.mark.parametrize("name", ["deep_lift", "feature_ablation", "kernel_shap", "lime"])
def test_options_with_a_row_for_each_image_are_cut_with_the_batch(name):
    model, images = net(), noise(3, 3, 20, 24)
    masks = torch.stack([grid_segments(20, 24, cells)[0] for cells in (2, 3, 4)])
    key, rows = ("baselines", noise(3, 3, 20, 24, seed=1)) if name == "deep_lift" else ("feature_mask", masks)
    few = {"n_samples": 20} if METHODS[name].random else {}
    together = captum_maps(name, model, images, TARGETS, options={key: rows, **few}, batch_size=2)
    for i in range(3):
        one = slice(i, i + 1)
        alone = captum_maps(name, model, images[one], TARGETS[one], options={key: rows[one], **few})
        torch.testing.assert_close(together[one], alone)


class Heads(nn.Module):
    """Tokens, and then queries (b, heads, tokens, d), which have the shape of a map."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm, self.queries = nn.Conv2d(3, 6, 5, 5), nn.LayerNorm(6), nn.Identity()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        tokens = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        split = self.queries(tokens.unflatten(2, (2, 3)).transpose(1, 2))
        return self.fc(split.transpose(1, 2).flatten(2).mean(1))


def test_layers_are_read_in_the_order_of_the_pass():
    model, images = Heads().eval(), noise(3, 3, 20, 20)
    with pytest.raises(ModelError, match=r"layer 'queries' gives no map.*needs a map"):
        captum_maps("layer_activation", model, images, TARGETS, layer="queries")
    found = captum_maps("layer_activation", model, images, TARGETS, layer="norm")
    assert found.shape == (3, 2, 4, 4)
    with pytest.raises(ModelError, match=r"layer 'norm' gives tokens \(n, m, c\).*layer_grad_cam needs a map"):
        captum_maps("layer_grad_cam", model, images, TARGETS, layer="norm")


def test_lime_scales_with_the_logits():
    model, images = net(), noise(1, 3, 20, 24)
    target = torch.tensor([[1]])
    found = captum_maps("lime", model, images, target, options={"n_samples": 60})
    with torch.no_grad():
        model[6].weight.mul_(1e-6)
        model[6].bias.mul_(1e-6)
    small = captum_maps("lime", model, images, target, options={"n_samples": 60})
    torch.testing.assert_close(small * 1e6, found, rtol=1e-2, atol=1e-3 * float(found.abs().max()))
