"""Contributions of units to classes and between layers: planted ones are found, numbers are those of literal loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import planted_effects as planted
import pytest
import torch
from oracles import effects as oracle
from processes import in_threads
from torch import nn

import explain
from explain.errors import InputError
from explain.nets.passes import Work
from explain.neurons import effects
from explain.neurons.effects.between_layers import joining_weight
from explain.neurons.effects.heads import exact_head
from explain.neurons.effects.opening import open_explained
from explain.neurons.effects.preparing import open_job
from explain.neurons.units import find_layers

SIZE = (planted.SIDE, planted.SIDE)
OPTIONS = {"length": 1, "quantile": 0.1, "resolution": SIZE, "shuffles": 0, "draws": 0}


@pytest.fixture(scope="module")
def run():
    return explain.dissect(planted.Planted(), None, planted.probe(), **OPTIONS)


@pytest.fixture(scope="module")
def early():
    return explain.dissect(planted.Planted(), "early:relu", planted.probe(), **OPTIONS)


@pytest.fixture(scope="module")
def found(run, early):
    return effects.contributions(run, planted.labelled(), top=3, other=early, work=Work(7))


def test_the_planted_units_are_found_and_no_others(found):
    findings = found.findings
    assert findings.head == "exact"
    assert findings.residual < 1e-6
    assert [row.label for row in findings.classes] == [0, 1, 2]
    for row in findings.classes:
        assert [one.unit for one in row.top] == [row.label]
        assert [one.formula for one in row.top] == [planted.NAMES[row.label]]
        assert [one.unit for one in row.bottom] in ([(row.label + 1) % 3], [])
        assert row.top[0].weight == pytest.approx(4)
        assert row.top[0].low <= row.top[0].contribution <= row.top[0].high
    assert [findings.units[unit].among_top for unit in range(planted.UNITS)] == [1, 1, 1, 0, 0, 0]
    assert findings.units[1].most[0][0] == 1
    assert findings.units[1].least[0][0] == 0
    assert any(row.bottom for row in findings.classes)


def test_a_network_with_another_head_names_other_units(early):
    head = np.zeros((3, 6), np.float32)
    head[0, 3], head[1, 5], head[2, 2] = 5, 2, 1
    run = explain.dissect(planted.Planted(head=head), None, planted.probe(), **OPTIONS)
    items = planted.noise()
    rows = effects.contributions(run, items, show=0).findings.classes
    assert [[one.unit for one in row.top] for row in rows] == [[3], [5], [2]]
    assert all(row.bottom == () for row in rows)


def test_contributions_are_weight_times_mean_activation_of_the_class(run):
    items = planted.noise(9)
    found = effects.contributions(run, items, top=6, rank="weight")
    net = planted.Planted().eval()
    with torch.no_grad():
        means = net.conv(torch.stack([image for image, _, _ in items])).relu().mean((2, 3)).double().numpy()
        logits = net(torch.stack([image for image, _, _ in items])).double().numpy()
    head = np.array(planted.HEAD)
    for row in found.findings.classes:
        own = [number for number, (_, label, _) in enumerate(items) if label == row.label]
        assert row.images == len(own) == 3
        for one in (*row.top, *row.bottom):
            assert one.weight == pytest.approx(head[row.label, one.unit])
            expected = sum(head[row.label, one.unit] * means[number, one.unit] for number in own) / 3
            assert one.contribution == pytest.approx(expected, abs=1e-6)
        total = sum(one.contribution for one in (*row.top, *row.bottom)) + row.constant
        assert total == pytest.approx(row.logit, abs=1e-5)
        assert row.logit == pytest.approx(logits[own, row.label].mean(), abs=1e-6)
        assert [one.unit for one in row.top] == [row.label]  # by weight as well


def test_gradients_of_a_head_that_is_not_affine(early):
    run = explain.dissect(planted.Planted(hidden=True), None, planted.probe(), **OPTIONS)
    items = planted.noise(3)
    found = effects.contributions(run, items, top=6)
    assert found.findings.head == "gradient"
    assert found.findings.residual is None
    net = planted.Planted(hidden=True).eval().double()

    def head(maps):
        return net.fc(maps.mean((2, 3)).square())

    for row, (image, label, _) in zip(found.findings.classes, items, strict=True):
        with torch.no_grad():
            feature_map = net.conv(image[None].double()).relu()[0]
        for one in (*row.top, *row.bottom):
            total, weight = oracle.contribution(head, feature_map, label, one.unit)
            assert one.contribution == pytest.approx(total, abs=1e-5)
            assert one.weight == pytest.approx(weight, abs=1e-4)
        assert row.constant is None
        assert one.low is None  # of a single image there is no interval


def test_both_ways_agree_where_the_head_is_affine(run, monkeypatch):
    exact = effects.contributions(run, planted.noise())
    monkeypatch.setattr("explain.neurons.effects.contributing.exact_head", lambda *given: None)
    derived = effects.contributions(run, planted.noise())
    assert derived.findings.head == "gradient"
    np.testing.assert_allclose(derived.arrays["contributions"], exact.arrays["contributions"], atol=1e-6)


def test_some_units_of_a_layer(early):
    run = explain.dissect(planted.Planted(), None, planted.probe(), units=[1, 5], **OPTIONS)
    found = effects.contributions(run, planted.labelled(), other=early)
    assert list(found.findings.units) == [1, 5]
    assert found.findings.residual is None  # the others' part is not known
    assert [[one.unit for one in row.top] for row in found.findings.classes] == [[], [1], []]
    weight = found.arrays["between_weight"]
    np.testing.assert_allclose(weight, planted.Planted().conv.weight.detach().mean((2, 3))[[1, 5]].numpy())


def test_units_to_units_are_as_published(run, early, found):
    net = planted.Planted().eval()
    images = torch.stack([image for image, _, _ in planted.labelled()])
    with torch.no_grad():
        before = net.early(images).relu()
        later = net.conv(before).relu().double().numpy()
    limits = [np.array([unit.threshold for unit in one.units]) for one in (run, early)]
    expected = oracle.between(later, before.double().numpy(), *limits)
    for name, matrix in expected.items():
        np.testing.assert_allclose(found.arrays[f"between_{name}"], matrix, atol=1e-6)
    kernel = net.conv.weight.detach().double().mean((2, 3)).numpy()
    np.testing.assert_allclose(found.arrays["between_weight"], kernel)
    between = found.findings.between
    assert [one.name for one in between.measures] == ["weight", "correlation", "overlap", "inhibition"]
    assert (between.layer, between.units, between.no_weight) == ("early:relu", 3, "")
    for one in between.measures:
        matrix = found.arrays[f"between_{one.name}"]
        assert (one.low, one.high) == pytest.approx(tuple(np.nanquantile(matrix, [0.01, 0.99])))
        assert one.contributors == (matrix > one.high).sum()
        assert one.inhibitors == (matrix < one.low).sum()
        assert [pair.value for pair in one.top] == sorted((v for v in matrix.ravel() if v > 0), reverse=True)[:10]
        listed = [
            (unit, source, value)
            for unit, row in found.findings.units.items()
            for source, value in row.sources.get(one.name, {}).get("contributors", ())
        ]
        assert sorted(listed) == sorted(
            (u, v, matrix[u, v]) for u in range(6) for v in range(3) if matrix[u, v] > one.high
        )


def test_a_layer_without_a_run_has_no_overlap(run, found):
    alone = effects.contributions(run, planted.labelled(), from_layer="early:relu", work=Work(7))
    assert [one.name for one in alone.findings.between.measures] == ["weight", "correlation"]
    assert np.array_equal(alone.arrays["between_correlation"], found.arrays["between_correlation"], equal_nan=True)
    assert "no thresholds and no overlaps" in alone.notes[-1]


class Longer(nn.Module):
    """Two convolutions, a grouped one, a linear layer, and a side branch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, groups=2)
        self.side, self.fc, self.last = nn.Conv2d(3, 4, 1), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        y = self.c(self.b(self.a(x).relu()).relu()) + self.side(x)
        return self.last(self.fc(y.mean((2, 3))).relu())


