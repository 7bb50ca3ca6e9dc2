"""The page of a neuron run: what Python computes for it. What it does in a browser is tested in tests/browser."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import report_runs
from hypothesis import given
from hypothesis import strategies as st

import explain.report
from explain.concepts import Concept
from explain.errors import RunError
from explain.neurons.asking import open_run
from explain.neurons.cell_table import Cells
from explain.neurons.sparse_counts import UnitCounts
from explain.opencv import outline_paths
from explain.report import render
from explain.report.formatting import linked
from explain.report.neurons_charts import activation_chart, beam_rows, joined_bins, length_rows
from explain.report.neurons_table import packed, varints
from explain.report.neurons_text import Texts, marked_pair
from explain.report.outlines import path_data

SCHEMA = Path(explain.report.__file__).parent / "schema" / "neurons.json"


@pytest.fixture
def run(tmp_path):
    return report_runs.neurons(tmp_path / "run")


# --- the table behind Ask ----------------------------------------------------------------------------------------


def literal_varints(values):
    found = []
    for value in values:
        while value >= 128:
            found.append(value % 128 + 128)
            value //= 128
        found.append(value)
    return bytes(found)


@given(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**53)), max_size=20))
def test_varints_are_seven_bits_a_byte(values):
    assert varints(np.array(values, np.int64)) == literal_varints(values)


def unpacked(text):
    """Read the table back, number by number."""
    head, _, body = gzip.decompress(base64.b64decode(text)).partition(b"\n")
    lengths, at = json.loads(head), 0

    def number():
        nonlocal at
        value, scale = 0, 1
        while True:
            byte, at = body[at], at + 1
            value, scale = value + byte % 128 * scale, scale * 128
            if byte < 128:
                return value

    total = lengths.pop("total")
    parts = {name: [number() for _ in range(length)] for name, length in lengths.items()}
    assert at == len(body)
    return total, parts


def rows(sizes, steps):
    steps, found = iter(steps), []
    for size in sizes:
        found.append(np.cumsum([next(steps) for _ in range(size)]).tolist())
    return found


def test_the_packed_table_is_the_saved_one(run):
    saved = open_run(run)
    total, parts = unpacked(packed(saved.cells, saved.counts))
    assert total == saved.cells.total
    assert parts["pixels"] == saved.cells.counts.tolist()
    ends, names = saved.cells.indptr, saved.cells.indices
    assert rows(parts["sets"], parts["concepts"]) == [names[a:b].tolist() for a, b in itertools.pairwise(ends)]
    ends, cells = saved.counts.indptr, saved.counts.cells
    assert rows(parts["units"], parts["cells"]) == [cells[a:b].tolist() for a, b in itertools.pairwise(ends)]
    assert parts["active"] == saved.counts.counts.tolist()


def test_an_empty_table_is_packed():
    cells = Cells((Concept("a", "object"),), np.array([3]), np.array([0, 0]), np.zeros(0, np.int32))
    none = np.zeros(0, np.int64)
    total, parts = unpacked(packed(cells, UnitCounts(np.zeros(2, np.int64), none, none)))
    assert (total, parts["pixels"], parts["sets"], parts["units"], parts["active"]) == (3, [3], [0], [0], [])


def test_a_table_beyond_its_budget_is_not_in_the_page_but_the_command_is(run, monkeypatch):
    assert "too large" not in render(run).read_text(encoding="utf-8")
    monkeypatch.setattr("explain.report.neurons.TABLE_BYTES", 100)
    html = render(run).read_text(encoding="utf-8")
    assert "table of cells is too large for a page of one file" in html
    assert f"explain ask {run} &#39;FORMULA&#39;" in html
    assert 'class="table"' not in html
    render(run, assets=True)
    assert (run / "report-assets" / "cells.js").read_text().startswith('receiveTable("')


# --- charts --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(1, 40))
def test_joined_bins_split_no_count(counts, most):
    counts = np.array(counts)
    edges = np.cumsum(np.random.default_rng(0).uniform(0.01, 1, len(counts) + 1))
    ends, sums = joined_bins(counts, edges, most)
    assert sum(sums) == counts.sum()
    assert len(ends) == (len(sums) + 1 if sums else 0)
    for low, high, count in zip(ends, ends[1:], sums, strict=False):
        assert count == counts[(edges[:-1] >= low) & (edges[1:] <= high)].sum()
    widths = np.diff(ends)
    if sums:
        assert (widths[:-1] >= (ends[-1] - ends[0]) / most * (1 - 1e-6)).all()


def test_a_histogram_marks_the_threshold():
    chart = activation_chart([0.0, 1.0, 2.0, 4.0], [5, 0, 1], 3.0)
    assert chart["total"] == 6
    assert chart["mark"] == pytest.approx(0.75 * 280)
    assert chart["path"].count("M") == 2  # nothing is drawn where nothing is
    assert activation_chart([], [], 3.0) is None
    assert activation_chart([0.0, 1.0], [1], 9.0)["mark"] == 280


def test_mean_iou_by_length_beside_held_out_and_chance():
    evidence = {"heldout_by_length": [0.1, 0.15]}
    units = [
        {
            "by_length": [{"length": 1, "iou": 0.2}, {"length": 2, "iou": 0.4}],
            "evidence": evidence,
            "chance_mean": 0.05,
        },
        {"by_length": [], "evidence": {"heldout_by_length": []}, "chance_mean": 0.03},
    ]
    first, last = length_rows(units, 0.3)
    assert (first["iou"], first["heldout"], first["chance"], first["good"]) == (0.1, 0.05, None, 0)
    assert (last["iou"], last["heldout"], last["chance"], last["good"]) == (0.2, 0.075, 0.04, 1)
    assert last["width_iou"] == 100


def test_beam_against_optimal_is_told():
    units = [
        {"formula": "a", "search": "optimal", "iou": 0.2, "beam_iou": 0.1, "gap": 0.0},
        {"formula": "a", "search": "optimal", "iou": 0.2, "beam_iou": 0.2, "gap": 0.0},
        {"formula": None, "search": "optimal", "iou": 0.0, "beam_iou": None, "gap": None},
    ]
    summary = {"certified": 2, "stopped": 0, "beam_below": 1, "beam_searched": 2, "beam_gain": 1.0}
    told = dict(beam_rows(summary, units))
    assert told["formulas found by optimal search"] == "2"
    assert told["units where the beam alone found less"] == "1 of 2"
    assert told["there, by how much on average"] == "100.0 % of its IoU"
    assert beam_rows({}, units) == []


# --- the page ------------------------------------------------------------------------------------------------------


def test_concepts_of_a_formula_are_links_and_stay_escaped():
    text = '("<b>" OR sky) AND NOT "say \\"hi\\""'
    html = linked(text, lambda name: {"<b>": "#1", 'say "hi"': '#"2'}.get(name))
    assert '<a href="#1">"&lt;b&gt;"</a>' in html
    assert " sky)" in html
    assert '<a href="#&#34;2">' in html
    assert "<a" not in linked(None, lambda name: "#1")
    one = linked("sky OR NEIGHBORS(hyp:dog) AND (sky)", lambda name: "#n" if name == "NEIGHBORS(hyp:dog)" else None)
    assert '<a href="#n">NEIGHBORS(hyp:dog)</a>' in one


def test_each_unit_shows_all_kinds_of_images(run):
    html = render(run).read_text(encoding="utf-8")
    units = json.loads((run / "run.json").read_text(encoding="utf-8"))["units"]
    assert len(re.findall(r'<svg class="shot', html)) == sum(
        len(unit["examples"]) + sum(map(len, unit.get("also", {}).values())) for unit in units
    )
    for heading in ("Drawn at random", "False alarms", "Misses", "minor negation"):
        assert html.count(heading) >= 5
    assert "silent" in html
    assert html.count('<path class="column"') == 6


def test_a_run_of_an_older_version_still_has_its_page(run):
    value = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for unit in value["units"]:
        unit.pop("also", None)
    (run / "run.json").write_text(json.dumps(value), encoding="utf-8")
    (run / "arrays" / "histograms.npz").unlink()
    html = render(run).read_text(encoding="utf-8")
    assert "Drawn at random" not in html
    assert 'class="column"' not in html
    assert json.loads((run / "report.json").read_text())["units"][0]["histogram"] is None


def test_sentence_pairs_stand_as_text(run):
    value = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for number, image in enumerate(value["images"]):
        image |= {
            "file": None,
            "premise": {"tokens": ["a", "<b>", f"p{number}"]},
            "hypothesis": {"tokens": ["h"]},
            "gold": "neutral",
            "predicted": "entailment",
        }
    value["domain"] = "text"
    value["units"][1] |= {"also": {}, "more": {"hits": [2], "misses": [3, 4], "false_alarms": []}}
    (run / "run.json").write_text(json.dumps(value), encoding="utf-8")
    html = render(run).read_text(encoding="utf-8")
    article = html[html.index('id="unit-1"') :].partition("</article>")[0]
    for text in (
        "Pairs with the highest activation",
        "It fires and the formula holds",
        "Misses: the formula holds and it does not fire",
        "a &lt;b&gt; p2",
        "a &lt;b&gt; p4",
    ):
        assert text in article
    assert "label neutral, answer entailment" in article
    assert "False alarms" not in article
    assert '<svg class="shot' not in html


def test_the_folder_form_holds_every_unit_once(run, monkeypatch):
    monkeypatch.setattr("explain.report.neurons.PAGE_UNITS", 4)
    page = render(run, assets=True)
    files = sorted(path.name for path in (run / "report-assets").iterdir())
    assert files == ["cells.js", "units-000.html", "units-001.html"]
    index = page.read_text(encoding="utf-8")
    links = re.findall(r'<th scope="row" class="n"><a href="([^"]*)">', index)
    assert len(links) == 6
    for link in links:
        file, _, anchor = link.partition("#")
        assert f'id="{anchor}"' in (run / file).read_text(encoding="utf-8")
    assert "<article" not in index
    for name in files[1:]:
        html = (run / "report-assets" / name).read_text(encoding="utf-8")
        for target in re.findall(r'url\("([^"]*)"\)', html):
            assert (run / "report-assets" / target).is_file()
        for target in re.findall(r'href="\.\./report\.html#([^"]*)"', html):
            assert f'id="{target}"' in index
        assert "data:image" not in html
    render(run)  # one file again: what it does not need is gone
    assert not (run / "report-assets").exists()


def test_a_run_too_large_for_one_file_is_written_as_a_folder(run, monkeypatch):
    monkeypatch.setattr("explain.report.rendering.SPLIT_BYTES", 1000)
    render(run)
    assert (run / "report-assets").is_dir()
    render(run, assets=False)
    assert not (run / "report-assets").exists()


def test_a_picture_outside_the_run_is_refused_in_the_folder_form_too(run):
    value = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for image in value["images"]:
        image["file"] = "../x"
    (run / "run.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(RunError, match="outside the run"):
        render(run, assets=True)


def test_effects_stand_with_their_unit(run):
    facts = {
        "unit": 2,
        "formula": "dog",
        "images": 7,
        "accuracy": {"value": 57.1, "low": 25.0, "high": 84.2, "n": 7},
        "by_area": [[3, 1], [4, 3]],
        "most": [[4, "<b>cat</b>", 0.5], [1, "dog", -0.25]],
        "sources": {"weight": {"contributors": [[12, 0.5]], "inhibitors": []}},
        "odd": {"deep": {"deeper": {}}},
        "none": None,
    }
    inner = run / "effects" / "accuracy"
    inner.mkdir(parents=True)
    value = {
        "schema": 1, "kind": "effects", "job": "other", "manifest": report_runs.manifest("effects"), "layer": "layer4",
        "notes": [], "warnings": [], "tables": [], "pictures": [], "findings": {"units": {"2": facts}},
    }  # fmt: skip
    (inner / "effects.json").write_text(json.dumps(value), encoding="utf-8")
    html = render(run).read_text(encoding="utf-8")
    article = html[html.index('id="unit-2"') :].partition("</article>")[0]
    for text in ("57.100 [25.000, 84.200]", "1 of 3, 3 of 4", "&lt;b&gt;cat&lt;/b&gt; +0.500, dog \u22120.250"):
        assert f"<bdi>{text}</bdi>" in article
    assert "<bdi>sources, weight</bdi></td><td><bdi>contributors 12 (+0.500)</bdi>" in article
    assert html.count("Effects on predictions") == 1
    data = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert {"job": "accuracy", "what": "images where it fires", "text": "7"} in data["units"][2]["effects"]
    assert faults(data, json.loads(SCHEMA.read_text(encoding="utf-8"))) == []


# --- sentence pairs ------------------------------------------------------------------------------------------------

PAIR = {
    "name": "0",
    "file": None,
    "gold": "neutral",
    "predicted": "entailment",
    "premise": {"tokens": ["A", "Dog", "<b>", "sleeps"], "tags": ["DT", "NN", "SYM", "VBZ"]},
    "hypothesis": {"tokens": ["a", "cat", "sleeps", "now"], "words": ["a", "cat", "sleep", "now"]},
}
TEXTS = Texts(
    {"dog": ["puppy"], "lion": ["cat", "tiger"]},
    {
        "pre:dog": "premise word",
        "pre:tag:VBZ": "premise tag",
        "hyp:sleep": "hypothesis word",
        "NEIGHBORS(hyp:lion)": "hypothesis neighbors",
        "overlap:25": "overlap",
    },
    {"pre:dog": [0.5, -0.25, 0.0]},
)


@pytest.mark.parametrize(
    ("formula", "premise", "hypothesis"),
    [
        ("pre:dog", [("A", ""), ("Dog", "yes"), ("<b> sleeps", "")], [("a cat sleeps now", "")]),
        ("NOT pre:tag:VBZ", [("A Dog <b>", ""), ("sleeps", "not")], [("a cat sleeps now", "")]),
        ("hyp:sleep", [("A Dog <b> sleeps", "")], [("a cat", ""), ("sleeps", "yes"), ("now", "")]),  # by its lemma
        ("NOT (NOT NEIGHBORS(hyp:lion))", [("A Dog <b> sleeps", "")], [("a", ""), ("cat", "yes"), ("sleeps now", "")]),
        ("pre:dog AND NOT pre:dog", [("A", ""), ("Dog", "yes"), ("<b> sleeps", "")], [("a cat sleeps now", "")]),
        ("overlap:25", [("A Dog <b> sleeps", "")], [("a cat sleeps now", "")]),  # "a" is none, "sleep" is another word
        (None, [("A Dog <b> sleeps", "")], [("a cat sleeps now", "")]),
    ],
)
def test_words_of_a_formula_are_marked(formula, premise, hypothesis):
    found = marked_pair(PAIR, formula, TEXTS)
    assert (found["premise"], found["hypothesis"]) == (premise, hypothesis)


def test_shared_words_are_marked_for_overlap():
    pair = {**PAIR, "hypothesis": {"tokens": ["sleeps", "A", "!"]}}
    found = marked_pair(pair, "NOT overlap:25", TEXTS)
    assert found["premise"] == [("A Dog <b>", ""), ("sleeps", "not")]
    assert found["hypothesis"] == [("sleeps", "not"), ("A !", "")]


def test_weights_pmi_confusion_and_flips_of_a_text_run(run):
    value = json.loads((run / "run.json").read_text(encoding="utf-8"))
    names = [concept["name"] for concept in value["concepts"]]
    value |= {"domain": "text", "text": {"accuracy": 0.625, "neighbors": {}}}
    value["units"][1] |= {
        "formula": "dog AND NOT sky",
        "also": {},
        "more": {"weights": {"entail": 0.5, "contra": -2.0}},
    }
    (run / "run.json").write_text(json.dumps(value), encoding="utf-8")
    there = {"pairs": 40, "accuracy": 0.7, "label_entropy": 1.5, "prediction_entropy": 0.25}
    gain = {"value": 9.0, "low": 4.0, "high": 14.0, "n": 60}
    flip = {
        "unit": 1, "edit": "insert", "side": "hypothesis", "words": ["<b>"], "label": "contradiction", "toward": True,
        "flips": {"value": 12.0, "low": 5.0, "high": 20.0, "n": 60}, "control": 3.0, "gain": gain,
    }  # fmt: skip
    jobs = {
        "pmi": {},
        "confusion": {"units": {"1": {"confusion": there}}},
        "flips": {"rows": [flip], "units": {"1": [0]}},
    }
    for job, findings in jobs.items():
        (run / "effects" / job / "arrays").mkdir(parents=True)
        facts = {
            "schema": 1, "kind": "effects", "job": job, "manifest": report_runs.manifest("effects"), "layer": "act",
            "notes": [], "warnings": [], "tables": [], "pictures": [], "findings": findings,
        }  # fmt: skip
        (run / "effects" / job / "effects.json").write_text(json.dumps(facts), encoding="utf-8")
    numbers = [names.index("sky"), names.index("dog")]
    values = np.array([[0.5, -0.25, 0.0], [-1.0, 2.0, 3.0]])
    np.savez(run / "effects" / "pmi" / "arrays" / "records.npz", pmi=values, concepts=np.array(numbers))
    html = render(run).read_text(encoding="utf-8")
    article = html[html.index('id="unit-1"') :].partition("</article>")[0]
    for text in (
        "entailment +0.500, contradiction \u22122.000",
        '<bdi>sky</bdi></th><td class="n">+0.50</td><td class="n">\u22120.25</td><td class="n">0.00</td>',
        "<bdi>percent right there</bdi></td><td><bdi>70.0</bdi>",
        "1.50 and 0.25 bits",
        "insert “&lt;b&gt;” into the hypothesis",
        "12.0 % of 60 answers go to contradiction; with control words 3.0 %: +9.0 [+4.0, +14.0] points",
        "active pairs",
    ):
        assert text in article
    assert "of the network’s answers are right" in html
    assert "held-out images" not in html
    assert "<script>alert" not in html


# --- its data ------------------------------------------------------------------------------------------------------

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}


def faults(value, schema, at="$"):
    """Say where a value does not match a schema, as far as ours go."""
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    fits = any(isinstance(value, bool) if kind == "boolean" else
               isinstance(value, TYPES[kind]) and not isinstance(value, bool) for kind in kinds)  # fmt: skip
    if kinds and not fits:
        return [f"{at} is {type(value).__name__}, not {kinds}"]
    found = [f"{at} is not {schema['const']!r}"] if schema.get("const", value) != value else []
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{at} is {value}")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{at} lacks {key}" for key in schema.get("required", []) if key not in value]
        if schema.get("additionalProperties") is False:
            found += [f"{at} has {key}" for key in value if key not in known]
        found += [text for key, one in value.items() if key in known for text in faults(one, known[key], f"{at}.{key}")]
    if isinstance(value, list) and "items" in schema:
        found += [text for i, one in enumerate(value) for text in faults(one, schema["items"], f"{at}[{i}]")]
    return found


def test_the_data_follow_their_schema(run):
    render(run)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    data = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert faults(data, schema) == []
    for broken in (
        {**data, "units": [{**data["units"][0], "iou": 1.5}]},
        {**data, "units": [{**data["units"][0], "iou": "0.5"}]},
        {**data, "new": 1},
        {key: value for key, value in data.items() if key != "concepts"},
        {**data, "schema": 2},
    ):
        assert len(faults(broken, schema)) == 1


def test_the_page_holds_the_same_data(run):
    html = render(run).read_text(encoding="utf-8")
    (inside,) = re.findall(r'<script type="application/json" class="data">(.*?)</script>', html, re.DOTALL)
    assert "<" not in inside
    assert json.loads(inside) == json.loads((run / "report.json").read_text(encoding="utf-8"))


def test_the_schema_is_the_one_that_was_released():
    """Another form of the data is another schema: raise its number, and then this snapshot."""
    found = []

    def walk(schema, at):
        for key, one in schema.get("properties", {}).items():
            found.append(f"{at}.{key}")
            walk(one, f"{at}.{key}")
        if "items" in schema:
            walk(schema["items"], f"{at}[]")

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    walk(schema, "")
    assert schema["properties"]["schema"] == {
        "description": "Raised when a reader of the old form would go wrong.",
        "const": 1,
    }
    assert " ".join(found) == SNAPSHOT


SNAPSHOT = (
    ".schema .kind .title .manifest .layer .grid .resolution .images .pixels .cells .settings .summary "
    ".by_length .by_length[].length .by_length[].iou .by_length[].heldout .by_length[].chance "
    ".by_length[].good .concepts .concepts[].number .concepts[].name .concepts[].category .concepts[].pixels "
    ".concepts[].units .units .units[].key .units[].unit .units[].range .units[].lower .units[].upper "
    ".units[].formula .units[].iou .units[].length .units[].category .units[].label .units[].label_category "
    ".units[].score .units[].precision .units[].recall .units[].active .units[].threshold .units[].ceiling "
    ".units[].search .units[].bound .units[].gap .units[].certified .units[].beam_iou .units[].kind "
    ".units[].iou_annotated .units[].iou_heldout .units[].heldout_length .units[].p_value .units[].q_value "
    ".units[].chance_mean .units[].chance_95 .units[].low .units[].high .units[].win_probability .units[].f1 "
    ".units[].correlation .units[].by_length .units[].by_length[].length .units[].by_length[].formula "
    ".units[].by_length[].iou .units[].runners_up .units[].runners_up[].length .units[].runners_up[].formula "
    ".units[].runners_up[].iou .units[].negation .units[].histogram .units[].histogram.edges "
    ".units[].histogram.counts .units[].effects .units[].effects[].job .units[].effects[].what "
    ".units[].effects[].text .warnings"
)


def test_scripts_stay_small():
    """At most 900 lines of plain JavaScript in all."""
    scripts = sorted((Path(explain.report.__file__).parent / "templates").glob("*.js"))
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in scripts) <= 900


def test_path_data_of_nothing():
    assert path_data(np.zeros((4, 4), bool)) == ""


def lines_of(data):
    """Return the corners of each closed path, whether of steps or of lines."""
    for x, y, steps in re.findall(r"M(\d+) (\d+)([^z]*)z", data):
        points = [(int(x), int(y))]
        for kind, numbers in re.findall(r"([hvl])([^hvl]*)", steps):
            values = [int(one) for one in re.findall(r"-?\d+", numbers)]
            moves = zip(values[::2], values[1::2], strict=True) if kind == "l" else [(values[0], 0)]
            for move in moves:
                points.append(tuple(np.add(points[-1], move[::-1] if kind == "v" else move)))
        yield np.array(points)


def distance(point, path):
    """Return how far a point is from a closed path of straight lines."""
    begin, end = path, np.roll(path, -1, 0)
    along = end - begin
    share = ((point - begin) * along).sum(1) / np.maximum((along**2).sum(1), 1)
    return np.hypot(*(begin + np.clip(share, 0, 1)[:, None] * along - point).T).min()


def test_outlines_of_fine_masks_are_short_and_within_a_pixel():
    y, x = np.mgrid[:112, :112]
    mask = (x - 50) ** 2 + (y - 60) ** 2 < (30 + 5 * np.sin(6 * np.arctan2(y - 60, x - 50))) ** 2
    mask &= (x - 50) ** 2 + (y - 60) ** 2 > 100
    mask[2:5, 3:9] = True  # what is small stays as it is
    exact, found = outline_paths(mask), list(lines_of(path_data(mask)))
    assert len(found) == len(exact) == 3
    for path, short in zip(exact, found, strict=True):
        assert max(distance(corner, short) for corner in path) <= 1
    assert sum(map(len, found)) < sum(map(len, exact)) / 3
    assert any(np.array_equal(path, short) and len(path) == 4 for path, short in zip(exact, found, strict=True))
    filled = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(filled, [path.astype(np.int32) for path in found], 1)
    assert (filled.astype(bool) & mask).sum() / (filled.astype(bool) | mask).sum() > 0.93


def test_a_mask_that_would_lose_its_area_keeps_its_steps():
    mask = np.zeros((112, 112), bool)
    mask[np.arange(10, 90), np.arange(10, 90)] = True  # two lines would lie on each other
    assert all(np.array_equal(a, b) for a, b in zip(outline_paths(mask), lines_of(path_data(mask)), strict=True))
