"""Metrics fed batch by batch: literal counts, the test cases of wsolevaluation, other orders and batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import localization as oracle
from oracles.sweep import boxes_at, published_iou

from explain.errors import InputError
from explain.localization import LocalizationError, MaxBoxAcc, PointingGame, PxAP, find_protocol, threshold_sweep

TAUS = np.arange(0, 1, 0.001)


def unmapped(levels):
    """Maps within 0…1 that are cut to these 8-bit levels."""
    return torch.from_numpy(np.minimum((np.asarray(levels, np.float64) + 0.5) / 255, 1))


# --------------------------------------------------------------------------------- the test cases of wsolevaluation

CASES = [
    (np.zeros((3, 3)), [[0, 0, 0, 0]] * 5),
    (
        [[0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.4, 0.4, 0.4, 0.6], [0.0, 0.4, 1.0, 0.8, 0.6], [0.0, 0.4, 0.4, 0.4, 0.6]],
        [[1, 1, 4, 3], [1, 1, 4, 3], [2, 1, 4, 3], [2, 2, 4, 3], [2, 2, 3, 3]],
    ),
    (
        [[0.4, 0.0, 0.2, 0.2, 0.2], [0.4, 0.4, 0.0, 0.4, 0.0], [0.0, 0.0, 0.0, 0.4, 0.0], [1.0, 0.6, 0.8, 0.2, 0.2]],
        [[0, 0, 4, 3], [0, 0, 2, 2], [0, 3, 3, 3], [2, 3, 3, 3], [0, 3, 1, 3]],
    ),
]
FIFTHS = np.arange(0, 1, 0.2)


@pytest.mark.parametrize(("rows", "wanted"), CASES)
def test_boxes_of_their_score_maps(rows, wanted):
    """Theirs end at the last row and column; ours are half-open."""
    plane = torch.tensor(np.asarray(rows), dtype=torch.float64)
    height, width = plane.shape
    found = threshold_sweep(plane[None], torch.from_numpy(FIFTHS), semantics="opencv")[0].numpy()
    cut = np.minimum(found, [width, height, width - 1, height - 1])
    assert cut.tolist() == wanted
    every = threshold_sweep(plane[None], torch.from_numpy(FIFTHS), semantics="opencv", components="all")[0]
    for number, box in enumerate(found):
        assert not box.any() or box.tolist() in every.at(number).tolist()


def test_their_overlaps():
    """1 for boxes of one pixel, a unit matrix for boxes apart, 8 of 27 for the last."""
    for first, second, wanted in [
        ((0, 0, 0, 0), (0, 0, 0, 0), 1),
        ((1, 1, 3, 3), (1, 1, 3, 3), 1),
        ((1, 1, 3, 3), (4, 4, 5, 5), 0),
        ((1, 2, 5, 6), (3, 1, 4, 5), 8 / 27),
    ]:
        levels = np.zeros((9, 9))
        levels[first[1] : first[3], first[0] : first[2]] = 100  # a box of theirs ends one pixel later
        if first == (0, 0, 0, 0):
            levels[:] = 0
        metric = MaxBoxAcc("maxboxacc")
        metric.update(unmapped(levels)[None] * (levels.max() > 0), [[[*second[:2], second[2] + 1, second[3] + 1]]])
        found = metric.compute()
        assert [found[f"maxboxacc_{level}"] for level in (30, 50, 70)] == [
            100 * (wanted >= level / 100) for level in (30, 50, 70)
        ]
        assert oracle.overlap(first, second, 1) == pytest.approx(wanted)


def test_their_boxes_on_another_grid():
    assert oracle.wsol_truth((1, 2, 4, 3), (20, 10), (10, 35)) == (3, 1, 14, 1)
    assert oracle.wsol_truth((1, 2, 1, 2), (3, 3), (3, 3)) == (1, 2, 1, 2)


MASKS = {"mask0": (43031, 7145), "mask1": (833, 49342), "mask2": (347, 13909)}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_their_constant_maps(name, value):
    """Their three masks hold this many pixels of the object and of the background; the rest of 224 x 224 is ignored."""
    right, wrong = MASKS[name]
    mask = np.full(224 * 224, 255, np.uint8)
    mask[:right], mask[right : right + wrong] = 1, 0
    mask = torch.from_numpy(np.random.default_rng(0).permutation(mask).reshape(1, 224, 224))
    metric = PxAP(100)
    metric.update(torch.full((1, 224, 224), value, dtype=torch.float64), mask)
    assert metric.compute()["pxap"] == pytest.approx(100 * right / (right + wrong), abs=1e-9)
    for ignored in (0.0, 1.0):
        perfect = PxAP(100)
        perfect.update(torch.where(mask == 255, ignored, mask.double()), mask)
        assert perfect.compute()["pxap"] == 100


def test_nothing_of_an_object_is_an_error_and_all_of_it_a_hundred():
    for value in (0.0, 1.0):
        metric = PxAP(100)
        metric.update(torch.full((1, 4, 4), value), torch.zeros(1, 4, 4))
        with pytest.raises(InputError, match="no pixel of an object"):
            metric.compute()
        metric.reset()
        metric.update(torch.full((1, 4, 4), value), torch.ones(1, 4, 4))
        assert metric.compute()["pxap"] == 100


# ------------------------------------------------------------------------------------------------------ literal counts


def counts_of(levels, truths, *, every, taus=TAUS, levels_of=(30, 50, 70)):
    """The reference's num_correct: (levels, thresholds)."""
    found = np.zeros((len(levels_of), len(taus)), int)
    for eight, rows in zip(levels, truths, strict=True):
        inclusive = [(x0, y0, x1 - 1, y1 - 1) for x0, y0, x1, y1 in rows]
        known, top = {}, int(eight.max())
        for place, tau in enumerate(taus):
            level = int(tau * top)
            if level not in known:
                known[level] = published_iou(boxes_at(eight, tau, every=every), inclusive, eight.shape)
            found[:, place] += [known[level] >= least / 100 for least in levels_of]
    return found


