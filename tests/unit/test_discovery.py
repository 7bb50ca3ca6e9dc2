"""Features, crops, objects in scenes, concepts: planted where they must be found, and counted literally."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import discovery as oracle
from PIL import Image
from torch import nn

import explain
from explain.data import localization_from_items, probe_from_arrays
from explain.errors import DataError, DependencyError, InputError, ModelError, RunError
from explain.findings.result import paired_difference
from explain.localization import discovery
from explain.localization.discovery.mining import precision_interval
from explain.localization.discovery.overlaps import Overlaps, count_overlaps, rank_objects
from explain.localization.discovery.splits import split_images
from explain.localization.discovery.views import View, crop
from explain.nets import Preprocess
from explain.runs import Checkpoint
from explain.types import Concept, Labels

pytest.importorskip("sklearn", reason="the extra 'discovery' (scikit-learn) is not installed")

SIDE = 24
PLAIN = Preprocess((SIDE, SIDE), (0.0,) * 3, (1.0,) * 3, "nearest")


class Colors(nn.Module):
    """The map is the image itself: channel k fires where the image has colour k. ``head`` has a row per class."""

    def __init__(self, head, hidden=0):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU())
        weight = torch.as_tensor(head, dtype=torch.float32)
        self.hidden = nn.Sequential(nn.Linear(3, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.head = nn.Linear(hidden or 3, len(weight))
        self.forwards = 0
        with torch.no_grad():
            self.trunk[0].weight.copy_(torch.eye(3)[..., None, None])
            if not hidden:
                self.head.weight.copy_(weight)
                self.head.bias.zero_()

    def forward(self, x):
        self.forwards += 1
        return self.head(self.hidden(self.trunk(x).mean((2, 3))))


RED_GREEN = [[1.0, -0.2, 3.0], [-0.2, 1.0, 3.0]]
"""Two classes that look for red and for green, and both for blue: blue says where, not what."""


def cluttered(count, seed=0):
    """A small square, red and blue or green and blue, on a flat ground of red and green: items (image, class, box)."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        label = number % 2
        x, y = rng.integers(0, SIDE - 6, 2).tolist()
        image = torch.zeros(3, SIDE, SIDE)
        image[:2] = torch.from_numpy(rng.uniform(0, 0.3, (2, 1, 1)))
        image[:, y : y + 6, x : x + 6] = torch.tensor([label == 0, label == 1, True])[:, None, None].float()
        items.append((image, label, [[x, y, x + 6, y + 6]]))
    return items


def values(result):
    return {row.image: row.accuracy.value for row in result.findings.rows}


# --- features ----------------------------------------------------------------------------------------------


def test_features_are_the_means_of_the_last_map():
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = Colors(RED_GREEN)
    found = explain.features(model, images, batch_size=2)
    assert found.dtype == torch.float32
    assert torch.allclose(found, images.mean((2, 3)))
    assert torch.equal(found, explain.features(model, images, batch_size=5))
    assert torch.equal(found, explain.features(model, list(images)))
    assert torch.equal(found, explain.features(model, images, kind="fc"))  # the last layer reads the mean itself


def test_features_of_a_layer_and_of_pictures(tmp_path):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2))
    model = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)).eval()
    images = torch.rand(3, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(explain.features(model, images), trunk(images).mean((2, 3)), atol=1e-6)
        middle = explain.features(model, images, layer="0.1")
        assert torch.allclose(middle, trunk[1](trunk[0](images)).mean((2, 3)), atol=1e-6)
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    subject = explain.load(model, transform=PLAIN)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    for source in (tmp_path / "x.png", [tmp_path / "x.png"], Image.fromarray(pixels), pixels):
        assert torch.allclose(explain.features(subject, source), explain.features(model, tensor), atol=1e-6)


def test_fully_connected_features_are_what_the_last_layer_reads():
    model = Colors(RED_GREEN, hidden=5).eval()
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        expected = model.hidden(images.mean((2, 3)))
    assert torch.allclose(explain.features(model, images, kind="fc"), expected, atol=1e-6)
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 7), nn.ReLU(), nn.Linear(7, 2))
    with torch.no_grad():
        assert torch.allclose(explain.features(flat, images, kind="fc"), flat[:5](images), atol=1e-6)
        assert explain.features(flat, images).shape == (4, 4)