def test_the_weight_is_that_of_the_one_convolution_between():
    model = Longer().eval()
    subject, image = explain.load(model), torch.rand(1, 3, 8, 8)
    layers = {layer.layer: layer for layer in find_layers(subject, image, ["a", "b", "c", "fc", "side"])}

    def weight(source, target):
        return joining_weight(model, layers[source], layers[target], image)

    np.testing.assert_allclose(weight("a", "b"), model.b.weight.detach().mean((2, 3)).numpy(), rtol=1e-6)
    assert weight("a", "c") == "2 convolutions lie between the layers, and a weight is that of a single one"
    assert weight("b", "c") == "the convolution 'c' between the layers works in groups"
    assert "'side' between the layers joins 3 to 4 channels, not their units" == weight("c", "side")
    np.testing.assert_allclose(weight("side", "fc"), model.fc.weight.detach().numpy(), rtol=1e-6)


def test_layers_that_do_not_feed_the_runs_are_refused(run, early):
    items = planted.labelled()

    def refused(text, explained, **options):
        with pytest.raises(InputError) as caught:
            effects.contributions(explained, items, **options)
        assert text in str(caught.value)

    refused("both other and from_layer", run, other=early, from_layer="early")
    refused("layer 'conv:relu' is the run's own", run, from_layer="conv:relu")
    refused("layer 'fc' does not feed 'conv:relu'", run, from_layer="fc")
    refused("layer 'conv:relu' does not feed 'early:relu'", early, other=run)
    refused("rank 'wait'; near: weight", run, rank="wait")
    refused("top=0: give at least 1", run, top=0)
    refused("show=-1: give at least 0", run, show=-1)
    other = explain.dissect(planted.Planted(hidden=False, head=np.ones((3, 6))), "early", planted.probe(), **OPTIONS)
    refused("give the network and the weights that the run was made with", run, other=other)