def random_boxes(rng, height, width, count):
    rows = []
    for _ in range(count):
        x0, y0 = int(rng.integers(0, width)), int(rng.integers(0, height))
        rows.append([x0, y0, int(rng.integers(x0 + 1, width + 1)), int(rng.integers(y0 + 1, height + 1))])
    return rows


@pytest.mark.parametrize("top", [255, 50, 100, 200, 1, 7])
@pytest.mark.parametrize("name", ["maxboxacc", "maxboxacc-v2"])
def test_counts_of_the_reference(name, top):
    """Also where the maximum is not 255, and ``int(t * maximum)`` falls below the whole number that is meant."""
    rng = np.random.default_rng(top)
    levels = []
    for _ in range(5):
        plane = oracle.minmax(oracle.resized(oracle.cam_like(rng, (6, 6)), (24, 31), "bicubic"))
        eight = (plane * top).round().astype(np.uint8)
        assert eight.max() == top
        levels.append(eight)
    levels[0][:] = 0
    truths = [random_boxes(rng, 24, 31, int(rng.integers(1, 4))) for _ in levels]
    truths[0] = [[0, 0, 1, 1]]  # an empty map's box is the first pixel
    for steps, taus in [(1000, TAUS), (100, np.arange(0, 1, 0.01))]:
        rules = find_protocol(name)
        metric = MaxBoxAcc(rules if steps == 1000 else rules.__class__(**{**rules.as_dict(), "threshold_steps": 100}))
        metric.update(unmapped(np.stack(levels)), truths)
        wanted = counts_of(levels, truths, every=name == "maxboxacc-v2", taus=taus)
        assert metric.state["hits"].tolist() == wanted.tolist()
        share = 100 * wanted / len(levels)
        assert metric.compute() == {
            "maxboxacc_30": pytest.approx(share[0].max()),
            "maxboxacc_50": pytest.approx(share[1].max()),
            "maxboxacc_70": pytest.approx(share[2].max()),
            "maxboxacc_v2": pytest.approx(share.max(1).mean()),
            "maxboxacc_v2_shared": pytest.approx(share.mean(0).max()),
        }


