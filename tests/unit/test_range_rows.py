"""Ranges of activation as rows of a run: planted ones, literal masks, evidence, files, refusals."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import explain
from explain.errors import InputError
from explain.nets.subject import as_subject
from explain.nets.untrained import untrained
from explain.neurons.asking import ask, open_run, sorted_answers, write_answers
from explain.neurons.cells import build_index
from explain.neurons.counts import upsample
from explain.neurons.detectors import histograms
from explain.neurons.dissection import Detecting, unit_tables
from explain.neurons.domains import unit_domains
from explain.neurons.evidence.gathering import Asked, gather
from explain.neurons.evidence.parts import Measured, count_images, image_pixels
from explain.neurons.evidence.resampling import image_counts
from explain.neurons.finding import Finder, find_by_beam
from explain.neurons.firing import Firing, count_firing, firing_from_pieces
from explain.neurons.formula import evaluate, parse
from explain.neurons.merging import merge_runs
from explain.neurons.ranges import activation_ranges, firing_in_ranges, refuse_large
from explain.neurons.saving import unit_of_row
from explain.neurons.settings import Settings
from explain.neurons.units import UnitLayer
from explain.types import Concept, Labels

SIDE = 12


class Two(nn.Module):
    """A unit that gives 1 where the first concept is and 3 where the second is; and one that is always zero."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 3.0], [-1.0, -1.0]])[:, :, None, None])

    def forward(self, x):
        return self.conv(x).relu()


def test_two_ranges_that_fire_for_two_concepts():
    masks = np.zeros((6, 2, SIDE, SIDE), bool)
    for number in range(6):
        masks[number, 0, number : number + 4, 2:5] = True
        masks[number, 1, 1:6, 6 : 8 + number % 3] = True
    probe = torch.from_numpy(masks.astype(np.float32)), masks, ["low", "high"]
    run = explain.dissect(
        Two(), "conv:relu", probe, length=2, ranges=2, resolution=(SIDE, SIDE), shuffles=9, draws=9, quantile=0.01
    )
    low, high = run.units.ranges(0)
    assert (low.formula, low.iou, low.lower, low.upper) == ("low", 1.0, 0.0, 1.0)
    assert (high.formula, high.iou, high.lower, high.upper) == ("high", 1.0, 1.0, np.inf)
    assert (low.active, high.active) == (int(masks[:, 0].sum()), int(masks[:, 1].sum()))
    assert run.units[0, 1] is high
    assert [row.key for row in run.units] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row in run.units.ranges(1):  # zero everywhere: no values, no clusters, nothing active
        assert (row.formula, row.active) == (None, 0)
        assert row.lower == row.upper == row.threshold == 0
    assert run.warnings == ("2 of 4 ranges hold no pixel: fewer distinct values than ranges, or none but zero",)
    assert run.table().splitlines()[0].split()[:2] == ["unit", "range"]
    with pytest.raises(InputError, match=r"unit 0 has 2 ranges: ask for units\[0, 0\]"):
        run.units[0]
    with pytest.raises(InputError, match="unit 0 has no range 2; ranges: 0 to 1"):
        run.units[0, 2]
    with pytest.raises(InputError, match="unit 7 was not explained; explained: 2 units"):
        run.units.ranges(7)
    plain = explain.dissect(Two(), "conv:relu", probe, length=1, resolution=(SIDE, SIDE), shuffles=0, draws=0)
    assert plain.units.ranges(0) == (plain.units[0],)
    with pytest.raises(InputError, match="ask for ranges=K"):
        plain.units[0, 1]
    with pytest.raises(InputError, match="differ in ranges"):
        histograms([run, plain])


# --- a network of random weights ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probe():
    random = np.random.default_rng(0)
    masks = random.random((9, 3, 3, 3)).repeat(8, 2).repeat(8, 3) < 0.4
    noise = torch.from_numpy(random.normal(0, 0.3, masks.shape).astype(np.float32))
    return torch.from_numpy(masks.astype(np.float32)) + noise, masks, ["a", "b", "c"]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def maps_of(images, modules):
    """Return the maps of the units, and what they are at the labels' resolution."""
    with torch.no_grad():
        maps = torch.cat([net()[:modules](part) for part in images.split(4)])
    return maps, np.stack([upsample(one, (24, 24)).numpy() for one in maps])


def made(probe, layer="1", **options):
    given = {"length": 2, "ranges": 3, "resolution": (24, 24), "shuffles": 9, "draws": 20, "batch_size": 4, **options}
    return explain.dissect(net(), layer, probe, **given)


