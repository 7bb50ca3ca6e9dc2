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