def test_products_that_fall_below_a_whole_number():
    """The levels at which 50, 100 and 200 differ from exact arithmetic decide a box."""
    for top in (50, 100, 200):
        odd = [k for k in range(1000) if int(TAUS[k] * top) != k * top // 1000]
        assert odd, "float64 is no longer what it was"
        levels = np.tile(np.arange(top + 1, dtype=np.uint8), (3, 1))
        found = threshold_sweep(torch.from_numpy(levels)[None], torch.from_numpy(TAUS), semantics="opencv")[0]
        assert [int(found[k, 0]) for k in odd] == [int(TAUS[k] * top) + 1 for k in odd]


def test_the_box_of_other_protocols():
    """`bas` asks for more than the level, `cam2016` for half-open boxes, `ts-cam` does not cut at the border."""
    plane = np.zeros((10, 10))
    plane[:5] = 1
    for name, box, wanted in [
        ("cam2016", [0, 0, 10, 10], {"maxboxacc_50": 100, "maxboxacc_70": 0}),
        ("bas", [0, 0, 10, 10], {"maxboxacc_50": 100, "maxboxacc_70": 0}),  # 6 x 11 of 11 x 11 counted as 10 x 10
        ("ts-cam", [0, 0, 10, 5], {"maxboxacc_70": 100}),
        ("maxboxacc", [0, 0, 10, 5], {"maxboxacc_70": 100}),
    ]:
        metric = MaxBoxAcc(name)
        metric.update(torch.from_numpy(plane)[None], [[box]])
        assert wanted.items() <= metric.compute().items(), name
    for name, wanted in [("bas", 0), ("ts-cam", 100), ("maxboxacc", 0)]:
        metric = MaxBoxAcc(name)
        metric.update(torch.from_numpy(plane)[None], [[[0, 0, 11, 12]]])  # 6 rows of 12, or fewer columns
        assert metric.compute()["maxboxacc_50"] == wanted, name


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 100, 1000])
def test_histograms(steps):
    rng = np.random.default_rng(steps)
    edges = np.arange(steps) * (1 / steps)
    planes = np.stack(
        [
            rng.uniform(0, 1, (8, 9)),
            rng.choice(np.concatenate([edges, edges, np.nextafter(edges, 1), [1.0]]), (8, 9)),
            rng.choice(np.concatenate([np.nextafter(edges[1:], 0), [0, 1.0, np.nextafter(1, 0)]]), (8, 9)),
            rng.integers(0, 256, (8, 9)) / 255,
            np.linspace(0, 1, 72).reshape(8, 9),
        ]
    )
    masks = rng.choice([0, 1, 255], planes.shape)
    metric = PxAP(steps)
    metric.update(torch.from_numpy(planes), torch.from_numpy(masks))
    wanted = sum(oracle.histogram(plane, mask, steps) for plane, mask in zip(planes, masks, strict=True))
    assert metric.state["pixels"].tolist() == wanted.tolist()
    assert metric.compute()["pxap"] == pytest.approx(oracle.pixel_ap(wanted))


def test_pointing_game():
    rng = np.random.default_rng(0)
    maps = rng.normal(0, 1, (40, 7, 9))
    maps[0] = -1
    maps[1] = 0
    boxes = [random_boxes(rng, 7, 9, 2) for _ in maps]
    metric, hits = PointingGame(), 0
    metric.update(torch.from_numpy(maps)[:, None], boxes)
    for plane, rows in zip(maps, boxes, strict=True):
        y, x = np.unravel_index(plane.argmax(), plane.shape)
        hits += plane.max() > 0 and any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in rows)
    assert metric.compute() == {"pointing_game": 100 * hits / 40}
    assert 0 < hits < 40


