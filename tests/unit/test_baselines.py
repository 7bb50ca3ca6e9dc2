"""Baselines that need no network: published figures from metadata alone, and literal counts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from oracles import localization as oracle

from explain.data import open_localization
from explain.localization import find_protocol
from explain.localization.baselines import BLIND, blind_map, evaluate_blind, score_blind
from explain.localization.metrics import centre_boxes
from explain.localization.planes import thresholds_of
from explain.localization.protocols import protocol_names
from explain.localization.scoring import Frame, frame_of
from explain.nets import Preprocess
from explain.types import LocalizationSet

PACK = Path(__file__).parents[3] / "shared" / "data" / "wsol-metadata"
needs_pack = pytest.mark.skipif(not PACK.is_dir(), reason="no data pack wsol-metadata beside the checkout")
TAUS = np.arange(0, 1, 0.001)
LEVELS = (0.3, 0.5, 0.7)


@cache
def opened(name):
    return open_localization(PACK / name)


@cache
def published(name):
    """The numbers of the text files, in the grid of 224: (image of each box, boxes), and how many images there are."""
    folder = PACK / name
    ids = (folder / "image_ids.txt").read_text().split("\n")
    number = {one: place for place, one in enumerate(ids)}
    sizes = {}
    for line in (folder / "image_sizes.txt").read_text().split("\n"):
        one, width, height = line.split(",")
        sizes[one] = float(width), float(height)
    owners, boxes = [], []
    for line in (folder / "localization.txt").read_text().split("\n"):
        one, *edges = line.split(",")
        width, height = sizes[one]
        owners.append(number[one])
        boxes.append([int(float(e) * 224.0 / s) for e, s in zip(edges, (width, height) * 2, strict=True)])
    return np.array(owners), np.array(boxes), len(ids)


def gaussian(middle, spread=75.0):
    axis = (np.arange(224) - middle) ** 2
    return oracle.minmax(np.exp(-(axis[:, None] + axis) / (2 * spread**2)))


def ious_of(box, boxes):
    """The inclusive IoU of one box with many."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + 1
    shared = np.maximum(sides, 0).prod(1)
    return shared / (np.prod(box[2:] - box[:2] + 1) + (boxes[:, 2:] - boxes[:, :2] + 1).prod(1) - shared)


def accuracies(plane, name, *, every=False, first=False, step=1):
    """The reference's accuracy at each threshold, (levels, thresholds), of one map for all images."""
    owners, boxes, n = published(name)
    kept = owners % step == 0
    if first:
        kept &= np.isin(np.arange(len(owners)), np.unique(owners, return_index=True)[1])
    owners, boxes, n = owners[kept] // step, boxes[kept], len(range(0, n, step))
    eight, known, found = oracle.levels(plane), {}, np.zeros((3, len(TAUS)))
    for place, tau in enumerate(TAUS):
        shown = tuple(sorted(oracle.wsol_boxes(eight, tau, every=every)))
        if shown not in known:
            best = np.zeros(n)
            for box in shown:
                np.maximum.at(best, owners, ious_of(np.array(box), boxes))
            known[shown] = [100 * (best >= level).mean() for level in LEVELS]
        found[:, place] = known[shown]
    return found


def means(kind, data, rules):
    """The package's accuracy at each of its thresholds, without intervals, which take most of the time."""
    shown, hits = Preprocess(size=(224, 224)), 0
    for index, size in enumerate(data.sizes):
        frame = frame_of(rules, size, shown.geometry(size), (224, 224))
        ious = score_blind(kind, frame, rules, data, index)["ious"]
        hits = hits + np.stack([ious >= level for level in LEVELS])
    return 100 * hits / len(data)


def near(values, wanted):
    return np.round(values, 2).tolist() == pytest.approx(wanted, abs=0.0051)


# ------------------------------------------------------------------------------------------------- published figures


@needs_pack
def test_the_literal_rows():
    """The published centre row is the older score with each image's first box: 52.5 and 59.7."""
    any_box = accuracies(gaussian(112), "ILSVRC/test").max(1)
    assert near(any_box, [76.82, 54.08, 29.44])
    assert near(any_box.mean(), 53.45)
    first = accuracies(gaussian(112), "ILSVRC/test", first=True).max(1)
    assert near(first, [73.50, 52.52, 28.79])
    birds = accuracies(gaussian(112), "CUB/test")
    assert near(birds.max(1), [93.86, 59.72, 17.33])
    assert near(birds.max(1).mean(), 56.97)
    assert near(accuracies(gaussian(112, 40), "CUB/test").max(1), [93.86, 59.72, 17.33])


@needs_pack
@pytest.mark.slow
def test_the_centre_of_all_birds():
    found = means("centre", opened("CUB/test"), find_protocol("maxboxacc"))
    assert near(found.max(1), [93.86, 59.72, 17.33])
    assert near(found.max(1).mean(), 56.97)
    wanted = accuracies(gaussian(112), "CUB/test")
    columns = (TAUS * 255).astype(int)
    assert found[:, columns].tolist() == pytest.approx(wanted)


