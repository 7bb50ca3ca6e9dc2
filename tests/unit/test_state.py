"""Models come back as they were: after success, and after an error anywhere in the forward pass."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch
from torch import nn

import explain
from explain.nets import Tap, anatomy, linear_head
from explain.nets.modes import eval_mode
from explain.nets.tap import stop_at


class Boom(Exception):
    """Raised by the model on purpose."""


class Fuse(nn.Module):
    """Passes its input on, and raises once its calls are used up."""

    left = None

    def forward(self, x):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Boom
        return x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Fuse(), nn.Dropout2d())
        self.fuse = self.body[3]
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.body(x) + 1
        return self.fc(self.fuse(x.mean((2, 3))))  # the fuse is in the trunk and in the head


def make():
    torch.manual_seed(0)
    model = Net().train()
    model.body[1].eval()  # each module has a mode of its own
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    return model


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
MASKS = np.arange(4 * 64).reshape(4, 8, 8) % 3


def watch(model):
    with explain.watch(model) as w, torch.no_grad():
        with eval_mode(model):
            model(X)
        return w.cam()


def tap(model):
    with eval_mode(model), torch.no_grad(), Tap(model, ["body.0", "body.2", "fc"]) as t:
        model(X)
    return t["body.2"]


def stop(layer):
    def run(model):
        with eval_mode(model), torch.no_grad():
            return stop_at(model, layer, X)

    return run


def dissect(model):
    return explain.dissect(model, "body.2", (X, MASKS, ["a", "b"]), quantile=0.2, resolution=(8, 8), batch_size=2)


def evaluate(model):
    items = [(x, i % 3, [[1, 1, 6, 6]]) for i, x in enumerate(X)]
    return explain.evaluate_localization(model, items, batch_size=2)


def attribute(method, **settings):
    return lambda model: explain.attribute(model, X, method, [0, 2], batch_size=2, **settings)


JOBS = {
    "cam": lambda model: explain.cam(model, X, "top2", batch_size=2),
    "anatomy": lambda model: anatomy(model, images=X),
    "watch": watch,
    "tap": tap,
    "stop_at": stop("body.2"),
    "stop_at function": stop("body:add"),
    "dissect": dissect,
    "evaluate": evaluate,
    "linear_head": lambda model: linear_head(model, X, [0, 1, 2, 0], batch_size=2),
    "gradcam": attribute("gradcam"),
    "gradcam layer": attribute("gradcam", layer="body.2"),
    "gradcam function": attribute("hirescam", layer=["body:add", "body.0"]),
    "gradcam number": attribute("gradcam", layer="body.2", output=lambda out: out.exp()),
    "scorecam": attribute("scorecam"),
    "scorecam layer": attribute("scorecam", layer="body.2", options={"chunk": 3}),
    "ablationcam": attribute("ablationcam"),
    "ablationcam layer": attribute("ablationcam", layer="body.2"),
    "fullgrad": attribute("fullgrad"),
    "flipped": attribute("gradcam", augment="flip"),
    "captum": attribute("captum:saliency"),
    "captum layer": attribute("captum:layer_grad_cam", layer="body.2"),
}


def state(model):
    return {
        "modules": [id(module) for module in model.modules()],
        "names": [name for name, _ in model.named_modules()],
        "training": [module.training for module in model.modules()],
        "hooks": [
            [len(getattr(module, kind)) for kind in vars(module) if kind.endswith("_hooks")]
            for module in model.modules()
        ],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires": [p.requires_grad for p in model.parameters()],
        "rng": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002  # the global state is what is checked
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def check_same(before, after):
    for key in before:
        if key == "values":
            assert all(torch.equal(before[key][name], after[key][name]) for name in before[key]), key
        elif key == "grads":
            assert all(torch.equal(a, b) for a, b in zip(before[key], after[key], strict=True)), key
        elif key == "rng":
            assert torch.equal(before[key], after[key]), key
        else:
            assert before[key] == after[key], key


def tensors_of(result):
    values = result if isinstance(result, dict) else getattr(result, "__dict__", {})
    if isinstance(result, torch.Tensor):
        return [result]
    return [value for value in values.values() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("job", JOBS)
def test_the_model_is_unchanged_after_success(job):
    model = make()
    before = state(model)
    result = JOBS[job](model)
    check_same(before, state(model))
    for tensor in tensors_of(result):
        assert not tensor.requires_grad
        assert tensor.grad_fn is None


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("calls", [0, 1, 2, 3, 5])
def test_the_model_is_unchanged_after_an_error(job, calls):
    model = make()
    model.fuse.left = calls
    before = state(model)
    try:
        JOBS[job](model)
    except (Boom, explain.ExplainError):
        failed = True
    else:
        failed = False
    check_same(before, state(model))
    assert failed or calls > 0 or job == "stop_at"  # a fuse that is not reached breaks nothing


def test_the_last_forward_of_many_may_fail():
    model = make()
    model.fuse.left = 3
    with pytest.raises(
        explain.ExplainError, match=r"the network fails on an input of \(2, 3, 8, 8\) float32 \(Boom"
    ) as caught:
        explain.cam(model, X, batch_size=2)
    assert isinstance(caught.value.__cause__, Boom)


class Attending(nn.Module):
    """One block of a transformer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.1)

    def forward(self, t):
        n = self.norm(t)
        return t + self.mix(n, n, n, need_weights=False)[0]