@pytest.mark.parametrize(
    ("call", "kind", "part"),
    [
        (lambda: explain.features(Colors(RED_GREEN), torch.rand(3, 8, 8)), InputError, "no batch of images"),
        (lambda: explain.features(Colors(RED_GREEN), []), InputError, "no images"),
        (lambda: explain.features(Colors(RED_GREEN), torch.rand(1, 3, 8, 8), kind="fc7"), InputError, "'gap' or 'fc'"),
        (lambda: explain.features(Colors(RED_GREEN), torch.rand(1, 3, 8, 8), layer="x"), ModelError, "no layer 'x'"),
        (lambda: explain.features(Colors(RED_GREEN), [Image.new("RGB", (8, 8))]), InputError, "no transform"),
        (
            lambda: explain.features(
                nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                torch.rand(1, 3, 8, 8),
                kind="fc",
            ),
            ModelError,
            "no linear layer ends the network",
        ),
    ],
)
def test_features_say_what_is_wrong(call, kind, part):
    with pytest.raises(kind, match=part):
        call()


# --- the SVM, splits, differences ------------------------------------------------------------------------


def test_the_svm_is_scikit_learns_on_standardised_features():
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(60, 4)) * [1, 10, 0.1, 0] + [0, 5, 0, 3], rng.integers(0, 3, 60) * 2
    rows[:, 0] += labels
    found = discovery.fit_svm(rows, labels, c=0.5)
    spread = np.where(rows.std(0) > 0, rows.std(0), 1) * 2
    scaled = (rows - rows.mean(0)) / spread
    peer = LinearSVC(C=0.5, dual=False).fit(scaled, labels)
    assert np.allclose(found.scores(rows), peer.decision_function(scaled))
    assert (found.predict(rows) == peer.predict(scaled)).all()
    assert found.classes.tolist() == [0, 2, 4]
    two = discovery.fit_svm(rows, np.minimum(labels, 2))
    assert np.allclose(two.weight[0], -two.weight[1])
    assert np.allclose(two.scores(rows).sum(1), 0)


def test_the_svm_says_what_is_wrong(monkeypatch):
    rows = np.ones((4, 2))
    with pytest.raises(InputError, match="at least two classes"):
        discovery.fit_svm(rows, np.zeros(4, int))
    with pytest.raises(InputError, match="c=0"):
        discovery.fit_svm(rows, np.arange(4), c=0)
    with pytest.raises(InputError, match="NaN"):
        discovery.fit_svm(rows * np.nan, np.arange(4))
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(DependencyError, match=r"pip install 'explain-nets\[discovery\]'"):
        discovery.fit_svm(rows, np.arange(4))


def test_folds_test_each_image_once_and_share_labels_out():
    labels = np.repeat([0, 1, 2], [10, 7, 3])
    split = split_images(labels, None, folds=5, seed=3)
    assert split.tested.tolist() == list(range(20))
    for fold in split.folds:
        assert sorted([*fold.train, *fold.test]) == list(range(20))
        assert len(fold.test) == 4
        assert (labels[fold.test] == 0).sum() == 2
        assert (labels[fold.test] == 2).sum() <= 1
    again = split_images(labels, None, folds=5, seed=3)
    other = split_images(labels, None, folds=5, seed=4)
    assert all((a.test == b.test).all() for a, b in zip(split.folds, again.folds, strict=True))
    assert any((a.test != b.test).any() for a, b in zip(split.folds, other.folds, strict=True))


def test_a_published_split_is_used():
    labels, subsets = np.arange(6) % 2, ["train", "test", "val", "train", "test", "train"]
    (fold,) = split_images(labels, subsets).folds
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 3, 5], [1, 4])
    (fold,) = split_images(labels, subsets, test="val").folds
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 3, 5], [2])
    (fold,) = split_images(labels, ["a", "b"] * 3, test="a").folds
    assert (fold.train.tolist(), fold.test.tolist()) == ([1, 3, 5], [0, 2, 4])
    for subset, folds, kind, part in [
        ("tst", 5, DataError, "no subset 'tst'; near: test"),
        (None, 7, InputError, "7 folds of 6"),
    ]:
        with pytest.raises(kind, match=part):
            split_images(labels, subsets if subset else None, test=subset, folds=folds)
    with pytest.raises(DataError, match="nothing to fit on"):
        split_images(labels, ["a"] * 6, test="a")
    with pytest.raises(DataError, match="column 'subset'"):
        split_images(labels, None, test="a")