@pytest.mark.parametrize("name", ["cam2016", "gradcam", "maxboxacc", "maxboxacc-v2", "ts-cam", "bas"])
def test_localization_error(name):
    rng, rules = np.random.default_rng(1), find_protocol(name)
    n, size = 30, (24, 31)
    maps = np.stack([oracle.wsol_plane(oracle.cam_like(rng, (6, 6)), size) for _ in range(n)])
    logits = rng.normal(0, 1, (n, 8)).round(1)  # some are equal
    targets = rng.integers(0, 8, n)
    boxes, wanted = (
        [],
        {"gt_known": 0, "top1_loc_error": 0, "top5_loc_error": 0, "top1_cls_error": 0, "top5_cls_error": 0},
    )
    for plane, row, target in zip(maps, logits, targets, strict=True):
        eight, top = oracle.levels(plane), plane.max()
        if name in ("maxboxacc", "maxboxacc-v2"):
            found = oracle.wsol_boxes(eight, 0.2, every=name == "maxboxacc-v2")
        elif name == "ts-cam":
            found = [oracle.tscam_box(eight, 0.2)]
        else:
            found = [oracle.component_box(plane > rules.threshold * top)]
        plus = 0 if rules.edges == "half-open" else 1
        x0, y0, x1, y1 = found[0]
        own = [[x0, y0, x0 + max(1, round((x1 - x0) * rng.uniform(0.4, 0.7))), y1]]
        boxes.append(own)
        iou = oracle.best(found, [(a, b, c - plus, d - plus) for a, b, c, d in own], plus)
        place = sum(score >= row[target] for score in row) - 1
        wanted["gt_known"] += iou > 0.5 if rules.strict else iou >= 0.5
        for k in (1, 5):
            right = iou > 0.5 if rules.strict_top else iou >= 0.5
            wanted[f"top{k}_loc_error"] += not (right and place < k)
            wanted[f"top{k}_cls_error"] += place >= k
    metric = LocalizationError(rules)
    half = n // 2
    for part in (slice(0, half), slice(half, n)):
        given = torch.from_numpy(logits[part]), torch.from_numpy(targets[part])
        metric.update(torch.from_numpy(maps[part]), boxes[part], *given)
    assert metric.compute() == {key: pytest.approx(100 * value / n) for key, value in wanted.items()}
    assert 0 < wanted["gt_known"] < n


# ---------------------------------------------------------------------------------------------- batches, orders, states


def stream(seed, n=8):
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(np.stack([oracle.wsol_plane(oracle.cam_like(rng, (4, 4)), (12, 15)) for _ in range(n)]))
    boxes = [random_boxes(rng, 12, 15, 1 + number % 2) for number in range(n)]
    masks = torch.from_numpy(rng.choice([0, 1, 255], (n, 12, 15)))
    return {
        "maps": maps,
        "boxes": boxes,
        "masks": masks,
        "logits": torch.from_numpy(rng.normal(0, 1, (n, 7))),
        "targets": torch.from_numpy(rng.integers(0, 7, n)),
    }


METRICS = {
    "maxboxacc": (lambda: MaxBoxAcc("maxboxacc"), ("maps", "boxes")),
    "maxboxacc-v2": (MaxBoxAcc, ("maps", "boxes")),
    "bas": (lambda: MaxBoxAcc("bas"), ("maps", "boxes")),
    "pxap": (lambda: PxAP(50), ("maps", "masks")),
    "pointing": (PointingGame, ("maps", "boxes")),
    "error": (lambda: LocalizationError("ts-cam", (1, 3)), ("maps", "boxes", "logits", "targets")),
}


def fed(make, names, data, order):
    metric = make()
    for batch in order:
        picked = []
        for name in names:
            value = data[name]
            picked.append([value[i] for i in batch] if isinstance(value, list) else value[list(batch)])
        if batch:
            metric.update(*picked)
    return metric


def same(one, other):
    assert one.state.keys() == other.state.keys()
    assert all(np.array_equal(one.state[key], other.state[key]) for key in one.state)
    assert one.compute() == other.compute()


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=6, deadline=None)
@given(st.integers(0, 3), st.permutations(range(8)), st.lists(st.integers(0, 8), max_size=3))
def test_neither_order_nor_batches_nor_processes_matter(name, seed, order, cuts):
    make, names = METRICS[name]
    data = stream(seed)
    whole = fed(make, names, data, [range(8)])
    edges = [0, *sorted(cuts), 8]
    batches = [order[start:stop] for start, stop in pairwise(edges)]
    same(fed(make, names, data, batches), whole)
    parts = [fed(make, names, data, [batch]) for batch in batches]
    untouched = {key: value.copy() for key, value in parts[-1].state.items()}
    merged = make()
    for part in parts:
        merged.merge_state(part)
    same(merged, whole)
    assert all(np.array_equal(parts[-1].state[key], untouched[key]) for key in untouched)