class Transformer(nn.Module):
    """A transformer with a fuse before and after its blocks."""

    def __init__(self):
        super().__init__()
        self.patch, self.fuse = nn.Conv2d(3, 8, 2, 2), Fuse()
        self.blocks = nn.ModuleList([Attending(), Attending()])
        self.first, self.fc = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 3)

    def forward(self, x):
        t = self.fuse(self.patch(x).flatten(2).transpose(1, 2))
        t = torch.cat([self.first.expand(len(x), -1, -1), t], 1)
        for block in self.blocks:
            t = block(t)
        return self.fc(self.fuse(t)[:, 0])


@pytest.mark.parametrize("method", ["gradcam", "legrad", "rollout", "scorecam"])
@pytest.mark.parametrize("calls", [None, 0, 1, 2, 3, 5])
def test_a_transformer_is_unchanged(method, calls):
    torch.manual_seed(0)
    model = Transformer().train()
    model(X).sum().backward()
    model.fuse.left = calls
    before = state(model)
    if calls is None:
        maps = attribute(method)(model)
        assert maps.values.shape == (4, 2, 4, 4)
        assert not any(tensor.requires_grad for tensor in tensors_of(maps))
    else:
        try:
            attribute(method)(model)
        except (Boom, explain.ExplainError):
            pass
        else:
            assert calls > 1
    check_same(before, state(model))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_random_state_is_kept():
    model = make().cuda()
    before = torch.cuda.get_rng_state()
    explain.cam(model, X.cuda())
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_two_threads_share_a_model():
    model = make()
    images = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(12)]
    expected = [explain.cam(model, x, "top2") for x in images]
    before, wrong = state(model), []
    barrier = threading.Barrier(2)

    def watched(x):
        with explain.watch(model) as w, eval_mode(model):
            model(x)
            return w.cam("top2")

    def work(run):
        barrier.wait()
        for n, x in enumerate(images):
            try:
                got = run(x)
                if not torch.allclose(got.values, expected[n].values) or not torch.equal(
                    got.classes, expected[n].classes
                ):
                    wrong.append((n, "wrong"))
            except Exception as error:
                wrong.append((n, repr(error)))

    for runs in [
        (lambda x: explain.cam(model, x, "top2"),) * 2,
        (watched, watched),
        (watched, lambda x: explain.cam(model, x, "top2")),
    ]:
        threads = [threading.Thread(target=work, args=(run,)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
    after = state(model)
    before.pop("rng")  # two threads cannot both keep the one global state apart
    check_same(before, after)


@pytest.mark.parametrize("methods", [("gradcam", "gradcam"), ("gradcam", "captum:saliency"), ("hirescam", "cam")])
def test_two_threads_explain_one_model(methods):
    model = make()
    images = [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(12)]

    def run(method, x):
        layer = None if method in ("cam", "captum:saliency") else "body.2"
        return explain.attribute(model, x, method, [0, 2], layer=layer).values

    expected = {method: [run(method, x) for x in images] for method in methods}
    before, wrong, barrier = state(model), [], threading.Barrier(2)

    def work(method):
        barrier.wait()
        for n, x in enumerate(images):
            try:
                if not torch.allclose(run(method, x), expected[method][n]):
                    wrong.append((method, n))
            except Exception as error:
                wrong.append((method, n, repr(error)))

    threads = [threading.Thread(target=work, args=(method,)) for method in methods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    before.pop("rng")  # two threads cannot both keep the one global state apart
    check_same(before, state(model))


def test_watching_sees_only_its_own_thread():
    model = make().eval()
    other = torch.randn(3, 3, 8, 8)
    with explain.watch(model) as w:
        model(X)
        thread = threading.Thread(target=model, args=(other,))
        thread.start()
        thread.join()
        maps = w.cam()
    assert torch.equal(maps.values, explain.cam(model, X).values)


def live_tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_nothing_stays_in_memory():
    model = make()

    def once():
        explain.cam(model, X, "top2")
        watch(model)
        tap(model)

    once()
    start = live_tensors()
    for _ in range(50):
        once()
    assert live_tensors() <= start


@pytest.mark.parametrize("job", ["gradcam", "gradcam layer", "ablationcam layer", "fullgrad", "captum"])
def test_two_hundred_calls_leave_memory_flat(job):
    model = make()
    JOBS[job](model)
    start = live_tensors()
    for _ in range(200 if job == "gradcam layer" else 20):
        JOBS[job](model)
    assert live_tensors() <= start


def test_kept_maps_hold_no_graph():
    model = make()
    JOBS["gradcam layer"](model)
    start = live_tensors()
    kept = [JOBS["gradcam layer"](model) for _ in range(20)]
    assert live_tensors() - start <= 20 * sum(isinstance(value, torch.Tensor) for value in vars(kept[0]).values())


def test_kept_results_hold_no_more_than_their_own_tensors():
    model = make()
    explain.cam(model, X)
    start = live_tensors()
    kept = [explain.cam(model, X) for _ in range(20)]
    per_result = sum(isinstance(value, torch.Tensor) for value in vars(kept[0]).values())
    assert live_tensors() - start <= 20 * per_result


def test_eval_mode_of_nested_blocks():
    model = make()
    modes = [module.training for module in model.modules()]
    with eval_mode(model):
        with eval_mode(model):
            assert not any(module.training for module in model.modules())
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == modes


STOPS = {"stop_at", "stop_at function"}  # like watch and tap, on images as the caller gives them


def halved(x):
    x.mul_(0.5)


@pytest.mark.parametrize("job", [job for job in JOBS if job not in {"watch", "tap", "linear_head"} | STOPS])
def test_images_are_unchanged_by_a_network_that_works_in_place_on_them(job):
    model, before = make(), X.clone()
    model.register_forward_pre_hook(lambda module, args: halved(args[0]))
    model.body[0].register_forward_pre_hook(lambda module, args: halved(args[0]))
    try:
        JOBS[job](model)
        assert torch.equal(X, before)
    finally:
        X.copy_(before)


# --- precision, modes, wrappers -----------------------------------------------------------------------------

ALL = ["cam", "gradcam", "gradcam layer", "scorecam", "ablationcam layer", "fullgrad", "captum", "captum layer"]


@pytest.mark.parametrize("job", ALL)
def test_inference_mode_and_frozen_parameters(job):
    model = make().requires_grad_(False)
    expected = JOBS[job](model)
    with torch.inference_mode():
        found = JOBS[job](model)
        images = X.clone()
        assert images.is_inference()
        own = explain.attribute(model, images, "hirescam", [0, 2], layer="body.2")
    torch.testing.assert_close(found.values, expected.values)
    assert not found.values.is_inference()
    torch.testing.assert_close(own.values, explain.attribute(model, X, "hirescam", [0, 2], layer="body.2").values)


@pytest.mark.parametrize("job", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(job, dtype):
    expected = JOBS[job](make()).values
    found = JOBS[job](make().to(dtype))
    assert found.values.dtype == torch.float32
    assert found.scores.dtype == torch.float32
    scale = float(expected.abs().max())
    assert float((found.values - expected).abs().max()) < (1e-5 if dtype == torch.float64 else 0.1) * scale


@pytest.mark.parametrize("job", ALL)
def test_autocast(job):
    expected = JOBS[job](make()).values
    with torch.autocast("cpu", torch.bfloat16):
        found = JOBS[job](make())
    assert found.values.dtype == torch.float32
    assert float((found.values - expected).abs().max()) < 0.1 * float(expected.abs().max())


@pytest.mark.parametrize("method", ["cam", "gradcam", "scorecam", "ablationcam", "fullgrad", "captum:saliency"])
def test_one_channel(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    maps = explain.attribute(model, X[:, :1], method, [0, 2])
    assert maps.values.shape[:2] == (4, 2)
    assert float(maps.values.abs().max()) > 0


class Residual(nn.Module):
    """In-place addition and ReLU after the named layer, as in torchvision's ResNet and DenseNet."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(4, 3)
        self.eval()

    def forward(self, x):
        x = self.stem(x)
        y = self.bn(self.conv(x))
        y += x
        return self.fc(self.relu(y).mean((2, 3)))


@pytest.mark.parametrize("layer", ["bn", "conv", "stem", "relu"])
def test_what_is_done_in_place_after_the_layer_does_not_reach_its_map(layer):
    model = Residual()
    names = ["stem", "conv", "bn", "relu"]
    x = {"stem": model.stem(X)}
    x["conv"] = model.conv(x["stem"])
    x["bn"] = model.bn(x["conv"])
    x["relu"] = (x["bn"] + x["stem"]).relu()
    a = {name: value.detach() for name, value in x.items()}
    logits = model.fc(x["relu"].mean((2, 3)))
    for k, c in enumerate([0, 2]):
        gradients = dict(
            zip(names, torch.autograd.grad(logits[:, c].sum(), list(x.values()), retain_graph=True), strict=True)
        )
        for method, expected in {
            "hirescam": (gradients[layer] * a[layer]).sum(1).relu(),
            "captum:layer_grad_cam": (gradients[layer].mean((2, 3), keepdim=True) * a[layer]).sum(1),
        }.items():
            found = explain.attribute(model, X, method, [0, 2], layer=layer).values[:, k]
            found = found.relu() if "captum" in method else found
            torch.testing.assert_close(found, expected.relu(), rtol=1e-4, atol=1e-6)
    assert float(a["bn"].min()) < 0
    assert (float(Tapped(model, layer).min()) < 0) == (layer != "relu")


def Tapped(model, layer):
    with torch.no_grad(), Tap(model, [layer]) as tap:
        model(X)
    return tap[layer]


@pytest.mark.parametrize("job", ALL)
def test_compiled_models_run_uncompiled(job):
    expected = JOBS[job](make())
    wrapped = torch.compile(make(), backend="eager")
    in_place = make()
    in_place.compile(backend="eager")
    for model in (wrapped, in_place, explain.load(wrapped)):
        found = JOBS[job](model)
        torch.testing.assert_close(found.values, expected.values)
        assert found.layer == expected.layer
    with pytest.raises(explain.ExplainError, match="compiled"):
        with explain.watch(in_place):
            pass


def test_wrapped_for_many_devices():
    model = make().eval()
    expected = explain.cam(model, X, "top2")
    wrapped = nn.DataParallel(model)
    with explain.watch(wrapped) as w:
        wrapped(X)
    assert torch.equal(w.cam("top2").values, expected.values)
    assert torch.equal(explain.cam(wrapped, X, "top2").values, expected.values)
    found = explain.attribute(wrapped, X, "gradcam", [0, 2], layer="module.body.2")
    torch.testing.assert_close(found.values, JOBS["gradcam layer"](model).values)


def test_in_a_distributed_training_loop(tmp_path):
    from torch.distributed import destroy_process_group, init_process_group
    from torch.nn.parallel import DistributedDataParallel

    init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = make()
        for parameter in model.parameters():
            parameter.grad = None
        wrapped = DistributedDataParallel(model.eval())
        expected = explain.cam(model, X, "top2")
        with explain.watch(wrapped) as w:
            loss = wrapped(X).logsumexp(1).sum()
            maps = w.cam("top2")
        torch.testing.assert_close(maps.values, expected.values)
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.fc.parameters())
        torch.testing.assert_close(explain.cam(wrapped, X, "top2").values, expected.values)
    finally:
        destroy_process_group()