def test_two_published_parts_are_one_set():
    parts = [localization_from_items(cluttered(count), ["red", "green"]) for count in (6, 4)]
    both = discovery.train_and_test(*parts)
    assert len(both) == 10
    assert both.classes == parts[0].classes + parts[1].classes
    assert both.class_names == ("red", "green")
    (fold,) = split_images(np.array(both.classes), both.subsets).folds
    assert (fold.train.tolist(), fold.test.tolist()) == (list(range(6)), list(range(6, 10)))
    assert both.images[6].equal(parts[1].images[0])
    with pytest.raises(DataError, match="frame"):
        discovery.train_and_test(parts[0], replace(parts[1], frame="original"))


def test_paired_differences_are_of_the_same_images():
    first = np.array([True] * 60 + [False] * 40)
    second = np.array([True] * 55 + [False] * 5 + [True] * 15 + [False] * 25)
    found = paired_difference(first, second)
    assert (found.value, found.better, found.worse, found.n) == (10, 15, 5, 100)
    # The variance of a difference of paired shares: (p+ + p- - (p+ - p-)^2) / n.
    half = 196 * np.sqrt((0.15 + 0.05 - 0.01) / 100)
    assert found.low == pytest.approx(10 - half, abs=1)
    assert found.high == pytest.approx(10 + half, abs=1)
    assert str(paired_difference(first, first)) == "+0.0 [+0.0, +0.0]"
    assert paired_difference(~first, first).value == 20


# --- what is counted ---------------------------------------------------------------------------------------


def some_overlaps(images=6, concepts=5, seed=0):
    rng = np.random.default_rng(seed)
    masks = rng.random((images, 7, 9)) < rng.random((images, 1, 1))
    maps = rng.integers(-1, concepts, (images, 2, 7, 9)).astype(np.int32)
    ignored = [rng.random((7, 9)) < 0.2 if number % 2 else None for number in range(images)]
    labels = [Labels(one, ignored=dropped) for one, dropped in zip(maps, ignored, strict=True)]
    return masks, maps, ignored, labels


def test_overlaps_are_those_counted_pixel_by_pixel():
    masks, maps, ignored, labels = some_overlaps()
    found = count_overlaps(zip(masks, labels, strict=True), 5)
    counts, sizes = oracle.overlaps(masks, maps, ignored, 5)
    assert found.inside.tolist() == [inside for inside, _ in counts]
    assert found.area.tolist() == [area for _, area in counts]
    assert list(zip(found.region.tolist(), found.total.tolist(), strict=True)) == sizes
    names = [Concept(f"c{k}", "object") for k in range(5)]
    frequent, lifted = rank_objects(found, names, top=5)
    assert len(frequent) == len(lifted) == 5
    for row in frequent:
        k = int(row.name[1])
        assert row.lift == pytest.approx(oracle.lift(counts, sizes, k))
        assert row.overlapping == sum(inside[k] > 0 for inside, _ in counts)
        assert row.low <= row.lift <= row.high
    with pytest.raises(InputError, match="give one size"):
        count_overlaps([(masks[0][:3], labels[0])], 5)


def test_what_is_everywhere_is_frequent_and_what_is_in_the_region_is_lifted():
    # Sky everywhere; a ball that is always in the region (half of the image); a bird that is there half of the time.
    area = np.array([[100, 10, 4]] * 8, np.int32)
    inside = np.array([[50, 10, 4 * (n % 2)] for n in range(8)], np.int32)
    counted = Overlaps(inside, area, np.full(8, 50, np.int32), np.full(8, 100, np.int32))
    concepts = [Concept(name, "object") for name in ("sky", "ball", "bird")]
    frequent, lifted = rank_objects(counted, concepts, top=2)
    assert [row.name for row in frequent] == ["ball", "sky"]  # both in all images: the larger lift first
    assert [(row.name, row.lift) for row in lifted] == [("ball", 2.0), ("sky", 1.0)]
    frequent, _ = rank_objects(counted, concepts, overlap=0.6, top=3)
    assert [(row.name, row.overlapping) for row in frequent] == [("ball", 8), ("bird", 4), ("sky", 0)]
    once = Overlaps(inside * 0, area * np.eye(8, 3, dtype=np.int32), counted.region, counted.total)
    rows, lifted = rank_objects(once, concepts)
    assert [(row.present, row.low, row.high) for row in rows] == [(1, None, None)] * 3
    assert lifted == ()