@pytest.mark.parametrize("name", METRICS)
def test_states_go_out_and_in(name, tmp_path):
    make, names = METRICS[name]
    data = stream(0)
    first = fed(make, names, data, [range(5)])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = make()
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    same(first, second)
    rest = fed(make, names, data, [range(5, 8)])
    for metric in (first, second):
        metric.merge_state(rest)
    same(first, second)
    same(first, fed(make, names, data, [range(8)]))
    kept = first.state_dict()
    first.reset()
    assert all(not values.any() for values in first.state.values())
    assert any(values.any() for values in kept.values())
    assert all(isinstance(values, torch.Tensor) and values.dtype == torch.int64 for values in kept.values())


def test_nothing_seen_is_zero():
    assert MaxBoxAcc().compute()["maxboxacc_v2"] == 0
    assert PointingGame().compute() == {"pointing_game": 0}
    assert LocalizationError().compute()["gt_known"] == 0
    with pytest.raises(InputError, match="no pixel"):
        PxAP().compute()


# ------------------------------------------------------------------------------------------------------------- refusals

ONE = [[[0, 0, 2, 2]]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MaxBoxAcc("cam2016-code"), "no threshold to choose"),
        (lambda: MaxBoxAcc("maxbox"), "unknown protocol"),
        (lambda: PxAP(0), "at least 1"),
        (lambda: MaxBoxAcc().update(torch.zeros(4, 4), ONE), "give \\(b, h, w\\)"),
        (lambda: MaxBoxAcc().update(torch.zeros(2, 4, 4), ONE), "one map per image"),
        (lambda: MaxBoxAcc().update(torch.zeros(1, 2, 4, 4), ONE), "one map per image"),
        (lambda: MaxBoxAcc().update(torch.full((1, 4, 4), 1.5), ONE), "leave 0…1"),
        (lambda: MaxBoxAcc().update(torch.full((1, 4, 4), -0.1), ONE), "leave 0…1"),
        (lambda: MaxBoxAcc().update(torch.full((1, 4, 4), torch.nan), ONE), "NaN"),
        (lambda: MaxBoxAcc("cam2016").update(torch.full((1, 4, 4), torch.inf), ONE), "infinity"),
        (lambda: MaxBoxAcc().update(torch.zeros(1, 4, 4), [[[2, 0, 2, 2]]]), "a box is empty"),
        (lambda: PxAP().update(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5)), "give the same size"),
        (lambda: PxAP().update(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 2)), "other values"),
        (lambda: PxAP().update(torch.full((1, 4, 4), 2.0), torch.zeros(1, 4, 4)), "leave 0…1"),
        (lambda: PointingGame().update(torch.zeros(1, 4, 4), [[[0, 3, 2, 2]]]), "a box is empty"),
        (lambda: PxAP(10).merge_state(PxAP(20)), "same kind"),
        (lambda: MaxBoxAcc().merge_state(PxAP()), "same kind"),
        (lambda: PointingGame().merge_state(LocalizationError()), "same kind"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_what_is_taken():
    metric = MaxBoxAcc()
    metric.update(torch.rand(2, 1, 4, 4).requires_grad_(), [torch.tensor([[0, 0, 2, 2]]), np.array([[0, 0, 2, 2]])])
    metric.update(torch.zeros(0, 4, 4), [])
    metric.update(torch.rand(1, 4, 4).half(), [[]])  # no box: a miss
    assert metric.state["images"].tolist() == [3]


@pytest.mark.parametrize("name", ["cam2016", "maxboxacc-v2"])
def test_views_of_maps(name):
    maps = torch.rand(1, 6, 9, generator=torch.Generator().manual_seed(0))
    one, other = MaxBoxAcc(name), MaxBoxAcc(name)
    one.update(maps.transpose(1, 2), ONE)
    other.update(maps.transpose(1, 2).contiguous(), ONE)
    same(one, other)


# ---------------------------------------------------------------------------------------- settings, and what is refused


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: MaxBoxAcc("maxboxacc"), lambda: MaxBoxAcc("maxboxacc-v2")),
        (lambda: LocalizationError("cam2016"), lambda: LocalizationError("gradcam")),
        (lambda: LocalizationError(topk=(1, 5)), lambda: LocalizationError(topk=(1, 3))),
    ],
)
def test_other_settings_are_not_merged(one, other):
    with pytest.raises(InputError, match="settings"):
        one().merge_state(other())