@needs_pack
@pytest.mark.slow
def test_the_rings_around_all_birds():
    """A map that knows no image, above every method of the published table, because extra boxes cost nothing."""
    rings = blind_map("rings")
    levels = (rings * 255).astype(np.uint8)
    assert len(set(oracle.contours_of(levels, 51, every=True))) == 28
    found = means("rings", opened("CUB/test"), find_protocol("maxboxacc-v2"))
    assert near(found[:, 0], [97.10, 78.29, 34.55])
    assert near(found.max(1).mean(), 69.98)
    assert found[:, 51].tolist() == pytest.approx(accuracies(rings, "CUB/test", every=True)[:, 200].tolist())


CASES = [
    pytest.param("ILSVRC/test", "centre", "maxboxacc", 25, marks=pytest.mark.slow),
    ("ILSVRC/test", "centre", "maxboxacc", 200),
    ("ILSVRC/test", "centre", "maxboxacc-v2", 400),
    ("ILSVRC/test", "full", "maxboxacc", 400),
    ("ILSVRC/test", "rings", "maxboxacc-v2", 400),
    ("CUB/test", "centre", "maxboxacc", 40),
    ("CUB/test", "rings", "maxboxacc-v2", 40),
]


@needs_pack
@pytest.mark.parametrize(("split", "kind", "name", "step"), CASES)
def test_some_of_the_images(split, kind, name, step):
    """Against literal counts at every threshold; of several boxes all, or the first."""
    plane = gaussian(112) if kind == "centre" else blind_map(kind)
    few = opened(split).select(range(0, len(opened(split)), step))
    columns = (TAUS * 255).astype(int)
    for policy in ("any", "first") if kind == "centre" else ("any",):
        rules = replace(find_protocol(name), instances=policy)
        wanted = accuracies(plane, split, every=name == "maxboxacc-v2", first=policy == "first", step=step)
        assert means(kind, few, rules)[:, columns] == pytest.approx(wanted)


@needs_pack
def test_the_full_image():
    """41.11 and 18.95 on all images."""
    owners, boxes, n = published("CUB/test")
    ious = ious_of(np.array([0, 0, 223, 223]), boxes)
    assert near([100 * (ious >= level).mean() for level in LEVELS], [53.95, 18.95, 4.56])
    data = opened("CUB/test").select(range(0, 5794, 10))
    found = means("full", data, find_protocol("maxboxacc"))
    wanted = [100 * (ious[::10] >= level).mean() for level in LEVELS]
    assert found.tolist() == pytest.approx(np.repeat(np.array(wanted)[:, None], 255, 1))


@needs_pack
@pytest.mark.parametrize("name", ["CUB/test", "ILSVRC/test"])
@pytest.mark.parametrize("protocol", [one for one in protocol_names() if one != "pxap"])
def test_the_truth_scores_a_hundred(name, protocol):
    """Less would be an error of coordinates; boxes outside of a crop cannot be found."""
    data, rules = opened(name), find_protocol(protocol)
    shown = Preprocess(size=(224, 224), crop_from=(256, 256) if rules.crop else None)
    right = []
    for index in range(0, len(data), 500 if name == "ILSVRC/test" else 60):
        frame = frame_of(rules, data.sizes[index], shown.geometry(data.sizes[index]), (224, 224))
        record = score_blind("truth", frame, rules, data, index)
        right.append(bool(record["ious"].min() >= 0.5 and record["pointing"] and record["shown"] == 1))
    assert np.mean(right) >= (0.98 if protocol == "bas" else 1)


# ------------------------------------------------------------------------------------------------------- without files


def made(boxes, sizes, **more):
    return LocalizationSet(
        name="made",
        images=[None] * len(sizes),
        classes=tuple(more.pop("classes", [0] * len(sizes))),
        boxes=tuple(np.array(rows, float).reshape(-1, 4) for rows in boxes),
        sizes=tuple(sizes),
        names=tuple(map(str, range(len(sizes)))),
        hash="",
        **more,
    )


def test_maps():
    assert set(BLIND) == {"centre", "full", "rings", "truth"}
    assert oracle.minmax(blind_map("centre")) == pytest.approx(gaussian(112), abs=1e-12)
    assert (blind_map("full", (3, 5)) == 1).all()
    rings = np.zeros((224, 224))
    for reach in range(2, 111, 4):
        cv2.rectangle(rings, (112 - reach, 112 - reach), (111 + reach, 111 + reach), 1.0, 1)
    assert np.array_equal(blind_map("rings"), rings)
    y, x = np.unravel_index(blind_map("centre", (30, 50)).argmax(), (30, 50))
    assert (y, x) == (15, 25)