def test_average_precision_is_the_area_under_the_curve():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    for digits in (0, 8):
        scores, positive = rng.normal(size=40).round(digits), rng.random(40) < 0.3
        found = discovery.average_precision(scores, positive)
        assert found == pytest.approx(oracle.average_precision(scores, positive))
        assert found == pytest.approx(average_precision_score(positive, scores))
    interval = precision_interval(scores, positive)
    assert interval.low < 100 * found < interval.high
    assert interval.value == pytest.approx(100 * found)
    assert interval.n == positive.sum()
    assert discovery.average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, True, False])) == 1
    assert np.isnan(discovery.average_precision(np.ones(2), np.zeros(2, bool)))


def test_mining_takes_in_the_hard_negatives_the_hardest_first():
    rng = np.random.default_rng(1)
    positive = np.arange(200) < 12
    rows = rng.normal(size=(200, 3)) + positive[:, None] * [2.5, 0, 0]
    rows[-5:] = [2.5, 3, 0]  # five that look like positives but for their second feature
    found = discovery.mine(rows, positive, rounds=6, seed=0)
    start = np.random.default_rng(0).choice(np.flatnonzero(~positive), 12, replace=False).tolist()

    def fit(chosen):
        chosen = np.array(chosen)
        return discovery.fit_svm(rows[chosen], positive[chosen].astype(int)).scores(rows)[:, 1]

    negatives, told = oracle.mined(rows, positive, fit, rounds=6, start=start)
    assert found.negatives.tolist() == negatives
    assert [(one.negatives, one.hard) for one in found.rounds] == told
    assert len(told) > 1
    assert set(range(195, 200)) <= set(negatives)
    ranked = discovery.average_precision(found.scores(rows), positive)
    unmined = discovery.mine(rows, positive, rounds=1)
    assert len(unmined.rounds) == 1
    assert ranked > discovery.average_precision(unmined.scores(rows), positive)


def test_mining_says_what_is_wrong():
    rows = np.zeros((4, 2))
    with pytest.raises(InputError, match="0 positive and 4 negative"):
        discovery.mine(rows, np.zeros(4, bool))
    with pytest.raises(InputError, match="rounds=0"):
        discovery.mine(rows, np.arange(4) < 2, rounds=0)


# --- crops -------------------------------------------------------------------------------------------------


def test_crops_take_whole_pixels_inside_the_image():
    picture = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5))
    part = crop(picture, np.array([1.2, 0.0, 2.7, 9.0]))
    assert np.asarray(part)[..., 0].tolist() == [[1, 2], [6, 7], [11, 12], [16, 17]]
    assert crop(picture, np.array([4.9, 3.9, 4.95, 3.95])).size == (1, 1)
    tensor = torch.zeros(3, 8, 8)
    tensor[:, 2:4, 2:4] = 1
    assert torch.equal(crop(tensor, np.array([2.0, 2.0, 4.0, 4.0])), torch.ones(3, 8, 8))
    view = View([picture, tensor], np.array([1, 0, 1]))
    assert view[0] is tensor
    assert view[1] is picture
    assert len(view[:2]) == 2


def test_crops_help_where_the_object_is_small_on_clutter():
    result = discovery.compare_crops(Colors(RED_GREEN), cluttered(60))
    findings = result.findings
    assert findings.head == "model"  # its own classes are right more often than not
    found = values(result)
    assert found["full"] < 95
    assert found["crop"] == found["truth"] == 100
    crop_row = next(row for row in findings.rows if row.image == "crop")
    assert crop_row.difference.value == pytest.approx(100 - found["full"])
    assert crop_row.difference.low > 0
    assert crop_row.difference.worse == 0
    assert findings.localized.value == 100
    assert findings.without_box == 0
    truth = np.array([boxes[0] for _, _, boxes in cluttered(60)])
    assert (result.arrays["boxes"] == truth).all()
    assert findings.area == pytest.approx(100 * 36 / SIDE**2)


def test_boxes_of_pictures_are_in_their_own_pixels():
    items = []
    for image, label, boxes in cluttered(20):
        pixels = (image * 255).byte().permute(1, 2, 0).numpy()
        picture = Image.fromarray(pixels).resize((2 * SIDE, 3 * SIDE), Image.Resampling.NEAREST)
        items.append((picture, label, np.array(boxes) * [2, 3, 2, 3]))
    subject = explain.load(Colors(RED_GREEN), transform=PLAIN, classes=["red", "green"])
    result = discovery.compare_crops(subject, items, folds=2)
    truth = np.array([boxes[0] for _, _, boxes in items])
    # The map is upsampled bilinearly: its 20 % lies at most one of its cells outside.
    assert (np.abs(result.arrays["boxes"] - truth) <= [2, 3, 2, 3]).all()
    assert values(result)["crop"] == 100


