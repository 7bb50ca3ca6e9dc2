"""Accuracy when units fire, and its correlation with IoU: against literal loops and values computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import planted_effects as planted
import pytest
import torch
from oracles import effects as oracle
from processes import in_threads
from scipy import stats

import explain
from explain.errors import InputError
from explain.nets.passes import Work
from explain.neurons import effects
from explain.neurons.effects.correlating import correlate
from explain.neurons.effects.firing_accuracy import area_edges
from explain.neurons.effects.opening import open_explained

SIZE = (planted.SIDE, planted.SIDE)


@pytest.fixture(scope="module")
def run():
    return explain.dissect(
        planted.Planted(), None, planted.probe(), length=2, quantile=0.1, resolution=SIZE, shuffles=0, draws=0
    )


@pytest.fixture(scope="module")
def mixed():
    """Images whose class is wrong for some: the network is not always right."""
    return [
        (image, (label + 1) % 3 if number % 5 == 0 else label, None)
        for number, (image, label, _) in enumerate(planted.labelled(30))
    ]


@pytest.fixture(scope="module")
def found(run, mixed):
    return effects.accuracy(run, mixed, bins=2, draws=50, work=Work(7))


def test_accuracy_when_active_is_counted_as_published(run, mixed, found):
    net = planted.Planted().eval()
    images = torch.stack([image for image, _, _ in mixed])
    with torch.no_grad():
        maps, predicted = net.conv(images).relu().numpy(), net(images).argmax(1).tolist()
    expected = oracle.accuracy_when_active(
        maps, [unit.threshold for unit in run.units], predicted, [label for _, label, _ in mixed]
    )
    units = found.findings.units
    assert list(units) == list(range(planted.UNITS))
    assert [(units[unit].images, units[unit].right) for unit in units] == expected
    assert any(0 < right < images for images, right in expected)
    assert units[4].images == 0
    assert units[4].accuracy is None
    low, high = stats.binomtest(units[0].right, units[0].images).proportion_ci(0.95, "wilson")
    score = units[0].accuracy
    assert (score.value, score.low, score.high) == pytest.approx(
        (100 * units[0].right / units[0].images, 100 * low, 100 * high)
    )
    assert found.findings.fired == sum(images > 0 for images, _ in expected)
    assert found.findings.top1.value == pytest.approx(100 * np.mean(np.array(predicted) == found.arrays["labels"]))


def test_firing_areas_are_bins_of_the_cells_above_the_threshold(found):
    cells, right = found.arrays["cells"], found.arrays["predicted"] == found.arrays["labels"]
    bins = found.findings.bins
    assert bins[0].low == 1
    assert [one.high + 1 for one in bins[:-1]] == [one.low for one in bins[1:]]
    assert bins[-1].high == cells.max()
    for place, one in enumerate(bins):
        pairs = hits = 0
        for image in range(len(cells)):
            for unit in range(cells.shape[1]):
                if one.low <= cells[image, unit] <= one.high:
                    pairs, hits = pairs + 1, hits + int(right[image])
        assert one.pairs == pairs
        assert one.accuracy.value == pytest.approx(100 * hits / pairs)
        assert one.accuracy.low <= one.accuracy.value <= one.accuracy.high
        assert sum(row.by_area[place][0] for row in found.findings.units.values()) == pairs
        assert sum(row.by_area[place][1] for row in found.findings.units.values()) == hits


@pytest.mark.parametrize(
    ("cells", "bins", "edges"),
    [([0, 1, 1, 1, 2, 5, 9], 2, [1, 9]), ([1, 2, 3, 4], 4, [1, 2, 3, 4]), ([7, 7], 4, [7]), ([0, 0], 3, [])],
)
def test_edges_of_areas(cells, bins, edges):
    assert area_edges(np.array(cells, np.int32)[:, None], bins) == edges


def test_correlations_are_with_each_iou_of_the_run(run, mixed):
    rising = open_explained(run)
    shares = {unit: row.accuracy for unit, row in effects.accuracy(run, mixed, draws=5).findings.units.items()}
    known = [unit for unit in shares if shares[unit] is not None]
    ious = np.random.default_rng(0).uniform(0.1, 0.9, (planted.UNITS, 4)).round(3)
    units = tuple(
        replace(
            unit,
            iou=float(ious[place, 0]),
            best_by_length=((1, "red", float(ious[place, 1])), (2, "red OR blue", float(ious[place, 0]))),
            evidence=replace(
                unit.evidence,
                iou_heldout=float(ious[place, 2]),
                heldout_by_length=(float(ious[place, 3]), float(ious[place, 2])),
            ),
        )
        for place, unit in enumerate(rising.units)
    )
    found = effects.accuracy(replace(rising, units=units), mixed, draws=20).findings
    columns = {"iou": 0, "iou_heldout": 2, "iou_length_1": 1, "iou_heldout_length_1": 3, "iou_heldout_length_2": 2}
    rows = {(row.of, row.method): row.correlation for row in found.correlations}
    assert len(rows) == 12
    y = [shares[unit].value for unit in known]
    for of, column in columns.items():
        x = ious[known, column].tolist()
        assert rows[of, "pearson"].value == pytest.approx(oracle.pearson(x, y))
        assert rows[of, "spearman"].value == pytest.approx(oracle.spearman(x, y))
        assert rows[of, "pearson"].p == pytest.approx(stats.pearsonr(x, y).pvalue)
        assert rows[of, "pearson"].n == len(known)
    assert rows["iou_length_2", "pearson"].value == pytest.approx(max_of(ious[known], (0, 1), y))


def max_of(ious, columns, y):
    """At most two concepts: the better of one and two."""
    return oracle.pearson(ious[:, columns].max(1).tolist(), y)


def test_correlation_of_values_worked_out_by_hand():
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    for method in ("pearson", "spearman"):
        found = correlate(x, y, method, draws=400)
        assert found.value == pytest.approx(0.8)  # Σxy - n·3·3 = 8, both spreads 10
        # t = .8 √(3 / .36) = 2.3094 with 3 degrees of freedom: p = 1 - 2/π (atan(t/√3) + (t/√3)/(1 + t²/3))
        assert found.p == pytest.approx(1 - 2 / np.pi * (np.arctan(4 / 3) + (4 / 3) / (1 + 16 / 9)))
        assert -1 <= found.low <= found.value <= found.high <= 1
    shifted = correlate(x, np.array([1.0, 4, 9, 16, 25]), "spearman")
    assert shifted.value == pytest.approx(1)


def test_intervals_of_correlations_hold_what_they_should():
    rng = np.random.default_rng(0)
    inside = zero = 0
    for seed in range(100):
        x, e = rng.normal(size=(2, 60))
        found = correlate(x, 0.6 * x + 0.8 * e, "pearson", draws=200, seed=seed)
        inside += found.low <= 0.6 <= found.high
        none = correlate(x, e, "spearman", draws=200, seed=seed)
        zero += none.low <= 0 <= none.high
    assert 86 <= inside <= 100
    assert 86 <= zero <= 100


def test_correlations_without_meaning_are_none():
    x = np.arange(4.0)
    assert correlate(x, np.ones(4), "pearson") is None
    assert correlate(x[:2], x[:2], "pearson") is None
    assert correlate(np.array([1, 2, np.nan, np.nan]), x, "spearman") is None
    found = correlate(np.array([1.0, 1, 1, 2]), np.array([0.0, 1, 2, 3]), "pearson", draws=50)
    assert np.isfinite([found.low, found.high]).all()  # drawings without the last pair are constant


def test_units_that_fire_seldom_can_be_left_out(run, mixed, found):
    images = sorted(row.images for row in found.findings.units.values() if row.images)
    least = images[-1]
    few = effects.accuracy(run, mixed, least=least, draws=5).findings
    assert few.correlated == images.count(least) < found.findings.correlated
    assert few.units.keys() == found.findings.units.keys()


def test_the_model_comes_back_and_processes_agree(run, mixed, found):
    net = planted.Planted()
    net.train()
    state = torch.get_rng_state()
    alone = effects.accuracy(run, mixed, net, bins=2, draws=50, work=Work(7))
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(value.grad is None for value in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    assert alone.as_dict() == found.as_dict()
    for one in in_threads(2, lambda world: effects.accuracy(run, mixed, bins=2, draws=50, work=Work(7, world=world))):
        assert one.as_dict() == found.as_dict()


@pytest.mark.parametrize("name", ["bins", "least", "draws"])
def test_options_out_of_range(run, mixed, name):
    with pytest.raises(InputError, match=f"{name}=0: give at least 1"):
        effects.accuracy(run, mixed, **{name: 0})


def test_the_findings_are_written_and_told(found, tmp_path):
    text = found.table()
    assert "correlation over units of accuracy when active with IoU" in text
    assert "by firing area: cells of the 64 of a map" in text
    assert "Planted is right on" in found.notes[0]
    path = found.save(tmp_path / "out")
    with np.load(path / "arrays" / "records.npz") as stored:
        assert np.array_equal(stored["cells"], found.arrays["cells"])
    page = explain.render(path).read_text(encoding="utf-8")
    assert page.count('class="point"') == 2 * sum(row.images > 0 for row in found.findings.units.values())
    assert "IoU on held-out images" in page