def test_heads_are_exact_only_where_they_are(run, early):
    job = open_job(run, planted.labelled())
    head = exact_head(job.subject, job.layer, job.data.images[0][None])
    np.testing.assert_allclose(head.weights, planted.HEAD, atol=1e-6)
    np.testing.assert_allclose(head.constants, [0.1, 0.2, 0.3], atol=1e-6)
    assert head.whole
    before = open_job(early, planted.labelled())
    assert exact_head(before.subject, before.layer, before.data.images[0][None]) is None
    assert effects.contributions(early, planted.labelled()).findings.head == "gradient"


def test_pictures_show_where_the_units_fire(run, found):
    shown = found.examples
    assert len(shown) == 3
    net = planted.Planted().eval()
    items = planted.labelled()
    for example, row in zip(shown, found.findings.classes, strict=True):
        unit = row.top[0].unit
        with torch.no_grad():
            maps = net.conv(torch.stack([image for image, _, _ in items])).relu()[:, unit].numpy()
        assert items[example.number][1] == row.label
        own = [number for number, (_, label, _) in enumerate(items) if label == row.label]
        assert maps[example.number].max() == max(maps[number].max() for number in own)
        np.testing.assert_allclose(
            example.values, np.maximum(maps[example.number] - run.units[unit].threshold, 0), atol=1e-6
        )
        assert example.caption.startswith(f"class {row.label}: unit {unit} +")
        assert "below" not in example.caption
    quiet = replace(open_explained(run), units=tuple(replace(unit, threshold=9.0) for unit in run.units))
    pairs = zip(effects.contributions(quiet, items, run.subject).examples, shown, found.findings.classes, strict=True)
    for example, other, row in pairs:
        assert example.caption == f"{other.caption}, below its threshold"
        threshold = run.units[row.top[0].unit].threshold
        assert example.values.max() == pytest.approx(other.values.max() + threshold, abs=1e-6)  # the whole map


def test_processes_agree_and_the_model_comes_back(run, early, found):
    net = planted.Planted(hidden=True)
    curved = explain.dissect(net, None, planted.probe(), **OPTIONS)
    net.train()
    state = torch.get_rng_state()
    effects.contributions(curved, planted.labelled(), net, from_layer="early")
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(value.grad is None and value.requires_grad for value in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    for one in in_threads(
        2,
        lambda world: effects.contributions(
            run, planted.labelled(), run.subject, top=3, other=early, work=Work(7, world=world)
        ),
    ):
        assert one.findings.classes == found.findings.classes
        for name, values in found.arrays.items():
            np.testing.assert_allclose(one.arrays[name], values, atol=1e-12)


def test_the_report_and_its_units(found, tmp_path):
    path = found.save(tmp_path / "out")
    page = explain.render(path).read_text(encoding="utf-8")
    assert "Contributions of units" in page
    assert page.count('<figure><svg class="shot') == 3
    assert "from early:relu to conv:relu, weight" in page