def test_a_head_is_fitted_where_the_classes_are_not_the_models():
    # The model's classes are the wrong way round, so it is never right: "auto" fits a head.
    model = Colors(RED_GREEN[::-1])
    items = cluttered(40)
    data = replace(localization_from_items(items), subsets=("train", "train", "train", "test") * 10)
    result = discovery.compare_crops(model, data)
    assert result.findings.head == "fit"
    assert "subset 'test'" in result.findings.split
    assert (result.arrays["predicted_crop"] >= 0).sum() == 10
    assert {row.accuracy.n for row in result.findings.rows} == {10}
    own = discovery.compare_crops(model, data, head="model")
    assert own.findings.head == "model"
    assert own.findings.own_accuracy.value < 50


def test_the_label_of_an_image_takes_no_part_in_its_box():
    items = cluttered(30)
    swapped = [(image, 1 - label if number < 4 else label, boxes) for number, (image, label, boxes) in enumerate(items)]
    first, second = (discovery.compare_crops(Colors(RED_GREEN), data) for data in (items, swapped))
    assert (first.arrays["boxes"] == second.arrays["boxes"]).all()


def test_maps_that_are_nowhere_positive_leave_the_image_whole():
    head = [[-1.0, 0.0, -1.0], [0.0, -1.0, -1.0]]
    result = discovery.compare_crops(Colors(head), cluttered(20), head="model")
    assert result.findings.without_box == 20
    assert (result.arrays["boxes"] == [0, 0, SIDE, SIDE]).all()
    assert any("nowhere positive" in note for note in result.notes)


@pytest.mark.parametrize(
    ("settings", "kind", "part"),
    [
        ({"head": "own"}, InputError, "'auto', 'model' or 'fit'"),
        ({"threshold": 1.0}, InputError, "threshold 1.0"),
        ({"limit": 1}, DataError, "leave the limit out"),
        ({"limit": 0}, InputError, "at least 1"),
        ({"subset": "a"}, DataError, "no subset 'a'"),
        ({"head": "model", "layer": "trunk.0"}, InputError, "leave layer out"),
        ({"batch_size": 0}, InputError, "batch_size=0"),
    ],
)
def test_crops_say_what_is_wrong(settings, kind, part):
    with pytest.raises(kind, match=part):
        discovery.compare_crops(Colors(RED_GREEN), cluttered(10), **settings)


def test_the_models_own_classes_have_to_be_there():
    items = [(image, label + 5, boxes) for image, label, boxes in cluttered(10)]
    with pytest.raises(ModelError, match="class 6, but the model has classes 0 to 1"):
        discovery.compare_crops(Colors(RED_GREEN), items, head="model")
    with pytest.raises(ModelError, match="no exact class activation map"):
        discovery.compare_crops(Colors(RED_GREEN, hidden=4), cluttered(10), head="model")
    assert discovery.compare_crops(Colors(RED_GREEN), items).findings.own_accuracy is None


# --- recognition -------------------------------------------------------------------------------------------


def test_gap_features_beside_fully_connected_ones():
    torch.manual_seed(0)
    items = [(image[:, 6:18, 6:18], label, None) for image, label, _ in cluttered(40, seed=2)]
    result = discovery.classify_features(Colors(RED_GREEN, hidden=6), items, folds=4)
    gap, other = result.findings.rows
    assert (gap.features, gap.width, other.features, other.width) == ("gap", 3, "fc", 6)
    assert gap.accuracy.n == other.accuracy.n == 40
    assert result.findings.difference.value == pytest.approx(gap.accuracy.value - other.accuracy.value)
    assert result.findings.chance == 50
    plain = discovery.classify_features(Colors(RED_GREEN), items, folds=4)
    assert [row.features for row in plain.findings.rows] == ["gap"]
    assert plain.findings.difference is None
    assert plain.findings.rows[0].accuracy == gap.accuracy  # the same maps
    assert "GAP" in plain.table()


