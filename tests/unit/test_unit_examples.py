"""What a neuron run keeps to show its units: counts of all values, and images that speak for and against formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.neurons import dense_iou
from torch import nn

import explain
from explain.errors import RunError
from explain.neurons import parse
from explain.neurons.example_rows import lists_of
from explain.neurons.formula import evaluate, leaves, minor_negation
from explain.neurons.histograms import BINS, Histogram, bin_edges, count_dense
from explain.neurons.merging import merge_runs

NAMES = ["a", "b", "c"]


# --- counts of all values ------------------------------------------------------------------------------------------


def literal_counts(values):
    """Look for each value's bin among the edges, one after the other."""
    edges, found = bin_edges(), np.zeros(BINS, np.int64)
    for value in values:
        for place in range(BINS):
            low, high = edges[place], edges[place + 1]
            outer = (place == 0 and value <= low) or (place == BINS - 1 and value >= high)
            inside = low <= value < high if value > 0 else low < value <= high
            if outer or inside:
                found[place] += 1
                break
    return found


def test_each_value_is_counted_in_its_bin():
    values = [0.0, -0.0, 1.0, 1.0624, 1.0625, -1.0, -1.0625, 2**-16, 2**-17, -(2**-16), 3e9, -3e9, 0.37, -7.7, 1e-30]
    maps = torch.tensor(values).reshape(1, 1, 3, 5)
    histogram = Histogram(1)
    histogram.update(maps)
    assert histogram.counts()[0].tolist() == literal_counts(np.float32(values)).tolist()
    assert (np.diff(bin_edges()) > 0).all()


def test_batches_units_and_devices_do_not_matter():
    maps = torch.randn(6, 5, 3, 4, generator=torch.Generator().manual_seed(0)) * 10
    whole, first, second = Histogram(5), Histogram(5), Histogram(5)
    whole.update(maps)
    first.update(maps[:2].to(memory_format=torch.channels_last))
    second.update(maps[2:])
    second.add(first.counts())
    assert np.array_equal(whole.counts(), second.counts())
    assert np.array_equal(count_dense(maps.view(torch.int32).flatten(2)).numpy(), whole.counts())
    assert whole.counts().sum(1).tolist() == [6 * 12] * 5
    for unit in range(5):
        assert whole.counts()[unit].tolist() == literal_counts(maps[:, unit].flatten().numpy()).tolist()


# --- the minor negation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "NOT a"),
        ("NOT a", "a"),
        ("a OR b", "NOT a OR b"),
        ("(a OR b) AND NOT c", "(NOT a OR b) AND NOT c"),
        ("a AND (b OR c)", "a AND (NOT b OR c)"),  # the right part is longer
        ("NOT (a OR b)", "NOT (NOT a OR b)"),
        ("a OR b OR c", "NOT a OR b OR c"),
        ("a OR b OR (c AND d)", "NOT a OR b OR (c AND d)"),  # (a OR b) OR (c AND d): as long
        ("a OR b OR (c AND d AND e)", "a OR b OR (NOT c AND d AND e)"),
    ],
)
def test_the_minor_negation_is_the_published_one(text, expected):
    found = minor_negation(parse(text))
    assert found == parse(expected)
    assert parse(str(found)) == found


formulas = st.recursive(
    st.sampled_from(NAMES).map(parse),
    lambda inner: st.one_of(
        inner.map(lambda one: parse(f"NOT ({one})")),
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: parse(f"({t[0]}) {t[1]} ({t[2]})")),
    ),
    max_leaves=6,
)


@given(formulas)
def test_the_minor_negation_turns_one_leaf(formula):
    """All leaves stay, and giving exactly one of them the opposite value gives the formula back."""
    negated = minor_negation(formula)
    assert leaves(negated) == leaves(formula)
    names = iter(range(99))
    numbered = [next(names) for _ in leaves(formula)]
    rng = np.random.default_rng(0)
    masks = [rng.random(64) < 0.5 for _ in numbered]

    def value(one, turned=None):
        order = iter(numbered)

        def lookup(_):
            at = next(order)
            return ~masks[at] if at == turned else masks[at]

        return evaluate(one, lookup)

    same = [turned for turned in numbered if np.array_equal(value(negated), value(formula, turned))]
    assert same


