"""Rules of IoU, labels per category and detectors, against counts by hand and pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.domains import detectors, formula_iou, iou_under

from explain.errors import InputError
from explain.neurons.cells import build_index, merge_indexes
from explain.neurons.counts import iou, upsample
from explain.neurons.detectors import histogram
from explain.neurons.dissection import (
    CategoryBest,
    Detecting,
    annotated_ious,
    best_of,
    concept_intersections,
    dissection_table,
    unit_tables,
)
from explain.neurons.domains import RULES, annotated_images, unit_domains
from explain.neurons.evidence.parts import Measured, count_images, image_pixels
from explain.neurons.explanations import UnitExplanation
from explain.neurons.finding import Finder, find
from explain.neurons.firing import Firing
from explain.neurons.formula import evaluate, leaves, parse
from explain.types import Concept, Labels

CONCEPTS = (
    Concept("dog", "object"),
    Concept("cat", "object"),
    Concept("leg", "part"),
    Concept("red", "color"),
    Concept("tail", "part"),
)
CATEGORY = [concept.category for concept in CONCEPTS]
NUMBERS = {concept.name: number for number, concept in enumerate(CONCEPTS)}
KINDS = ("object", "part", "color")


def measured_of(maps, ignored, annotated, values, thresholds):
    """Return `Measured`, and the same as nested lists: unit masks, labels and annotated categories."""
    size = maps.shape[2:]
    index = build_index(
        CONCEPTS,
        [
            Labels(one, ignored=skip, annotated=None if known is None else tuple(known))
            for one, skip, known in zip(maps, ignored, annotated, strict=True)
        ],
    )
    image, unit = np.nonzero(values.max((2, 3)) > thresholds)
    order = np.lexsort((image, unit))
    firing = Firing(unit[order], image[order], values[image[order], unit[order]])
    masks = np.stack(
        [
            (upsample(torch.from_numpy(values[:, u]), size) > float(thresholds[u])).numpy()
            for u in range(len(thresholds))
        ]
    )
    labels = [
        [
            [None if ignored[i, y, x] else {int(c) for c in maps[i, :, y, x] if c >= 0} for x in range(size[1])]
            for y in range(size[0])
        ]
        for i in range(len(maps))
    ]
    known = [set(KINDS) if one is None else set(one) for one in annotated]
    return Measured(index, firing, thresholds, image_pixels(index)), masks.tolist(), labels, known


def made(seed, images=7, units=4):
    """Random labels in which parts and colours are often missing, and units that fire in some images."""
    random = np.random.default_rng(seed)
    maps = np.full((images, 3, 6, 5), -1, np.int32)
    annotated = []
    for image in range(images):
        known = [kind for kind in KINDS if random.random() < 0.6]
        for layer, kind in enumerate(KINDS):
            own = [number for number, name in enumerate(CATEGORY) if name == kind]
            if (kind in known and random.random() < 0.8) or random.random() < 0.1:  # also where it was not announced
                drawn = random.choice([-1, -1, *own], (6, 5))
                maps[image, layer] = drawn
        annotated.append(None if random.random() < 0.1 else known)
    ignored = random.random((images, 6, 5)) < 0.15
    values = random.normal(size=(images, units, 3, 2)).astype(np.float32)
    thresholds = np.quantile(values, 0.85, axis=(0, 2, 3)).astype(np.float32)
    thresholds[-1] = 99  # never fires
    return measured_of(maps, ignored, annotated, values, thresholds)


def by_hand():
    """Three images of 2 x 2 pixels; one unit that fires on the upper row everywhere.

    image 0 (annotated for object and part): dog dog / leg leg. image 1 (object only): dog cat / - -.
    image 2 (object and part): - - / - leg.
    """
    maps = np.full((3, 2, 2, 2), -1, np.int32)
    maps[0, 0] = [[0, 0], [-1, -1]]
    maps[0, 1] = [[-1, -1], [2, 2]]
    maps[1, 0] = [[0, 1], [-1, -1]]
    maps[2, 1] = [[-1, -1], [-1, 2]]
    values = np.zeros((3, 1, 2, 2), np.float32)
    values[:, :, 0] = 1
    annotated = [("object", "part"), ("object",), ("object", "part")]
    return measured_of(maps, np.zeros((3, 2, 2), bool), annotated, values, np.array([0.5], np.float32))


def test_the_three_rules_by_hand():
    measured, *_ = by_hand()
    domains = unit_domains(measured)
    assert domains.categories == ("object", "part", "color")
    # 6 active pixels. Objects are known in all images and met in 0 and 1; parts known in 0 and 2, met in none.
    assert domains.all.tolist() == [6]
    assert domains.annotated.tolist() == [[6, 4, 0]]
    assert domains.overlapping.tolist() == [[4, 0, 0]]
    cells, counts = count_images(measured, np.ones(3, bool))
    for rule, union in (("all", 6), ("annotated", 6), ("netdissect-lite", 4)):
        ((row,),) = dissection_table(cells, counts, domains, iou=rule)
        assert (row.category, row.label, row.truth, row.intersect) == ("object", "dog", 3, 3)
        assert row.activation == union
        assert (row.iou, row.iou_annotated, row.iou_netdissect_lite) == (3 / 6, 3 / 6, 3 / 4)
        assert row.under(rule) == 3 / union


def test_parts_by_hand_differ_in_all_three():
    measured, *_ = by_hand()
    values = np.ones((3, 1, 2, 2), np.float32)
    values[2] = 0
    values[2, 0, 0] = 1  # in image 2 the upper row only: it meets no label there
    firing = Firing(np.zeros(3, np.int64), np.arange(3), values[:, 0])
    measured = replace(measured, firing=firing)
    domains = unit_domains(measured)
    cells, counts = count_images(measured, np.ones(3, bool))
    ((_, part),) = dissection_table(cells, counts, domains)
    assert (part.label, part.truth, part.intersect) == ("leg", 3, 2)
    # Of 10 active pixels 6 lie in images 0 and 2, and 4 in image 0, where a leg is met; 1 of 3 leg pixels is missed.
    assert (part.iou, part.iou_annotated, part.iou_netdissect_lite) == (2 / 11, 2 / 7, 2 / 5)


def test_the_rule_may_change_the_best_label():
    """A unit of 3 pixels in an image with parts, of 100 in others: a small, tight label or a large, loose one."""
    maps = np.full((6, 2, 4, 5), -1, np.int32)
    maps[0, 0].flat[:2] = 2  # leg: 2 pixels, both active
    maps[0, 1].flat[:10] = 4  # tail: 10 pixels, 3 active
    values = np.ones((6, 1, 4, 5), np.float32)
    values[0].flat[3:] = 0
    annotated = [("object", "part"), *[("object",)] * 5]
    measured, *_ = measured_of(maps, np.zeros((6, 4, 5), bool), annotated, values, np.array([0.5], np.float32))
    domains = unit_domains(measured)
    assert (domains.all.tolist(), domains.annotated.tolist()) == ([103], [[103, 3, 0]])
    cells, counts = count_images(measured, np.ones(6, bool))
    ((everywhere,),) = dissection_table(cells, counts, domains)
    ((annotated_only,),) = dissection_table(cells, counts, domains, iou="annotated")
    assert (everywhere.label, everywhere.iou) == ("tail", 3 / 110)
    assert (annotated_only.label, annotated_only.iou_annotated) == ("leg", 2 / 3)


def test_two_units_that_fire_in_the_same_single_image():
    measured, *_ = by_hand()
    values = np.zeros((2, 2, 2), np.float32)
    values[0, 0], values[1, 1] = 1, 1  # in image 1 one on the labelled upper row, the other on the lower row
    firing = Firing(np.arange(2), np.ones(2, np.int64), values)
    both = replace(measured, firing=firing, thresholds=np.array([0.5, 0.5], np.float32))
    domains = unit_domains(both)
    assert domains.all.tolist() == [2, 2]
    assert domains.annotated.tolist() == [[2, 0, 0], [2, 0, 0]]
    assert domains.overlapping.tolist() == [[2, 0, 0], [0, 0, 0]]


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_all_rules_pixel_by_pixel(seed):
    measured, masks, labels, known = made(seed)
    domains = unit_domains(measured)
    cells, counts = count_images(measured, np.ones(len(labels), bool))
    for rule in RULES:
        table = dissection_table(cells, counts, domains, iou=rule)
        for unit, rows in enumerate(table):
            for kind in KINDS:
                own = [number for number, name in enumerate(CATEGORY) if name == kind]
                literal = [iou_under(rule, masks[unit], labels, known, number, CATEGORY) for number in own]
                found = [row for row in rows if row.category == kind]
                if max(literal) == 0:
                    assert not found
                    continue
                (row,) = found
                assert row.under(rule) == max(literal)
                best = own[literal.index(max(literal))]
                assert row.label == CONCEPTS[best].name
                for other, value in zip(RULES, (row.iou, row.iou_annotated, row.iou_netdissect_lite), strict=True):
                    assert value == iou_under(other, masks[unit], labels, known, best, CATEGORY)
                assert row.iou <= row.iou_annotated <= row.iou_netdissect_lite
    assert (domains.all[:, None] >= domains.annotated).all()
    assert (domains.annotated >= domains.overlapping).all()


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_formulas_over_images_annotated_for_all_their_categories(seed):
    measured, masks, labels, known = made(seed)
    random = np.random.default_rng(seed)
    images = np.ones(len(labels), bool) if seed % 2 else random.random(len(labels)) < 0.7
    texts = ["dog OR leg", "red AND NOT cat", "tail", "(dog AND red) OR leg"]
    formulas = [parse(text) for text in texts[:-1]] + [None]
    cells, counts = count_images(measured, images)
    ious = []
    for unit, formula in enumerate(formulas):
        some = counts.select([unit])
        if formula is None:
            ious.append(0.0)
            continue
        ious.append(float(iou(cells, formula, some)[0]))
    found = annotated_ious(measured, formulas, ious, images)
    for unit, formula in enumerate(formulas):
        if formula is None:
            assert found[unit] is None
            continue

        def holds(at, formula=formula):
            return bool(evaluate(formula, lambda leaf: np.array(NUMBERS[leaf] in at)))

        kept = [part for part, keep in zip(zip(masks[unit], labels, known, strict=True), images, strict=True) if keep]
        kinds = {CATEGORY[NUMBERS[name]] for name in leaves(formula)}
        columns = zip(*kept, strict=True) if kept else ([], [], [])
        assert found[unit] == formula_iou(*columns, holds, kinds, CATEGORY)


def test_some_images_only():
    measured, masks, labels, known = made(11)
    images = np.arange(len(labels)) % 3 != 0
    part = [[one for one, keep in zip(rows, images, strict=True) if keep] for rows in (labels, known)]
    cells, counts = count_images(measured, images)
    results = find(Finder(length=2, search="beam"), cells, counts)
    tables = unit_tables(measured, cells, counts, results, Detecting("annotated"), images=images)
    for unit, table in enumerate(tables):
        own = [mask for mask, keep in zip(masks[unit], images, strict=True) if keep]
        for row in table.categories:
            number = NUMBERS[row.label]
            assert row.iou_annotated == iou_under("annotated", own, *part, number, CATEGORY)
            assert row.iou_netdissect_lite == iou_under("netdissect-lite", own, *part, number, CATEGORY)
        best = best_of(table.categories, "all")
        single = results[unit].by_length
        assert (best is None) == (not single)
    assert any(table.categories for table in tables)


def test_the_best_of_all_categories_is_the_searchs_single_concept():
    for seed in range(6):
        measured, *_ = made(seed)
        cells, counts = count_images(measured, np.ones(7, bool))
        results = find(Finder(length=1, search="beam"), cells, counts)
        for table, result in zip(unit_tables(measured, cells, counts, results, Detecting()), results, strict=True):
            best = best_of(table.categories, "all")
            assert (best.iou if best else 0.0) == result.iou


def test_units_in_blocks_and_in_any_number(monkeypatch):
    measured, *_ = made(4, units=5)
    whole = unit_domains(measured)
    monkeypatch.setattr("explain.neurons.domains._UNITS", 2)
    steps = []
    parts = unit_domains(measured, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(2, 5), (4, 5), (5, 5)]
    for name in ("all", "annotated", "overlapping"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()
    none = replace(measured, firing=measured.firing.select([]), thresholds=measured.thresholds[:0])
    assert unit_domains(none).of("annotated").shape == (0, 3)


def test_concepts_below_the_floor_are_not_used():
    measured, *_ = by_hand()
    domains = unit_domains(measured)
    cells, counts = count_images(measured, np.ones(3, bool))
    ((row,),) = dissection_table(cells, counts, domains, min_pixels=3)
    assert row.label == "dog"
    assert dissection_table(cells, counts, domains, min_pixels=4) == ((),)


def test_shared_pixels_of_every_concept():
    measured, masks, labels, _ = made(2)
    cells, counts = count_images(measured, np.ones(7, bool))
    found = concept_intersections(cells, counts)
    for unit in range(len(masks)):
        for concept in range(len(CONCEPTS)):
            literal = sum(
                bool(fires and at is not None and concept in at)
                for mask, picture in zip(masks[unit], labels, strict=True)
                for rows in zip(mask, picture, strict=True)
                for fires, at in zip(*rows, strict=True)
            )
            assert found[unit, concept] == literal


def test_images_that_show_a_label_count_as_annotated():
    labels = [
        Labels(np.full((1, 1, 1), 0, np.int32), annotated=("part",)),
        Labels(np.full((1, 1, 1), -1, np.int32), annotated=("color",)),
        Labels(np.full((1, 1, 1), -1, np.int32)),
        Labels(np.full((1, 1, 1), 0, np.int32), ignored=np.ones((1, 1), bool), annotated=()),
    ]
    index = build_index(CONCEPTS, labels)
    expected = [[True, True, False], [False, False, True], [True] * 3, [False] * 3]
    assert annotated_images(index).tolist() == expected
    silent = build_index(CONCEPTS, [replace(one, annotated=None) for one in labels])
    assert silent.annotated is None
    assert annotated_images(silent).all()
    merged = merge_indexes([build_index(CONCEPTS, labels[:2]), build_index(CONCEPTS, labels[2:3])])
    assert annotated_images(merged).tolist() == expected[:3]
    assert merge_indexes([silent, silent]).annotated is None


def unit_of(number, table):
    """Return a unit with labels ``category -> (label, IoU)``."""
    rows = tuple(CategoryBest(name, label, 1, 1, 1, value, value, value) for name, (label, value) in table.items())
    best = best_of(rows, "all")
    return UnitExplanation(
        unit=number, formula=None, iou=0, length=0, category="", threshold=0, active=0, precision=0, recall=0,
        ceiling=0, search="beam", bound=None, kind="none", label=best.label if best else None,
        score=best.iou if best else 0.0, label_category=best.category if best else "", best_by_length=(),
        runners_up=(), categories=rows,
    )  # fmt: skip


def test_two_counts_of_detectors_by_hand():
    units = [
        unit_of(0, {"object": ("dog", 0.2), "color": ("red", 0.1)}),
        unit_of(1, {"object": ("dog", 0.05), "color": ("red", 0.3)}),
        unit_of(2, {"object": ("cat", 0.04), "color": ("red", 0.01)}),  # 0.04 is not above 0.04
        unit_of(3, {}),
    ]
    rows = {row.category: row for row in histogram(units, ["object", "part", "color"])}
    assert list(rows) == ["object", "part", "color"]

    def facts(row):
        return (
            row.detectors,
            row.unique_detectors,
            row.detectors_per_category,
            row.unique_detectors_per_category,
        )

    assert facts(rows["object"]) == (1, 1, 2, 1)
    assert facts(rows["color"]) == (1, 1, 2, 1)
    assert facts(rows["part"]) == (0, 0, 0, 0)
    lower = {row.category: facts(row) for row in histogram(units, threshold=0.03)}
    assert lower["object"] == (2, 2, 3, 2)


TABLES = st.lists(
    st.dictionaries(
        st.sampled_from("abc"), st.tuples(st.sampled_from(["x", "y", "z"]), st.floats(0, 0.2, exclude_min=True))
    ),
    max_size=6,
)


@given(TABLES, st.floats(0, 0.2))
@settings(deadline=None)
def test_detectors_one_by_one(tables, threshold):
    units = [unit_of(number, {c: (c + label, iou) for c, (label, iou) in t.items()}) for number, t in enumerate(tables)]
    literal = detectors([{c: (c + label, iou) for c, (label, iou) in t.items()} for t in tables], threshold)
    found = {
        row.category: [
            row.detectors,
            row.unique_detectors,
            row.detectors_per_category,
            row.unique_detectors_per_category,
        ]
        for row in histogram(units, threshold=threshold)
    }
    assert {c: row for c, row in literal.items() if any(row)} == found


def test_bad_rules_are_refused():
    measured, *_ = by_hand()
    cells, counts = count_images(measured, np.ones(3, bool))
    domains = unit_domains(measured)
    with pytest.raises(InputError, match="unknown iou rule 'anotated'.*'annotated'"):
        Detecting("anotated")  # codespell:ignore
    with pytest.raises(InputError, match="threshold_iou 1: give an IoU"):
        Detecting(threshold=1)
    with pytest.raises(InputError, match="threshold_iou nan: give an IoU"):
        Detecting(threshold=float("nan"))
    with pytest.raises(InputError, match="unknown iou rule"):
        dissection_table(cells, counts, domains, iou="lite")
    with pytest.raises(InputError, match="do not belong to"):
        dissection_table(cells, counts.select([0, 0]), domains)