def test_the_svm_of_the_features_localizes():
    items = [(image * (image > 0.5), label, boxes) for image, label, boxes in cluttered(20)]
    result = discovery.classify_features(Colors(RED_GREEN), items, folds=2)
    assert result.findings.rows[0].accuracy.value == 100
    maps = explain.cam(result.subjects["svm"], torch.stack([image for image, _, _ in items]))
    assert maps.exact
    for (_, label, ((x, y, _, _),)), plane, told in zip(items, maps.values[:, 0], maps.classes[:, 0], strict=True):
        assert told == label
        peak = int(plane.argmax())
        assert x <= peak % SIDE < x + 6
        assert y <= peak // SIDE < y + 6


# --- scenes ------------------------------------------------------------------------------------------------

NAMES = ["sky", "ball", "sign"]


def scenes(count=12):
    """Parks with a red ball, streets with a green sign, sky (blue) everywhere else; and masks of all three."""
    rng = np.random.default_rng(0)
    images, masks, where = torch.zeros(count, 3, SIDE, SIDE), np.ones((count, SIDE, SIDE), np.uint8), []
    for number in range(count):
        kind = number % 2
        x, y = rng.integers(0, SIDE - 8, 2).tolist()
        images[number, 2] = 0.3
        images[number, :, y : y + 8, x : x + 8] = torch.eye(3)[kind][:, None, None]
        masks[number, y : y + 8, x : x + 8] = 2 + kind
        where.append(["park", "street"][kind])
    return probe_from_arrays(images, masks, NAMES), where


@pytest.mark.parametrize("head", ["model", "fit"])
def test_objects_that_inform_a_scene_stand_out_against_chance(head):
    probe, where = scenes()
    subject = explain.load(Colors([[1, 0, 0.2], [0, 1, 0.2]]), classes=["park", "street"])
    settings = {"resolution": (SIDE, SIDE), "folds": 3, "least": 3}
    result = discovery.scene_objects(subject, probe, scenes=where, head=head, **settings)
    findings = result.findings
    assert findings.head == head
    assert findings.accuracy.value == 100
    assert {row.scene for row in findings.scenes} == {"park", "street"}
    for row in findings.scenes:
        own = {"park": "ball", "street": "sign"}[row.scene]
        assert (row.images, row.counted) == (6, 6)
        assert row.lifted[0].name == own
        assert row.lifted[0].frequency.value == 100
        assert row.lifted[0].lift > 3
        assert row.lifted[0].lift == pytest.approx(SIDE**2 / 64, rel=0.02)  # the region is the object
    counted = Overlaps(*(result.arrays[name] for name in ("inside", "area", "region", "total")))
    assert (counted.area.sum(1) == SIDE**2).all()


def test_only_images_that_are_predicted_right_are_counted():
    probe, where = scenes()
    where[0] = "street"
    subject = explain.load(Colors([[1, 0, 0.2], [0, 1, 0.2]]), classes=["park", "street"])
    result = discovery.scene_objects(subject, probe, scenes=where, resolution=(SIDE, SIDE), least=2)
    assert result.findings.head == "model"
    assert result.arrays["right"].tolist() == [False] + [True] * 11
    street = next(row for row in result.findings.scenes if row.scene == "street")
    assert (street.images, street.counted) == (7, 6)
    told = discovery.scene_objects(subject, probe, resolution=(SIDE, SIDE))  # no scenes: the predicted classes
    assert told.findings.accuracy is None
    assert [row.counted for row in told.findings.scenes] == [6, 6]


@pytest.mark.parametrize(
    ("settings", "kind", "part"),
    [
        ({"scenes": ["a"]}, DataError, "1 scenes for 12 images"),
        ({"scenes": ["a"] * 12}, DataError, "1 scene"),
        ({"scenes": "scene"}, DataError, "12 image.s. have no scene"),
        ({"scenes": "places"}, InputError, "unknown scenes 'places'"),
        ({"head": "fit"}, InputError, "cannot be fitted"),
        ({"head": "net"}, InputError, "'auto', 'model' or 'fit'"),
        ({"least": 50}, InputError, "no class has 50 images"),
        ({"overlap": 1.0}, InputError, "overlap 1.0"),
        ({"categories": ["part"]}, InputError, "no concepts of category 'part': it has object"),
        ({"top": 0}, InputError, "top=0"),
        ({"resolution": (0, 5)}, InputError, "resolution"),
        ({"scenes": ["park", "x"] * 6, "head": "model"}, InputError, "by name, but the model has no class names"),
    ],
)
def test_scene_objects_say_what_is_wrong(settings, kind, part):
    with pytest.raises(kind, match=part):
        discovery.scene_objects(Colors(RED_GREEN), scenes()[0], **settings)