@pytest.mark.parametrize("make", [MaxBoxAcc, PointingGame])
def test_a_refused_batch_counts_nothing(make):
    metric = make()
    with pytest.raises(InputError, match="a box is empty"):
        metric.update(torch.rand(2, 4, 4), [[[0, 0, 2, 2]], [[2, 0, 2, 2]]])
    assert metric.state["images"].tolist() == [0]


@pytest.mark.parametrize(
    "state", [{}, {"pixels": torch.zeros(2, 12)}, {"hits": torch.zeros(3, 100, dtype=torch.int64)}]
)
def test_another_state_is_refused(state):
    for metric in (MaxBoxAcc(), PxAP(1000), PointingGame()):
        with pytest.raises(InputError, match="state"):
            metric.load_state_dict(state)


def test_guesses_of_the_heuristics():
    """The fourth class has no guess among the first five: top-1 and top-2 with two boxes each, top-3 with one."""
    metric = LocalizationError("cam2016-heuristics")
    plane = torch.zeros(1, 60, 60)
    plane[0, 20:40, 20:40] = 1
    for target, errors in [(0, [0, 0]), (1, [100, 0]), (2, [100, 0]), (3, [100, 100])]:
        metric.reset()
        metric.update(plane, [[[22, 22, 38, 38]]], torch.tensor([[5.0, 4, 3, 2, 1, 0]]), torch.tensor([target]))
        assert [metric.compute()[f"top{k}_loc_error"] for k in (1, 5)] == errors


def test_scores_that_are_no_numbers():
    metric = LocalizationError()
    with pytest.raises(InputError, match="NaN"):
        metric.update(torch.ones(1, 4, 4), ONE, torch.full((1, 3), torch.nan), torch.tensor([1]))


@pytest.mark.parametrize(("logits", "targets"), [((1, 3), [9]), ((1, 3), [-1]), ((2, 3), [1, 2]), ((1, 3), [1, 2])])
def test_scores_and_classes_that_do_not_fit(logits, targets):
    with pytest.raises(InputError):
        LocalizationError().update(torch.ones(1, 4, 4), ONE, torch.zeros(logits), torch.tensor(targets))


def test_the_fixed_threshold_of_maps_below_one():
    """TS-CAM's 12 % of a maximum of 100 is level 12, which 12 is not above."""
    rules = find_protocol("ts-cam")
    low = rules.__class__(**{**rules.as_dict(), "threshold": 0.12})
    levels = np.full((20, 20), 12)
    levels[2:14, 2:14] = 100
    metric = LocalizationError(low)
    metric.update(unmapped(levels)[None], [[[2, 2, 14, 14]]], torch.tensor([[1.0, 0]]), torch.tensor([0]))
    assert oracle.tscam_box(levels.astype(np.uint8), 0.12) == (2, 2, 14, 14)
    assert metric.compute()["gt_known"] == 100


def test_precision_of_the_threshold():
    plane = torch.full((1, 4, 4), 0.2)
    plane[0, 0, 0] = 1
    found = threshold_sweep(plane, torch.tensor([0.2], dtype=torch.float64))[0, 0].tolist()
    metric = LocalizationError("cam2016")
    metric.update(plane, [[found]], torch.tensor([[1.0, 0]]), torch.tensor([0]))
    assert found == [0, 0, 1, 1]
    assert metric.compute()["gt_known"] == 100


def test_raw_maps_of_protocols_that_scale():
    """`evaluate_localization` scales them; here they would be cut at a share of their maximum."""
    plane = torch.full((1, 10, 10), 5.0)
    plane[0, 2:5, 2:5] = 6
    for name in ("bas", "maxboxacc", "ts-cam"):
        with pytest.raises(InputError, match="leave 0…1"):
            MaxBoxAcc(name).update(plane, [[[2, 2, 6, 6]]])
    metric = MaxBoxAcc("bas")
    metric.update(plane - 5, [[[2, 2, 6, 6]]])
    assert metric.state["hits"][1, 50] == 1