# --- images --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 6 units with its folder, and what each pixel of each image holds."""
    random = np.random.default_rng(0)
    masks = random.random((10, 3, 24, 24)) < 0.3
    masks[3, 0] = False
    images = torch.from_numpy(masks.astype(np.float32)) + torch.randn(10, 3, 24, 24) * 0.3
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    settings = {"length": 2, "quantile": 0.02, "resolution": (24, 24), "shuffles": 0, "draws": 0, "examples": 5}
    runs = {units: explain.dissect(net, "1", (images, masks, NAMES), units=units, **settings)
            for units in (None, range(2), range(2, 6))}  # fmt: skip
    folder = tmp_path_factory.mktemp("made")
    for units, run in runs.items():
        run.save(folder / ("whole" if units is None else f"units{units.start}"))
    maps = net[:2](images).detach().numpy()
    return runs[None], folder, masks, maps


def test_other_images_are_those_that_dense_masks_give(made):
    run, folder, masks, maps = made
    saved = json.loads((folder / "whole" / "run.json").read_text(encoding="utf-8"))
    with np.load(folder / "whole" / "arrays" / "examples.npz") as stored:
        bits = {name: np.unpackbits(stored[name], axis=1, count=24 * 24).astype(bool) for name in ("unit", "formula")}
    for unit, explained in zip(saved["units"], run.units, strict=True):
        active = maps[:, unit["unit"]] > explained.threshold  # the resolution is that of the maps
        formula = parse(unit["formula"])
        holds = evaluate(formula, lambda name: masks[:, NAMES.index(name)])
        negated = evaluate(minor_negation(formula), lambda name: masks[:, NAMES.index(name)])
        scores = {
            "false_alarms": (active & ~holds).sum((1, 2)),
            "misses": (holds & ~active).sum((1, 2)),
            "negation": negated.sum((1, 2)),
        }
        for kind, score in scores.items():
            order = sorted(range(10), key=lambda image: (-score[image], image))
            assert [one["image"] for one in unit["also"][kind]] == [one for one in order if score[one]][:3]
        drawn = [one["image"] for one in unit["also"]["random"]]
        fires = active.any((1, 2))
        assert len(drawn) == min(3, fires.sum())
        assert fires[drawn].all()
        for kind, shown in {"top": unit["examples"], **unit["also"]}.items():
            for one in shown:
                where = negated if kind == "negation" else holds
                assert np.array_equal(bits["unit"][one["row"]], active[one["image"]].ravel())
                assert np.array_equal(bits["formula"][one["row"]], where[one["image"]].ravel())
                assert one["iou"] == dense_iou(active[one["image"]], where[one["image"]])
                peak = float(maps[one["image"], unit["unit"]].max())
                assert one["peak"] == (peak if fires[one["image"]] else None)


def test_random_images_are_drawn_by_the_seed_and_not_the_top_ones(made):
    run, _, _, _ = made
    drawn = [row[0].images.tolist() for row in run.examples.others]
    top = [row.tolist()[:3] for row in run.examples.images]
    assert any(sorted(one) != sorted(other) for one, other in zip(drawn, top, strict=True))
    assert len({tuple(one) for one in drawn}) > 1  # not the same for all units


def test_histograms_hold_every_value(made):
    run, folder, _, maps = made
    with np.load(folder / "whole" / "arrays" / "histograms.npz") as stored:
        counts, edges = stored["counts"], stored["edges"]
    assert np.array_equal(edges, bin_edges())
    for unit in range(6):
        assert counts[unit].tolist() == literal_counts(maps[:, unit].ravel()).tolist()
    assert counts[:, BINS // 2].min() > 0  # zeros after the ReLU


def test_merged_units_show_what_one_run_shows(made, tmp_path):
    _, folder, _, _ = made
    merge_runs([folder / "units2", folder / "units0"], tmp_path / "merged")
    saved = [json.loads((one / "run.json").read_text()) for one in (folder / "whole", tmp_path / "merged")]
    for key in ("examples", "also"):
        assert [unit[key] for unit in saved[0]["units"]] == [unit[key] for unit in saved[1]["units"]]
    assert sum(len(shown) for unit in saved[0]["units"] for shown in lists_of(unit)) > 50
    assert saved[0]["images"] == saved[1]["images"]
    for name in ("examples.npz", "histograms.npz"):
        arrays = [np.load(one / "arrays" / name) for one in (folder / "whole", tmp_path / "merged")]
        assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0].files)
        for one in arrays:
            one.close()


def test_pieces_of_an_older_version_are_refused():
    from collecting import make_job

    from explain.neurons.collected import make_part

    part = make_part(make_job(("conv",)), 0)
    with pytest.raises(RunError, match="older version: pass --overwrite"):
        part.restore({"gave_up": np.array(False)})