# --- concepts ----------------------------------------------------------------------------------------------


def with_concepts(count=40):
    """Noise; a third of the images have a red square, half of them a green one: masks of both."""
    rng = np.random.default_rng(3)
    images = 0.1 * rng.random((count, 3, SIDE, SIDE), np.float32)
    masks = np.zeros((count, 2, SIDE, SIDE), bool)
    for number in range(count):
        for k, there in enumerate((number % 3 == 0, number % 2 == 0)):
            if there:
                x, y = rng.integers(0, SIDE - 7, 2)
                images[number, k, y : y + 7, x : x + 7] = 1
                masks[number, k, y : y + 7, x : x + 7] = True
    return probe_from_arrays(torch.from_numpy(images), masks, ["red square", "green square"])


def test_a_planted_concept_is_found_and_localized():
    probe = with_concepts()
    model = Colors(RED_GREEN)
    result = discovery.find_concepts(model, probe, ["red square", "green square"], folds=4)
    red, green = result.findings.concepts
    assert (red.concept, red.positives, green.positives) == ("red square", 14, 20)
    assert red.chance == pytest.approx(35)
    for row in (red, green):
        assert row.precision.value == 100
        assert row.pointing.value == 100
        assert row.pointing.n == row.positives
        assert row.gt_known.value > 90
        assert row.pointing_chance == pytest.approx(100 * 49 / SIDE**2)
        assert row.pointing_centre.value < 60
    maps = explain.cam(result.subjects["red square"], torch.stack(list(probe.images)[:4]), classes="red square")
    assert maps.exact
    assert maps.name(0) == "red square"
    mask = probe.labels(0, (SIDE, SIDE)).maps == 0
    assert mask.any(0).flatten()[int(maps.values[0, 0].argmax())]


def test_classes_of_labelled_images_are_concepts_too():
    items = [(image * (image > 0.5), label, boxes) for image, label, boxes in cluttered(24)]
    data = localization_from_items(items, ["red", "green"])
    result = discovery.find_concepts(Colors(RED_GREEN), data, ["green"], folds=3)
    (row,) = result.findings.concepts
    assert (row.concept, row.positives) == ("green", 12)
    assert row.precision.value == 100
    assert row.pointing.value == row.gt_known.value == 100
    same = discovery.find_concepts(Colors(RED_GREEN), data, ["1"], folds=3)
    assert same.findings == result.findings


@pytest.mark.parametrize(
    ("concepts", "settings", "part"),
    [
        (["red sqare"], {}, "no concept 'red sqare'; near: red square"),  # codespell:ignore
        ([], {}, "name at least one"),
        (["red square"], {"subset": "a"}, "a probe set has none"),
        (["red square"], {"threshold": -0.1}, "threshold -0.1"),
        (["red square"], {"limit": 3, "folds": 3}, "is shown by 1 of 3 images"),
    ],
)
def test_concepts_say_what_is_wrong(concepts, settings, part):
    with pytest.raises(InputError, match=part):
        discovery.find_concepts(Colors(RED_GREEN), with_concepts(), concepts, **settings)


def test_a_head_needs_a_map():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.mix, self.head = nn.Conv2d(3, 4, 3, stride=3), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.mix(self.trunk(x).flatten(2).transpose(1, 2)).mean(1))

    for call in (
        lambda: discovery.find_concepts(Tokens(), with_concepts(), ["red square"], layer="mix"),
        lambda: discovery.compare_crops(Tokens(), cluttered(10), head="fit", layer="mix"),
        lambda: discovery.scene_objects(Tokens(), scenes()[0], scenes=scenes()[1], layer="mix"),
    ):
        with pytest.raises(ModelError, match="'mix' gives no map"):
            call()
    assert discovery.classify_features(Tokens(), cluttered(10), layer="mix", folds=2).examples == ()


def test_unknown_classes_of_labelled_images():
    with pytest.raises(InputError, match=r"give an index \(0, 1…\)"):
        discovery.find_concepts(Colors(RED_GREEN), cluttered(6), ["dog"])


# --- all jobs ----------------------------------------------------------------------------------------------


