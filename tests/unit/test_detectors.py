"""Detectors of whole runs: rules of IoU, files, merging, and several runs lined up."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

import explain
from explain.errors import DataError, InputError, RunError
from explain.neurons.detectors import histogram_table, histograms
from explain.neurons.merging import merge_runs
from explain.types import Concept, Labels, ProbeSet

CONCEPTS = (Concept("a", "object"), Concept("b", "object"), Concept("c", "part"), Concept("d", "color"))
ANNOTATED = [("object", "part"), ("object",), None, ("part",), ("object", "part", "color"), ("object",)]


@pytest.fixture(scope="module")
def probe():
    """Six images; parts and colours are labelled only where they are announced."""
    random = np.random.default_rng(0)
    kinds = [{"object": (0, 1), "part": (2,), "color": (3,)}[kind] for kind in ("object", "part", "color")]
    labels, images = [], []
    for known in ANNOTATED:
        maps = np.full((3, 16, 16), -1, np.int32)
        for layer, (kind, numbers) in enumerate(zip(("object", "part", "color"), kinds, strict=True)):
            if known is None or kind in known:
                maps[layer] = np.kron(random.choice([-1, *numbers], (4, 4)), np.ones((4, 4), int))
        labels.append(Labels(maps, annotated=known))
        shown = np.stack([(maps == number).any(0) for number in range(3)]).astype(np.float32)
        images.append(torch.from_numpy(shown) + torch.from_numpy(random.normal(0, 0.2, shown.shape)).float())
    return ProbeSet("made", images, CONCEPTS, lambda index, size: labels[index], tuple("uvwxyz"), "hash")


def made(probe, layer="1", seed=0, **options):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    settings = {
        "length": 2,
        "quantile": 0.1,
        "resolution": (16, 16),
        "shuffles": 0,
        "draws": 0,
        "search": "beam",
        **options,
    }
    return explain.dissect(net, layer, probe, **settings)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_labels_follow_the_rule_and_formulas_do_not(probe):
    runs = {rule: made(probe, iou=rule) for rule in ("all", "annotated", "netdissect-lite")}
    formulas = [[(unit.formula, unit.iou, unit.iou_annotated) for unit in run.units] for run in runs.values()]
    assert formulas[0] == formulas[1] == formulas[2]
    differ = 0
    for number in range(6):
        scores = []
        for rule, run in runs.items():
            unit = run.units[number]
            values = [row.under(rule) for row in unit.categories]
            assert unit.score == max(values)
            assert (unit.label_category, unit.label) == next(
                (row.category, row.label) for row in unit.categories if row.under(rule) == unit.score
            )
            scores.append(unit.score)
        assert scores == sorted(scores)
        differ += len(set(scores)) > 1
        assert {"a", "b", "c", "d"} >= {row.label for row in runs["all"].units[number].categories}
    assert differ
    assert any(unit.iou_annotated > unit.iou for unit in runs["all"].units)
    assert runs["annotated"].summary()["iou_rule"] == "annotated"


@pytest.fixture(scope="module")
def saved(probe, tmp_path_factory):
    run = made(probe, iou="annotated", threshold_iou=0.1)
    return run, run.save(tmp_path_factory.mktemp("runs") / "whole")


def test_files_of_a_run(saved):
    run, folder = saved
    rows = table(folder / "categories.csv")
    assert list(rows[0]) == [
        "unit", "category", "label", "truth", "activation", "intersect", "iou", "iou_annotated", "iou_netdissect_lite",
    ]  # fmt: skip
    assert [{key: str(value) for key, value in row.items()} for row in run.categories()] == rows
    for row in rows:
        union = int(row["truth"]) + int(row["activation"]) - int(row["intersect"])
        assert float(row["iou_annotated"]) == int(row["intersect"]) / union
    found = json.loads((folder / "run.json").read_text())
    assert found["summary"]["histogram"] == [
        {key: value if key == "category" else int(value) for key, value in row.items()}
        for row in table(folder / "histogram.csv")
    ]
    assert [row["category"] for row in found["summary"]["histogram"]] == ["object", "part", "color"]
    assert (found["settings"]["iou"], found["settings"]["threshold_iou"]) == ("annotated", 0.1)
    assert found["settings"]["related"] is None
    detectors = [unit for unit in run.units if unit.score > 0.1]
    assert (
        found["summary"]["interpretable"]
        == len(detectors)
        == sum(row["detectors"] for row in found["summary"]["histogram"])
    )
    each = sum(row.iou_annotated > 0.1 for unit in run.units for row in unit.categories)
    assert found["summary"]["detectors_per_category"] == each > len(detectors)
    assert table(folder / "evidence.csv")[0]["iou_annotated"] == repr(run.units[0].iou_annotated)
    explain.render(folder)
    page = (folder / "report.html").read_text()
    assert "labels in the category" in page
    assert "over the images annotated for the concept" in page


def test_merged_ranges_have_the_same_tables(saved, probe, tmp_path):
    run, folder = saved
    parts = [
        made(probe, iou="annotated", threshold_iou=0.1, units=units).save(tmp_path / name)
        for name, units in (("low", range(2)), ("high", range(2, 6)))
    ]
    merge_runs(parts, tmp_path / "merged")
    for name in ("categories.csv", "histogram.csv", "units.csv", "evidence.csv"):
        assert (tmp_path / "merged" / name).read_text() == (folder / name).read_text()
    one, other = (json.loads((path / "run.json").read_text()) for path in (folder, tmp_path / "merged"))
    assert one["summary"] == other["summary"]


def test_several_runs_lined_up(saved, probe):
    run, folder = saved
    other = made(probe, seed=1, iou="annotated", threshold_iou=0.1)
    found = histograms([folder, other], names=["first", "second"])
    again = histograms([run, other])
    assert [one.run for one in found] == ["first", "second"]
    assert [one.categories for one in found] == [one.categories for one in again]
    assert (again[0].run, again[0].model, again[0].layer, again[0].units) == ("1", "Sequential", "1", 6)
    assert histograms([folder])[0].run == "whole"
    assert found[0].total("detectors") == run.summary()["interpretable"]
    assert found[1].total("unique_detectors_per_category") == other.summary()["unique_detectors_per_category"]
    rows = found[0].rows()
    assert [row["category"] for row in rows] == ["object", "part", "color"]
    assert rows[0]["run"] == "first"
    assert histograms([folder], threshold=0.9)[0].total("detectors") == 0
    text = histogram_table(found)
    assert text.count("first") == 2
    assert "one label per unit and category" in text
    line = next(line for line in text.splitlines() if line.startswith("second"))
    sums = [f"{row.detectors}/{row.unique_detectors}" for row in found[1].categories]
    total = f"{found[1].total('detectors')}/{found[1].total('unique_detectors')}"
    assert line.split() == ["second", "1", "6", total, *sums]


def test_runs_that_cannot_be_lined_up(saved, probe, tmp_path):
    run, folder = saved
    with pytest.raises(InputError, match="no runs to line up"):
        histograms([])
    with pytest.raises(InputError, match="1 names for 2 runs"):
        histograms([folder, run], names=["x"])
    with pytest.raises(InputError, match="differ in iou: all, annotated"):
        histograms([folder, made(probe)])
    lower = made(probe, iou="annotated")
    with pytest.raises(InputError, match=r"differ in threshold: 0.04, 0.1; give one threshold"):
        histograms([folder, lower])
    assert len(histograms([folder, lower], threshold=0.04)) == 2
    with pytest.raises(InputError, match="threshold_iou 2"):
        histograms([folder], threshold=2)
    with pytest.raises(RunError, match="not a complete run folder"):
        histograms([tmp_path])
    text = json.loads((folder / "run.json").read_text())
    for key, value, message in (("kind", "image", "not 'neurons'"), ("settings", {}, "keeps no labels per category")):
        (tmp_path / "run.json").write_text(json.dumps({**text, key: value}))
        with pytest.raises(RunError, match=message):
            histograms([tmp_path])


def test_relatedness_is_recorded(tmp_path):
    masks = np.zeros((3, 3, 8, 8), bool)
    masks[:, 0, 0], masks[:, 1, 5, :4], masks[:, 2, 7] = True, True, True  # a, b, c
    images = torch.zeros(3, 1, 8, 8)
    images[:, 0] = torch.from_numpy(masks[:, 0] | masks[:, 1]).float()
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.ones_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    path = tmp_path / "tree.csv"
    path.write_text("child,parent\na,x\nb,y\n")
    options = {"length": 2, "quantile": 0.3, "resolution": (8, 8), "shuffles": 0, "draws": 0, "search": "beam"}
    run, plain = (
        explain.dissect(net, "1", (images, masks, ["a", "b", "c"]), **options, related_by=by) for by in (path, None)
    )
    assert run.units[0].formula == plain.units[0].formula == "a OR b"
    assert (run.units[0].kind, plain.units[0].kind) == ("unrelated", "related")  # all share a category
    assert run.related.unknown == ("c",)
    run.save(tmp_path / "run")
    found = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["related"]
    assert found["unknown"] == ["c"]
    assert found["words"] == str(run.related)
    explain.render(tmp_path / "run")
    assert "1 of 3 names (33 %) are not in it" in (tmp_path / "run" / "report.html").read_text()


def test_bad_options_are_refused_before_any_pass(probe, tmp_path):
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError("the network was run")

    for options, kind, message in (
        ({"iou": "union"}, InputError, "unknown iou rule 'union'"),
        ({"threshold_iou": -0.1}, InputError, "threshold_iou -0.1"),
        ({"related_at": 0.5}, InputError, "needs related_by"),
        ({"related_by": tmp_path / "none.txt"}, DataError, "no file"),
    ):
        with pytest.raises(kind, match=message):
            explain.dissect(Never(), "1", probe, **options)
