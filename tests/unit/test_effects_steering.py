"""Steering: a spurious unit found by its formula, removed, and the user's network untouched."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import numpy as np
import planted_effects as planted
import pytest
import torch
from oracles import ablation as oracle
from torch import nn

import explain
from explain.data import localization_from_items, probe_from_arrays
from explain.errors import DataError, InputError, ModelError
from explain.nets.passes import Work
from explain.nets.tap import edited
from explain.neurons import effects
from explain.neurons.effects.presence import listed, masks_of
from explain.neurons.effects.replacing import donors_of
from explain.neurons.formula import Leaf

SIZE = (planted.SIDE, planted.SIDE)
SPURIOUS = ((4.0, 0, 0, 0, 0, 0), (0, 4.0, 3.0, 0, 0, 0), (-9.0, -9.0, -9.0, 0, 0, 0))
"""Class 1 is green, but also whatever shows blue: red images with blue in them go wrong."""


class Layers(nn.Module):
    """The planted network with its last map as a module of its own, used twice."""

    def __init__(self):
        super().__init__()
        self.net, self.act = planted.Planted(head=SPURIOUS), nn.ReLU()

    def forward(self, x):
        return self.net.fc(self.act(self.net.conv(self.act(self.net.early(x)))).mean((2, 3)))


def dissected(net, layer=None):
    return explain.dissect(net, layer, planted.probe(), length=2, quantile=0.1, resolution=SIZE, shuffles=0, draws=0)


@pytest.fixture(scope="module")
def run():
    return dissected(planted.Planted(head=SPURIOUS))


def mixed(count=60, seed=7):
    """Red and green images, half of them with a large blue square: items, and a probe set with their masks."""
    rng = np.random.default_rng(seed)
    masks, labels = np.zeros((count, 3, *SIZE), bool), []
    for number in range(count):
        label = number % 2
        masks[number, label, :6, 2 * rng.integers(0, 5) :][:, :6] = True
        if number % 4 < 2:
            masks[number, 2, 8:, :] = True
        labels.append(label)
    images = torch.from_numpy(masks.astype(np.float32))
    data = localization_from_items([(image, label, None) for image, label in zip(images, labels, strict=True)])
    probe = replace(probe_from_arrays(images, masks, planted.NAMES), names=data.names)
    return data, probe, masks[:, 2].any((1, 2))


def test_removing_the_units_of_a_spurious_concept_mends_the_images_that_show_it(run):
    data, probe, blue = mixed()
    result = effects.steer(run, data, concept="blue", probe=probe, draws=200)
    found = result.findings
    with_it, without, both = found.rows
    assert list(found.units) == [2]
    assert np.array_equal(result.arrays["shown"], blue)
    assert (with_it.before.n, without.before.n, both.before.n) == (30, 30, 60)
    assert with_it.before.value == 50  # red ones are taken for green
    assert with_it.after.value == without.before.value == without.after.value == 100
    assert with_it.change.low > 0
    assert with_it.versus.difference.low > 0
    assert (found.gap_before.value, found.gap_after.value) == (-50, 0)
    assert found.gap_change.low > 0
    half = effects.steer(run, data, concept="blue", probe=probe, factor=0.5, draws=20).findings
    assert with_it.before.value <= half.rows[0].after.value <= 100
    assert (half.replacement, half.factor) == ("scale", 0.5)
    listed_too = effects.steer(run, data, concept="blue", present=blue, draws=200).findings
    assert listed_too == found


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_other_replacements(run, how):
    data, probe, _ = mixed()
    result = effects.steer(run, data, units=[2], replace=how, concept="blue", probe=probe, draws=20, seed=3)
    net = planted.Planted(head=SPURIOUS)
    with torch.no_grad():
        pooled = net.conv(net.early(torch.stack(list(data.images))).relu()).relu().mean((2, 3))
        own = pooled[:, 2].clone()
        pooled[:, 2] = {"zero": 0 * own, "mean": own.mean(), "resample": own[donors_of(60, 3)]}[how]
        expected = net.fc(pooled).argmax(1).numpy()
    assert np.array_equal(result.arrays["after"], expected)
    assert result.findings.replacement == how


def test_presence_by_lists_columns_and_masks(tmp_path):
    data, probe, blue = mixed(8)
    names = [name for name, shown in zip(data.names, blue, strict=True) if shown]
    file = tmp_path / "blue.txt"
    file.write_text("\n".join(names) + "\n\n")
    for given in (names, file, str(file), blue):
        assert np.array_equal(listed(data, given), blue)
    rows = [f"{name},{'yes' if shown else ''}" for name, shown in zip(data.names, blue, strict=True)]
    (tmp_path / "images.csv").write_text("image,blue\n" + "\n".join(rows))
    assert np.array_equal(listed(replace(data, root=tmp_path), "blue"), blue)
    known, shown = masks_of(data, probe, Leaf("blue"), SIZE, Work())
    assert known.all() and np.array_equal(shown, blue)
    some = replace(probe.first(5), hash="five")
    known, shown = masks_of(data, some, Leaf("blue"), SIZE, Work())
    assert known.sum() == 5 and np.array_equal(shown, blue & known)
    for given, kind, part in (
        (np.ones(3, bool), InputError, "give a bool per image"),
        (["other"], DataError, "has no image 'other'"),
        ("green", InputError, "is no file"),
    ):
        with pytest.raises(kind, match=part):
            listed(data, given)
    with pytest.raises(DataError, match="has masks of none of the images"):
        masks_of(data, replace(probe, names=tuple("abcdefgh")), Leaf("blue"), SIZE, Work())


@pytest.mark.parametrize(
    ("options", "kind", "part"),
    [
        ({}, InputError, "nothing to steer by"),
        ({"concept": "violet"}, InputError, "unknown concept 'violet'"),
        ({"concept": "blue"}, InputError, "it is not known which images show"),
        ({"concept": "blue", "replace": "insert"}, InputError, "unknown replacement 'insert'"),
        ({"concept": "blue", "replace": "zero", "factor": 0.5}, InputError, "goes with replace='scale'"),
        ({"concept": "blue", "factor": 1.0}, InputError, "other than 1"),
        ({"concept": "blue", "match": "size"}, InputError, "unknown match 'size'"),
        ({"concept": "blue", "controls": -1}, InputError, "at least 0 random groups"),
        ({"concept": "blue", "present": np.zeros(8, bool)}, DataError, "none of the 8 images"),
        ({"units": [7], "present": np.zeros(8, bool)}, InputError, "unit 7 was not explained"),
    ],
)
def test_bad_input_is_said_in_one_line(run, options, kind, part):
    with pytest.raises(kind) as caught:
        effects.steer(run, mixed(8)[0], **options)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the user's own network ----------------------------------------------------------------------------------------


def state(net):
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in net.modules()]
    return [module.training for module in net.modules()], hooks


def test_the_network_is_steered_inside_the_block_only():
    net = Layers().train()
    run, images = dissected(net, "act"), mixed(8)[0].images
    tensor = torch.stack(list(images))
    before, was = net(tensor), state(net)
    oracle_net = copy.deepcopy(net).eval()
    with effects.steered(net, run, tensor, concept="blue") as inside:
        assert inside is net
        ablated = net(tensor)
        other = []
        thread = threading.Thread(target=lambda: other.append(net(tensor)))
        thread.start()
        thread.join()
    assert torch.equal(other[0], before)  # other threads are left alone
    expected = oracle.ablated(oracle_net.net, oracle_net.net.conv, tensor, [2], "zero")
    np.testing.assert_allclose(ablated.detach().double().numpy(), expected, atol=1e-6)
    assert torch.equal(net(tensor), before)
    assert state(net) == was

    def failing():
        with effects.steered(net, run, tensor, units=[2]):
            net(torch.zeros(1, 5, 4, 4))

    with pytest.raises(RuntimeError):
        failing()
    assert state(net) == was


def test_a_steered_module_trains_and_leaves_the_network_alone():
    net = Layers().eval()
    run, tensor = dissected(net, "act"), torch.stack(list(mixed(8)[0].images))
    before, was = net(tensor), state(net)
    half = effects.Steered(net, run, tensor, units=[0, 2], factor=0.5)
    expected = oracle.ablated(net.net, net.net.conv, tensor, [0, 2], "scale", factor=0.5)
    np.testing.assert_allclose(half(tensor).detach().double().numpy(), expected, atol=1e-6)
    half(tensor).sum().backward()
    assert net.net.early.weight.grad.abs().sum() > 0  # through the edit
    fixed = effects.Steered(net, run, tensor, units=[2], values=np.array([0.25], np.float32))
    with torch.no_grad():
        pooled = net.act(net.net.conv(net.net.early(tensor).relu())).mean((2, 3))
        pooled[:, 2] = 0.25
        assert torch.allclose(fixed(tensor), net.net.fc(pooled), atol=1e-6)
    assert torch.equal(net(tensor), before)
    assert state(net) == was
    maps = explain.attribute(half, tensor[:2], method="gradcam", layer="network.net.conv")
    assert torch.isfinite(maps.values).all()
    with pytest.raises(InputError, match="give one per unit"):
        effects.Steered(net, run, tensor, units=[2], values=np.zeros(3, np.float32))
    with pytest.raises(InputError, match="nothing to steer by"):
        effects.Steered(net, run, tensor)
    with pytest.raises(ModelError, match="no layer 'act'"):
        effects.Steered(planted.Planted(), run, tensor, units=[2])


def test_edits_of_one_call_and_of_functions():
    net, x = Layers().eval(), torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        plain = net(x)
        with edited(net, "act", lambda value: value * 0, call=1):
            first = net(x)
            again = net(x)
        with edited(net, "act", lambda value: value * 0, call=2):
            last = net(x)
        with edited(net.net, "conv:relu", lambda value: value * 0):
            function = net.net(x)
    assert torch.equal(first, again) and not torch.equal(first, plain)
    assert torch.allclose(last, net.net.fc.bias.expand(2, -1))
    assert torch.allclose(function, net.net.fc.bias.expand(2, -1))
    with pytest.raises(ModelError, match="no layer 'none'"), edited(net, "none", torch.clone):
        pass