def jobs():
    probe, where = scenes()
    return {
        "features": lambda model, **s: discovery.classify_features(model, cluttered(16), folds=2, **s),
        "crops": lambda model, **s: discovery.compare_crops(model, cluttered(16), head="fit", folds=2, **s),
        "scene-objects": lambda model, **s: discovery.scene_objects(
            model, probe, scenes=where, folds=2, least=2, head="fit", resolution=(SIDE, SIDE), **s
        ),
        "concepts": lambda model, **s: discovery.find_concepts(model, with_concepts(16), ["red square"], folds=2, **s),
    }


def same_arrays(first, second):
    assert first.keys() == second.keys()
    for name in first:
        if first[name].dtype.kind == "f":
            assert np.allclose(first[name], second[name], atol=1e-5), name
        else:
            assert (first[name] == second[name]).all(), name


@pytest.mark.parametrize("kind", ["features", "crops", "scene-objects", "concepts"])
def test_the_model_comes_back_and_batches_do_not_matter(kind):
    model = Colors(RED_GREEN, hidden=4 if kind == "features" else 0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    draw = torch.get_rng_state()
    first = jobs()[kind](model, batch_size=16)
    second = jobs()[kind](model, batch_size=3)
    assert torch.equal(torch.get_rng_state(), draw)
    assert [name for name, _ in model.named_modules()] == names
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert first.findings == second.findings
    same_arrays(first.arrays, second.arrays)


@pytest.mark.parametrize("kind", ["features", "crops", "scene-objects", "concepts"])
def test_a_missing_solver_is_told_before_the_passes(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    told = []
    with pytest.raises(DependencyError, match=r"explain-nets\[discovery\]"):
        jobs()[kind](Colors(RED_GREEN), progress=lambda *one: told.append(one))
    assert not told


@pytest.mark.parametrize("kind", ["features", "crops", "scene-objects", "concepts"])
def test_an_interrupted_job_goes_on_where_it_was(kind, tmp_path):
    whole = jobs()[kind](Colors(RED_GREEN), batch_size=4)

    def stop(stage, done, total):
        if (stage, done) == ("features", 8):
            raise KeyboardInterrupt

    kept = Checkpoint(tmp_path / "kept", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        jobs()[kind](Colors(RED_GREEN), batch_size=4, checkpoint=kept, progress=stop)
    told = []
    again = jobs()[kind](Colors(RED_GREEN), batch_size=4, checkpoint=kept, progress=lambda *one: told.append(one))
    assert told[0][:2] == ("features", 12)  # both batches before the interruption were kept
    assert again.findings == whole.findings
    same_arrays(again.arrays, whole.arrays)
    third = []
    jobs()[kind](Colors(RED_GREEN), batch_size=4, checkpoint=kept, progress=lambda *one: third.append(one[0]))
    assert set(third) <= {"labels"}  # nothing is run through the network again


@pytest.mark.parametrize("kind", ["features", "crops", "scene-objects", "concepts"])
def test_a_run_folder_has_everything_and_its_page_can_be_made(kind, tmp_path):
    result = jobs()[kind](Colors(RED_GREEN))
    out = result.save(tmp_path / "run")
    value = json.loads((out / "result.json").read_text())
    assert (value["kind"], value["job"], value["schema"]) == ("discovery", kind, 1)
    assert value["manifest"]["kind"] == "discovery"
    assert value["findings"] == json.loads(json.dumps(result.as_dict()))
    assert len(value["pictures"]) == len(result.examples) > 0
    for picture in value["pictures"]:
        with Image.open(out / picture["file"]) as opened:
            assert opened.format == "WEBP"
    with np.load(out / "arrays" / "records.npz") as stored:
        assert set(stored.files) == set(result.arrays)
    page = explain.render(out).read_text(encoding="utf-8")
    for table in result.tables:
        assert table.title.replace("&", "&amp;") in page
        assert len({len(row) for row in (table.columns, *table.rows)}) == 1
    assert page.count('role="img"') == len(value["pictures"])
    assert "<h1" in page
    with pytest.raises(RunError, match="already holds a run"):
        result.save(out)
    assert kind in repr(result)


def test_names_are_escaped_on_the_page(tmp_path):
    items = [(image * (image > 0.5), label, boxes) for image, label, boxes in cluttered(12)]
    data = localization_from_items(items, ["<b>red</b>", "green & more"])
    out = discovery.find_concepts(Colors(RED_GREEN), data, ["<b>red</b>"], folds=2).save(tmp_path / "run")
    page = explain.render(out).read_text(encoding="utf-8")
    assert "<b>red" not in page
    assert "&lt;b&gt;red" in page