@pytest.mark.parametrize(("layer", "keep_bytes"), [("1", 1 << 29), ("0", 1)])
def test_rows_are_those_of_literal_masks(probe, layer, keep_bytes):
    """``"0"`` has values of both signs; ``keep_bytes`` does not drop maps that ranges need."""
    run = made(probe, layer, keep_bytes=keep_bytes, examples=2)
    images, concepts, names = probe
    maps, large = maps_of(images, int(layer) + 1)
    lower, upper = activation_ranges([maps[:, unit].numpy() for unit in range(4)], 3)
    assert run.passes == 1
    assert [row.key for row in run.units] == [(unit, which) for unit in range(4) for which in range(3)]
    for place, row in enumerate(run.units):
        unit, which = row.key
        assert (row.lower, row.upper) == (lower[unit, which], upper[unit, which])
        mask = (large[:, unit] > row.lower) & (large[:, unit] <= row.upper)
        assert row.active == mask.sum() > 0
        holds = evaluate(parse(row.formula), dict(zip(names, concepts.transpose(1, 0, 2, 3), strict=True)).__getitem__)
        assert row.iou == (mask & holds).sum() / (mask | holds).sum()
        assert row.evidence.p_value is not None
        assert row.evidence.low <= row.evidence.high
        inside = ((maps[:, unit] > row.lower) & (maps[:, unit] <= row.upper)).flatten(1).sum(1)
        assert inside[run.examples.images[place]].tolist() == sorted(inside.tolist(), reverse=True)[:2]