def test_the_centre_in_pixels_of_the_image():
    """Where shares of the maximum are taken as they are, its boxes are known: all centred, of the image's shape."""
    rules, size = find_protocol("cam2016"), (60, 100)
    boxes = centre_boxes(size, thresholds_of(rules))
    spread = 0.5 * np.sqrt(0.5) / np.sqrt(2 * np.log(5))
    for threshold, (x0, y0, x1, y1) in zip(thresholds_of(rules), boxes, strict=True):
        reach = min(0.5, spread * np.sqrt(-2 * np.log(threshold))) if threshold else 0.5
        assert (x0, x1) == pytest.approx((50 - 100 * reach, 50 + 100 * reach))
        assert (y0, y1) == pytest.approx((30 - 60 * reach, 30 + 60 * reach))
    data = made([[[10, 10, 60, 50]]], [size])
    record = score_blind("centre", Frame(size, (1.0, 1.0), (0.0, 0.0)), rules, data, 0)
    assert record["ious"] == pytest.approx([oracle.overlap(box, (10, 10, 60, 50), 0) for box in boxes])
    assert record["box"] == pytest.approx(boxes[20])
    assert np.prod(boxes[20][2:] - boxes[20][:2]) == pytest.approx(0.5 * 60 * 100)


@pytest.mark.parametrize("name", ["cam2016", "gradcam", "cam2016-code", "maxboxacc", "ts-cam", "bas"])
@pytest.mark.parametrize("kind", ["centre", "full", "rings"])
def test_scores_of_made_boxes(kind, name):
    """The map of the frame, or of 224 pixels scaled to the image, by the protocol's rule."""
    rng, rules = np.random.default_rng(0), find_protocol(name)
    sizes = [(100, 150), (224, 224), (300, 120)]
    boxes = []
    for height, width in sizes:
        x0, y0 = int(rng.integers(0, width // 3)), int(rng.integers(0, height // 3))
        boxes.append([[x0, y0, int(rng.integers(x0 + 20, width)), int(rng.integers(y0 + 20, height))]])
    data = made(boxes, sizes)
    side = (64, 64)
    ((_, records),) = evaluate_blind(kind, data, [rules], input_size=side).values()
    original = rules.frame == "original"
    grid = (224, 224) if original else side
    raw = blind_map(kind, grid)
    for number, (size, ((x0, y0, x1, y1),)) in enumerate(zip(sizes, boxes, strict=True)):
        frame = size if original else side
        scale = np.array([frame[1] / grid[1], frame[0] / grid[0]] * 2)
        row = (x0, y0, x1 - 1, y1 - 1)
        if name in ("maxboxacc", "ts-cam"):
            plane = raw if kind == "full" else oracle.minmax(raw)
            truth = oracle.wsol_truth(row, size, side)
            box = oracle.tscam_box(oracle.levels(plane), 0.2)
            wanted = np.minimum(box, 63) if name == "maxboxacc" else box
        elif name == "bas":
            plane = (raw if kind == "full" else oracle.minmax(raw)).astype(np.float32)
            truth, wanted = oracle.bas_truth(row, size, (73, 73), side), oracle.bas_box(plane, np.float32(0.5))
        elif name == "cam2016-code":
            found = oracle.released_boxes(oracle.jpeg(raw / raw.max()))
            truth, wanted = row, np.array(found[0]) * scale if found else None
        elif kind == "centre":
            truth = (x0, y0, x1, y1)
            wanted = centre_boxes(size, np.array([rules.threshold]))[0]
        else:
            truth, wanted = (x0, y0, x1, y1), np.array(oracle.paper_box(raw.astype(np.float32), 0.2)) * scale
        plus = 0 if rules.edges == "half-open" else 1
        iou = 0 if wanted is None else oracle.overlap(wanted, truth, plus)
        assert records["at_fixed"][number, 0] == pytest.approx(iou, abs=1e-9)


def test_pixels_of_baselines():
    """PxAP of a flat map is the object's share; the filled mask is a hundred."""
    rng = np.random.default_rng(1)
    marks = rng.choice([0, 0, 1, 255], (3, 16, 16)).astype(np.uint8)
    data = made([[]] * 3, [(50, 40)] * 3, masks=lambda index, size: marks[index])
    rules = replace(find_protocol("pxap"), threshold_steps=50)
    found = {kind: evaluate_blind(kind, data, [rules], input_size=(16, 16))["pxap"][0].scores for kind in BLIND}
    share = 100 * (marks == 1).sum() / (marks != 255).sum()
    assert found["full"]["pxap"].value == pytest.approx(share)
    assert found["truth"]["pxap"].value == 100
    plane = oracle.minmax(blind_map("centre", (16, 16)))
    total = sum(oracle.histogram(plane, mask, 50) for mask in marks)
    assert found["centre"]["pxap"].value == pytest.approx(oracle.pixel_ap(total))
