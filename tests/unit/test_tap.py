from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerActivation
from torch import nn
from torchvision import models

from explain.errors import ModelError
from explain.nets import Tap, anatomy
from explain.nets.tap import Stop, check_layer, stop_at


class Dense(nn.Module):
    """DenseNet's end: a function in place on the output of ``features``; a ReLU that is called twice."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(4, 5, 1)
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        x = F.relu(self.features(x), inplace=True)
        x = self.relu(x - 0.5)
        x = self.relu(self.last(x) + 0.1)
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def dense():
    torch.manual_seed(0)
    return Dense().eval(), torch.randn(2, 3, 9, 9)


def test_later_in_place_operations_do_not_reach_the_values(dense):
    model, x = dense
    with Tap(model, ["features", "features:relu"]) as tap:
        model(x)
    expected = model.features(x).detach()
    assert float(expected.min()) < 0
    assert torch.equal(tap["features"], expected)
    assert torch.equal(tap["features:relu"], expected.relu())
    assert set(tap) == {"features", "features:relu"}
    with Tap(model, ["features"]):  # its copies are not taken for maps of the model
        assert anatomy(model, images=x).layer == "relu"
    assert not tap["features"].requires_grad


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4.1.bn2"), ("densenet121", "features")])
def test_values_equal_captums(name, layer):
    torch.manual_seed(0)
    model = models.get_model(name, weights=None).eval()
    x = torch.randn(2, 3, 40, 40)
    with Tap(model, [layer]) as tap:
        model(x)
    theirs = LayerActivation(model, model.get_submodule(layer)).attribute(x)
    assert float(theirs.min()) < 0
    torch.testing.assert_close(tap[layer], theirs.detach())


def test_a_module_called_twice_gives_its_last_output(dense):
    model, x = dense
    with Tap(model, ["relu"]) as tap:
        model(x)
    first = (model.features(x).relu() - 0.5).relu()
    last = (model.last(first) + 0.1).relu()
    assert torch.equal(tap["relu"], last.detach())
    with torch.no_grad():
        assert torch.equal(stop_at(model, "relu", x), first)
        assert torch.equal(stop_at(model, "relu", x, call=2), last)
        with pytest.raises(ModelError, match="call 3 of layer 'relu' was not reached"):
            stop_at(model, "relu", x, call=3)


def test_functions_on_a_modules_output_have_names(dense):
    model, x = dense
    layers = ["features:relu", "features:relu:sub", "last:add"]
    with Tap(model, layers) as tap:
        model(x)
    expected = model.features(x).relu() - 0.5
    assert torch.equal(tap["features:relu:sub"], expected.detach())
    torch.testing.assert_close(tap["last:add"], (model.last(expected.relu()) + 0.1).detach())
    with torch.no_grad():
        assert torch.equal(stop_at(model, "features:relu", x), model.features(x).relu())


def test_unknown_layers(dense):
    model, x = dense
    with pytest.raises(ModelError, match="no layer 'featurs'; near: features"):
        Tap(model, ["featurs"])  # codespell:ignore
    with pytest.raises(ModelError, match="no layer ''"):
        check_layer(model, "")
    with pytest.raises(ModelError, match="no layer 'xyz:relu'"):
        stop_at(model, "xyz:relu", x)
    check_layer(model, ":relu")
    with Tap(model, ["features:gelu", "fc"]) as tap:
        model(x)
    assert "fc" in tap
    assert "features:gelu" not in tap
    with pytest.raises(ModelError, match="'features:gelu' gave no output"):
        tap["features:gelu"]
    with pytest.raises(ModelError, match="was not reached"):
        stop_at(model, "features:gelu", x)


def test_a_layer_that_returns_no_tensor_is_named():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(x)[0]

    with Tap(Net(), ["pair"]) as tap, pytest.raises(ModelError, match="'pair' returns tuple, not a tensor"):
        tap._model(torch.zeros(1))


def test_without_cloning_values_share_memory(dense):
    model, x = dense
    with Tap(model, ["features"], clone=False) as tap:
        model(x)
    assert float(tap["features"].min()) == 0  # the in-place ReLU reached it


def test_stopping_leaves_the_other_threads_alone(dense):
    """A forward pass in another thread, while this one is about to stop at a layer, runs to its end."""
    model, x = dense
    found = {}

    def other():
        try:
            found["logits"] = model(x)
        except Stop as error:  # pragma: no cover - the fault this test is for
            found["error"] = error

    def between(module, args):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    handle = model.features[0].register_forward_pre_hook(between)
    try:
        value = stop_at(model, "features", x)
    finally:
        handle.remove()
    assert "error" not in found
    torch.testing.assert_close(found["logits"], model(x))
    assert torch.equal(value, model.features(x))


def test_tapping_sees_only_its_own_thread(dense):
    model, x = dense
    with Tap(model, ["features", "features:relu"]) as tap:
        thread = threading.Thread(target=model, args=(x,))
        thread.start()
        thread.join()
        assert list(tap) == []
        model(x + 1)
    assert torch.equal(tap["features"], model.features(x + 1).detach())