def ranged(seed=0, images=10, units=2, k=3):
    """Return ranges of random maps as `Measured`, and as units whose maps are the ranges' masks."""
    random = np.random.default_rng(seed)
    labels = random.integers(-1, 4, (images, 2, 3, 3)).repeat(4, 2).repeat(4, 3).astype(np.int32)
    concepts = tuple(Concept(f"c{number}", "even" if number % 2 == 0 else "odd") for number in range(4))
    ignored = random.random((images, 12, 12)) < 0.1
    known = random.random((images, 2)) < 0.7
    index = build_index(concepts, [Labels(labels[i], ignored=ignored[i]) for i in range(images)])
    index = replace(index, annotated=known)
    maps = random.gamma(0.6, 2, (images, units, 4, 4)).astype(np.float32)
    maps[random.random(maps.shape) < 0.3] = 0
    image, unit = (part.ravel() for part in np.mgrid[:images, :units])
    firing = firing_from_pieces([(unit, image, maps[image, unit])], (4, 4))
    store, lower, upper = firing_in_ranges(firing, *activation_ranges([maps[:, u] for u in range(units)], k))
    pixels = image_pixels(index)
    large = np.stack([upsample(torch.from_numpy(maps[:, u]), (12, 12)).numpy() for u in range(units)])
    masks = np.concatenate(
        [
            ((large[row // k] > lower[row]) & (large[row // k] <= upper[row])).astype(np.float32)
            for row in range(units * k)
        ]
    )
    row, image = (part.ravel() for part in np.mgrid[: units * k, :images])
    literal = Measured(index, Firing(row, image, masks), np.full(units * k, 0.5, np.float32), pixels)
    return Measured(index, store, lower, pixels, upper=upper), literal


def evidence_of(measured, held_out=None):
    finder, asked = Finder(length=2, beam=3, search="beam"), Asked(shuffles=19, draws=30)
    if held_out is None:
        cells = measured.index.cells
        counts = count_firing(
            measured.firing, measured.thresholds, measured.index, units=measured.units, upper=measured.upper
        )
    else:
        cells, counts = count_images(measured, ~held_out)
    found = find_by_beam(finder, cells, counts)
    numbers = np.arange(measured.units)
    evidence = gather(measured, cells, counts, found, finder, asked, held_out=held_out, numbers=numbers)
    images = None if held_out is None else ~held_out
    return found, evidence, unit_tables(measured, cells, counts, found, Detecting(), images=images)


@pytest.mark.parametrize("held", [False, True])
def test_evidence_of_a_range_is_that_of_its_masks(held):
    measured, literal = ranged()
    held_out = np.arange(10) % 3 == 0 if held else None
    found, evidence, tables = evidence_of(measured, held_out)
    wanted = evidence_of(literal, held_out)
    assert found == wanted[0]
    assert evidence == wanted[1]
    assert tables == wanted[2]
    assert len({row.p_value for row in evidence}) > 1
    assert any(table.iou_annotated is not None for table in tables)


def test_all_that_counts_again_looks_at_the_upper_end():
    measured, literal = ranged(1)
    every, formulas = np.arange(10) < 6, [parse("c0"), parse("c1 OR c2")]
    one, other = unit_domains(measured), unit_domains(literal)
    for name in ("all", "annotated", "overlapping"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert np.array_equal(count_images(measured, every)[1].active, count_images(literal, every)[1].active)
    for row in range(measured.units):
        for a, b in zip(image_counts(measured, row, formulas), image_counts(literal, row, formulas), strict=True):
            assert np.array_equal(a, b)
    some = measured.select([4, 1])
    assert np.array_equal(some.upper, measured.upper[[4, 1]])
    assert np.array_equal(count_images(some, every)[1].active, count_images(measured, every)[1].active[[4, 1]])


# --- files --------------------------------------------------------------------------------------------------------


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_a_run_with_ranges(probe, tmp_path):
    run = made(probe, untrained=True)
    folder = run.save(tmp_path / "run")
    rows, kept = rows_of(folder / "units.csv"), json.loads((folder / "run.json").read_text())
    assert list(rows[0])[-4:] == ["p_untrained", "range", "lower", "upper"]
    for text, one, unit in zip(rows, kept["units"], run.units, strict=True):
        assert (int(text["unit"]), int(text["range"])) == unit.key
        assert (float(text["lower"]), float(text["upper"])) == (unit.lower, unit.upper)
        assert (one["unit"], one["range"], one["lower"]) == (*unit.key, unit.lower)
        assert one["upper"] == (None if np.isinf(unit.upper) else unit.upper)
        assert unit_of_row(one) == unit
    assert kept["settings"]["ranges"] == 3
    for name in ("evidence.csv", "categories.csv"):
        assert list(rows_of(folder / name)[0])[:2] == ["unit", "range"]
    with np.load(folder / "arrays" / "examples.npz") as found:
        bits = np.unpackbits(found["unit"], axis=1, count=24 * 24)
    _, large = maps_of(probe[0], 2)
    for one, unit in zip(kept["units"], run.units, strict=True):
        for example in one["examples"]:
            values = large[example["image"], unit.unit]
            assert np.array_equal(bits[example["row"]], ((values > unit.lower) & (values <= unit.upper)).ravel())
    page = explain.render(folder).read_text()
    assert 'id="unit-2-1"' in page
    assert "Unit 2, range 1" in page


def test_untrained_ranges_are_compared_with_the_same_ranges(probe):
    run = made(probe, untrained=True, shuffles=0, draws=0)
    other = explain.dissect(
        untrained(as_subject(net()), seed=0).subject, "1", probe, length=2, ranges=3, resolution=(24, 24), shuffles=0,
        draws=0,
    )  # fmt: skip
    for row in run.units:
        null = [one.iou for one in other.units if one.range == row.range]
        assert row.evidence.p_untrained == (1 + sum(iou >= row.iou for iou in null)) / 5


def test_runs_with_ranges_are_merged_and_asked(probe, tmp_path):
    whole = made(probe).save(tmp_path / "whole")
    made(probe, units=[3, 1]).save(tmp_path / "odd")
    made(probe, units=[0, 2]).save(tmp_path / "even")
    merged = merge_runs([tmp_path / "odd", tmp_path / "even"], tmp_path / "merged")
    one, other = (json.loads((path / "run.json").read_text()) for path in (whole, merged))
    assert {key for key in one if one[key] != other[key]} == {"manifest"}
    for name in ("units.csv", "evidence.csv", "categories.csv"):
        assert (whole / name).read_bytes() == (merged / name).read_bytes()
    with np.load(whole / "arrays" / "units.npz") as a, np.load(merged / "arrays" / "units.npz") as b:
        assert set(a.files) == set(b.files) >= {"ranges", "upper"}
        assert all(np.array_equal(a[key], b[key]) for key in a.files)
    saved = open_run(merged)
    row = one["units"][7]
    answers = ask(saved, row["formula"])
    (own,) = (answer for answer in answers if (answer.unit, answer.range) == (row["unit"], row["range"]))
    assert (own.iou, own.found) == (row["iou"], row["formula"])
    ordered = sorted_answers(answers, "unit")
    assert [(one.unit, one.range) for one in ordered] == [(unit, which) for unit in range(4) for which in range(3)]
    assert [one.range for one in sorted_answers(answers, "-range")][:4] == [2] * 4
    written = rows_of(write_answers(ordered, tmp_path / "asked.csv"))
    assert [int(line["range"]) for line in written] == [0, 1, 2] * 4
    with pytest.raises(InputError, match="no column 'range'"):
        sorted_answers([replace(answers[0], range=None)], "range")


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranges": 1}, "ranges=1: give at least 2"),
        ({"ranges": 0}, "give at least 2"),
        ({"ranges": 2, "quantile_at": "upsampled"}, "clusters of the maps' own values"),
        ({"ranges": 2, "finder": Finder(search="beam", compat="compexp")}, "leave compat away"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Settings(**options)


def test_maps_that_do_not_fit_in_memory_are_refused_before_any_pass(probe, monkeypatch):
    layers = [UnitLayer("a", np.arange(100), (7, 7)), UnitLayer("b", np.arange(10), (7, 7))]
    bytes_of_maps = 4 * 1000 * 7 * 7 * 110 + 5 * 4 * 1000 * 7 * 7 * 100
    refuse_large(layers, 1000, 5, bytes_of_maps)
    with pytest.raises(InputError, match=r"5 ranges of 110 units on 1000 images need up to 0.1 GB .* merge"):
        refuse_large(layers, 1000, 5, bytes_of_maps - 1)
    monkeypatch.setattr("explain.neurons._preparing.MOST_BYTES", 1000)
    monkeypatch.setattr("explain.neurons.collect.stream_maps", None)
    with pytest.raises(InputError, match="GB of memory"):
        made(probe, keep_bytes=1000)
