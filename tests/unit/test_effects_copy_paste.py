"""Copy-paste: planted concepts flip exactly the planted classes; pasting pixel by pixel; who is proposed, and why."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import planted_scenes as scenes
import pytest
import torch
from oracles import pasting as oracle
from PIL import Image
from processes import in_threads

import explain
from explain.data import localization_from_items
from explain.errors import DataError, InputError, ModelError
from explain.nets import Preprocess, Subject
from explain.nets.passes import Work
from explain.neurons import effects, parse
from explain.neurons.effects.clusters import Resampling, clustered_means
from explain.neurons.effects.cutouts import concept_mask, find_cutouts, random_crop, region_of
from explain.neurons.effects.pasting import Cutout, covered, grid_centres, paste, placed_box
from explain.neurons.effects.proposing import find_pairs, positive_leaves
from explain.neurons.effects.removing import emptied, moved_mask
from explain.neurons.effects.trials import ARMS, Slot, make_trials
from explain.neurons.effects.weights import unit_weights
from explain.runs import Checkpoint

PLANTED = {"red": {"red", "orange"}, "green": {"green", "grass"}, "blue": {"blue", "sky"}, "yellow": {"yellow", "sand"}}
"""What the unit of each class names."""


@pytest.fixture(scope="module")
def drawn():
    return scenes.drawn()


@pytest.fixture(scope="module")
def probe(drawn):
    return scenes.probe_of(*drawn)


@pytest.fixture(scope="module")
def planted(probe, drawn):
    subject = scenes.planted()
    run = explain.dissect(subject, "pool", probe, length=1, quantile=0.03, shuffles=0, draws=0)
    return run, scenes.labelled(subject, drawn[0])


QUICK = {"photos": 2, "cutouts": 3, "sizes": (0.5, 0.9), "draws": 200}


@pytest.fixture(scope="module")
def found(planted, probe):
    run, data = planted
    return effects.copypaste(run, data, count=4, probe=probe, remove="inpaint", **QUICK)


# --- the planted network -----------------------------------------------------------------------------------------


def test_planted_concepts_are_proposed_and_flip_their_classes_far_above_controls(planted, probe):
    run, data = planted
    result = effects.copypaste(run, data, count=4, probe=probe, **{**QUICK, "photos": 6, "cutouts": 6}).findings
    assert len(result.pairs) == 4
    for one in result.pairs:
        assert one.concept in PLANTED[one.target_name]
        assert one.units[0].unit == scenes.CLASSES.index(one.target_name)
        assert one.expected > 0
        assert one.controls
        named = {run.units[scenes.CLASSES.index(name)].formula for name in (one.source_name, one.target_name)}
        assert not set(one.controls) & {one.concept, *named}
    concept = result.overall.arm("concept")
    assert concept.success.value > 0.4
    for name in ARMS[1:]:
        assert result.overall.arm(name).success.value < concept.success.value / 4
    assert {name for name, _, _ in result.overall.against} == set(ARMS[1:])
    for _, success, change in result.overall.against:
        assert success.low > 0.05
        assert change.low > 0.1
    for arm in result.overall.arms:
        total = arm.success.value + arm.other.value + arm.source.value + arm.own.value
        assert total == pytest.approx(1)


def test_a_concept_that_the_unit_does_not_look_for_is_not_proposed(planted, probe):
    """A formula that names what its unit is not higher on leads nobody to expect anything of that concept."""
    run, data = planted
    units = tuple(replace(unit, formula="black") if unit.unit == 0 else unit for unit in run.units)
    wrong = replace(effects.open_explained(run), units=units)
    with pytest.raises(DataError, match="is expected to move 'class 2' to 'class 0'|'blue' to 'red'"):
        effects.copypaste(wrong, data, pairs=["2>0"], probe=probe, **QUICK)


def test_taking_the_planted_concept_out_flips_as_well(found):
    removal = found.findings.removal
    assert removal.rows
    for one in removal.rows:
        assert one.concept in PLANTED[one.source_name]
        assert 0.02 <= one.share <= 0.6
    assert removal.left_difference.low > 0
    assert removal.change_difference.low > 0
    assert removal.success.value > removal.control_success.value


def test_a_network_of_random_weights_where_nothing_is_to_be_found(probe, drawn):
    """One network, chosen among four for having no effect: a lack of effect is reported as such. It is no null.

    Units of random networks answer to colours and their heads read them, so two of the four do show effects.
    """
    subject = scenes.random_net(drawn[0], 1)
    run = explain.dissect(subject, "0", probe, length=1, quantile=0.03, shuffles=0, draws=0)
    result = effects.copypaste(run, scenes.labelled(subject, drawn[0]), count=4, probe=probe, **QUICK).findings
    assert result.overall.arm("concept").success.value + result.overall.arm("random crop").other.value > 0
    for _, success, _ in result.overall.against:
        assert success.low <= 0 <= success.high


def test_the_numbers_are_those_of_the_pictures(found, planted, probe):
    """Every record again, by hand: the picture pasted literally, the network run on it."""
    run, data = planted
    arrays, subject = found.arrays, run.subject
    labels = np.array(data.classes)
    rows = np.random.default_rng(0).choice(len(arrays["pair"]), 12, replace=False)
    for row in rows.tolist():
        number = int(arrays["cutout"][row])
        concept = str(arrays["cutout_concept"][number])
        if not concept:  # the place of a random crop is not recorded
            continue
        image = int(arrays["cutout_image"][number])
        size = probe.images[image].height, probe.images[image].width
        mask = region_of(concept_mask(probe, image, size, run.index.cells.number(concept)), "component")
        ys, xs = np.nonzero(mask)
        inside = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
        top, left, height, width = arrays["box"][row].tolist()
        pixels, alpha = (
            np.asarray(Image.fromarray(value).resize((width, height), Image.Resampling.BILINEAR))
            for value in (np.asarray(probe.images[image])[inside], mask[inside].astype(np.uint8) * 255)
        )
        picture = oracle.pasted(np.asarray(data.images[int(arrays["image"][row])]), pixels, alpha, top, left)
        logits = scenes.logits_of(subject, [Image.fromarray(picture)])[0]
        one = found.findings.pairs[int(arrays["pair"][row])]
        assert labels[arrays["image"][row]] == one.source
        assert arrays["logits"][row] == pytest.approx(logits[[one.source, one.target]].numpy(), abs=1e-4)
        assert arrays["predicted"][row] == int(logits.argmax())
        share = oracle.covered_share(alpha, top, left, (112, 112))
        assert arrays["share"][row] == pytest.approx(share)


def test_rates_are_counted_from_the_records(found):
    arrays = found.arrays
    for number, one in enumerate(found.findings.pairs):
        for arm, name in enumerate(ARMS):
            own = (arrays["pair"] == number) & (arrays["arm"] == arm)
            assert one.counted.arm(name).success.value == pytest.approx((arrays["predicted"][own] == one.target).mean())
            assert one.counted.arm(name).success.n == own.sum()
        assert one.counted.trials == one.counted.images * one.counted.cutouts * 2 * 4


def test_controls_lie_in_the_same_places_and_cover_as_much(found):
    arrays = found.arrays
    first, other, crop = (np.flatnonzero(arrays["arm"] == arm) for arm in range(3))
    assert (arrays["box"][first] == arrays["box"][crop]).all()
    assert arrays["share"][first] == pytest.approx(arrays["share"][crop])
    middle = arrays["box"][:, :2] + arrays["box"][:, 2:] / 2
    assert np.abs(middle[first] - middle[other]).max() <= 1
    inside = (arrays["box"][other, :2] >= 0).all(1) & (arrays["box"][other, :2] + arrays["box"][other, 2:] <= 112).all(
        1
    )
    inside &= (arrays["box"][first, :2] >= 0).all(1) & (arrays["box"][first, :2] + arrays["box"][first, 2:] <= 112).all(
        1
    )
    assert inside.any()
    assert arrays["share"][first][inside] == pytest.approx(arrays["share"][other][inside], rel=0.15)


# --- pasting -----------------------------------------------------------------------------------------------------


def random_cutout(rng, height, width):
    pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Cutout(pixels, (rng.random((height, width)) < 0.7).astype(np.uint8) * np.uint8(255), 0, "x")


@pytest.mark.parametrize(
    "box", [(2, 3, 6, 5), (-3, 4, 6, 5), (9, 13, 6, 5), (-20, 0, 6, 5), (1, 1, 9, 11), (-2, -2, 30, 40)]
)
def test_pasting_pixel_by_pixel(box):
    rng = np.random.default_rng(1)
    photo = rng.integers(0, 256, (14, 17, 3)).astype(np.uint8)
    kept, cutout = photo.copy(), random_cutout(rng, 6, 5)
    found = paste(photo, cutout, box)
    size = box[3], box[2]
    pixels, alpha = (
        np.asarray(Image.fromarray(value).resize(size, Image.Resampling.BILINEAR))
        for value in (cutout.pixels, cutout.alpha)
    )
    assert (found == oracle.pasted(photo, pixels, alpha, *box[:2])).all()
    assert (photo == kept).all()
    assert covered(photo.shape[:2], cutout, box) == pytest.approx(oracle.covered_share(alpha, *box[:2], photo.shape))


def test_blended_edges_are_soft_and_seamless_ones_take_the_photos_colour():
    photo, pixels = np.full((40, 40, 3), 50, np.uint8), np.full((20, 20, 3), 200, np.uint8)
    pixels[10, 10] = 255
    cutout = Cutout(pixels, np.full((20, 20), 255, np.uint8), 0, "x")
    hard, soft, none = (
        paste(photo, cutout, (10, 10, 20, 20), blend)[20, :, 0].astype(int) for blend in ("none", "feather", "seamless")
    )
    assert hard[9:12].tolist() == [50, 200, 200]
    assert soft[10:13].tolist() == [125, 200, 200]  # a rim of two pixels, at one and two from the ground
    assert none[[12, 28]].tolist() == [50, 50]
    assert none[20] > 90
    outside = paste(photo, cutout, (60, 60, 20, 20), "seamless")
    assert (outside == photo).all()


def test_grid_geometry():
    assert grid_centres(1) == [(0.5, 0.5)]
    assert grid_centres(2) == [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]
    assert placed_box((10, 20), 2.0, (100, 200), (0.5, 0.25)) == (40, 30, 20, 40)
    assert placed_box((3, 1), 0.1, (10, 10), (0.5, 0.5)) == (5, 5, 1, 1)
    rng = np.random.default_rng(0)
    concept, other, crop = (random_cutout(rng, *shape) for shape in ((8, 4), (4, 4), (8, 4)))
    crop = replace(crop, alpha=concept.alpha)
    slots = [Slot((concept, other, crop)), Slot((concept, None, crop))]
    trials = make_trials([slots], [[1, 0]], [(40, 80), (60, 50)], sizes=(0.5, 1.0), positions=2, blend="none")
    assert len(trials) == 2 * 2 * 4 * 3 + 2 * 2 * 4 * 2
    assert len(trials.cutouts) == 3
    assert trials.trial.max() + 1 == 2 * 2 * 2 * 4
    first = (trials.image == 1) & (trials.arm == 0) & (trials.trial < 8)
    assert trials.box[first][:, 2:].tolist() == [[25, 13]] * 4 + [[50, 25]] * 4
    assert trials.box[first][0].tolist() == [3, 6, 25, 13]
    area = other.area * (trials.box[1, 2] / 4) * (trials.box[1, 3] / 4)
    assert area == pytest.approx(concept.area * (25 / 8) ** 2, rel=0.1)


def test_cutouts_are_the_largest_parts_of_the_concepts_and_crops_have_their_shape(probe, drawn):
    number = [concept.name for concept in probe.concepts].index("blue")
    order = np.random.default_rng(0).permutation(len(probe)).tolist()
    cutouts = find_cutouts(probe, number, order, 3)
    assert len(cutouts) == 3
    for one in cutouts:
        mask = drawn[1][one.image][1] == len(scenes.OBJECTS) + list(scenes.COLORS).index("blue") + 1
        assert 0.01 * mask.size <= one.area <= mask.sum()
        assert one.alpha.any(0).all() or one.alpha.any(0)[[0, -1]].all()
        assert one.alpha.any(1)[[0, -1]].all()
        photo = np.asarray(probe.images[one.image])
        blue = one.pixels[one.alpha > 0]
        assert len(blue) == one.area
        assert (photo[mask].min(0) <= blue.min(0)).all()
        crop = random_crop(probe, 0, one, np.random.default_rng(1))
        assert (crop.alpha == one.alpha).all()
        assert crop.pixels.shape == one.pixels.shape
    assert sum(one.area for one in find_cutouts(probe, number, order, 3, region="whole")) >= sum(
        one.area for one in cutouts
    )
    tall = Cutout(np.zeros((150, 10, 3), np.uint8), np.full((150, 10), 255, np.uint8), 0, "x")
    assert random_crop(probe, 0, tall, np.random.default_rng(1)).pixels.shape == (150, 10, 3)


def test_regions_are_taken_out_and_moved():
    photo = np.zeros((20, 30, 3), np.uint8)
    photo[:, 15:] = 100
    mask = np.zeros((20, 30), bool)
    mask[5:9, 4:10] = True
    photo[mask] = 250
    assert (emptied(photo, mask, "inpaint")[mask] < 5).all()
    rest = photo[~mask].mean(0)
    assert (emptied(photo, mask, "mean")[mask] == np.floor(rest + 0.5)).all()
    assert (emptied(photo, mask, "mean")[~mask] == photo[~mask]).all()
    moved = moved_mask(mask, np.random.default_rng(0))
    assert moved.sum() == mask.sum()
    assert not (moved & mask).any()
    full = np.ones((4, 4), bool)
    assert (moved_mask(full, np.random.default_rng(0)) == full).all()


# --- proposals, weights, intervals --------------------------------------------------------------------------------


def test_positive_leaves():
    assert positive_leaves(parse("(a OR b) AND NOT c")) == ("a", "b")
    assert positive_leaves(parse("NOT (a AND NOT b)")) == ("b",)
    assert positive_leaves(parse("a AND a")) == ("a",)


def test_pairs_share_out_sources_and_targets():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(5, 7))
    margins = {label: rng.random(5) for label in (0, 2)}
    found = find_pairs(scores, margins, np.ones(7, bool), 4, 1.0)
    assert sorted(source for source, _ in found) == [0, 0, 2, 2]
    assert len({target for _, target in found}) == 4
    left = {(a, b): (scores[b] - scores[a]).max() - margins[a][b] for a in margins for b in range(5) if a != b}
    assert found[0] == max(left, key=left.get)
    assert len(find_pairs(scores, margins, np.ones(7, bool), 50, 1.0)) == 8
    with pytest.raises(DataError, match="no concept in the formulas"):
        find_pairs(np.zeros((5, 7)), margins, np.ones(7, bool), 4, 1.0)


@pytest.mark.parametrize("hidden", [False, True])
def test_weights_are_the_heads_or_derivatives(hidden, drawn):
    class Net(scenes.Colors):
        def forward(self, x):
            pooled = self.pool(self.conv(x).relu()).mean((2, 3))
            return self.fc(pooled.square() if hidden else pooled)

    subject = Subject(Net().eval(), scenes.PLAIN, name="net")
    images = drawn[0][:8]
    batch = torch.stack([subject.transform(image) for image in images])
    (layer,) = explain.neurons.units.find_layers(subject, batch[:1], ["pool"])
    found = unit_weights(subject, layer, images)
    assert found.exact == (not hidden)
    expected = subject.model.fc.weight.detach().double()
    if hidden:  # d(w a^2) / da = 2 w a
        means = subject.model.pool(subject.model.conv(batch).relu()).mean((2, 3)).detach().double()
        expected = (2 * expected[None] * means[:, None]).mean(0)
    assert found.values == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-6)
    assert all(value.grad is None for value in subject.model.parameters())


def test_intervals_are_of_the_pigeonhole_bootstrap():
    rng = np.random.default_rng(3)
    first, second = np.repeat(np.arange(4), 6), np.tile(np.arange(3), 8)
    values = rng.normal(size=24) + first + 2 * second
    (found,) = clustered_means(values[:, None], first, second, Resampling(4000, 0))
    literal = np.quantile(oracle.pigeonhole_means(values, first.tolist(), second.tolist(), 1500, 1), [0.025, 0.975])
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(literal, abs=0.15)
    (alone,) = clustered_means(values[:2, None], first[:2], second[:1].repeat(2), Resampling(10, 0))
    assert (alone.low, alone.high) == (None, None)
    assert alone.text() == f"{100 * values[:2].mean():.1f}"


# --- the job -----------------------------------------------------------------------------------------------------


def same(one, other):
    assert one.findings == other.findings
    assert one.arrays.keys() == other.arrays.keys()
    for name, values in one.arrays.items():
        assert (values == other.arrays[name]).all(), name


def test_a_resumed_job_and_one_of_two_processes_are_the_same(planted, probe, tmp_path):
    run, data = planted
    options = {"pairs": ["blue > red"], "probe": probe, "photos": 1, "cutouts": 2, "sizes": (0.5,), "draws": 50}

    def job(**work):
        return effects.copypaste(run, data, **options, work=Work(4, **work))

    whole = job()
    told = []

    def stop(name, done, total):
        told.append(name)
        if name == "pasted" and done > 8:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path, seconds=0)
    with pytest.raises(KeyboardInterrupt):
        job(checkpoint=checkpoint, progress=stop)
    again = []
    same(whole, job(checkpoint=checkpoint, progress=lambda name, done, total: again.append(name)))
    assert "probe" in told
    assert "probe" not in again
    for part in in_threads(2, lambda world: job(world=world)):
        same(whole, part)


def test_other_networks_are_shown_the_same_pictures(planted, probe):
    run, data = planted
    with torch.random.fork_rng():
        torch.manual_seed(0)
        twin = replace(scenes.planted(), name="twin")
        weak = scenes.planted()
        weak.model.fc.weight.data.neg_()
    options = {"pairs": ["blue>red"], "probe": probe, **QUICK}
    result = effects.copypaste(run, data, models_too=[twin, replace(weak, name="weak")], **options)
    first, second = result.findings.transfer
    assert (first.model, first.images, first.of) == ("twin", first.of, first.of)
    for own, other in zip(first.counted.arms, result.findings.overall.arms, strict=True):
        assert (own.success, own.source, own.share) == (other.success, other.source, other.share)
        assert own.change.value == pytest.approx(other.change.value, abs=1e-4)
    assert second.images < second.of
    assert (result.arrays["other0-predicted"] == result.arrays["predicted"]).all()
    text = result.table()
    assert f"twin ({first.of} of {first.of} photos right)" in text


def test_a_run_folder_holds_tables_and_pictures(found, tmp_path):
    folder = found.save(tmp_path / "run")
    value = json.loads((folder / "effects.json").read_text())
    assert (value["kind"], value["job"]) == ("effects", "copypaste")
    assert len(value["pictures"]) == len(found.findings.pairs) + len(found.findings.removal.rows)
    for picture in value["pictures"]:
        with Image.open(folder / picture["file"]) as opened:
            assert opened.width > 700
    first = value["findings"]["pairs"][0]
    assert first["concept"] in value["tables"][0]["rows"][0]
    assert first["counted"]["arms"][0]["success"]["n"] > 0
    assert any("2.9 % success" in note for note in value["notes"])


def test_bad_input_is_one_line(planted, probe, drawn):
    run, data = planted
    pictures, masks = drawn

    def refused(match, kind=InputError, run=run, data=data, **options):
        with pytest.raises(kind, match=match) as caught:
            effects.copypaste(run, data, **{"probe": probe, "draws": 10, "photos": 1, "cutouts": 1, **options})
        assert "\n" not in str(caught.value)

    refused("pair 'red': give SOURCE>TARGET", pairs=["red"])
    refused("unknown class 'blu'; near: blue", pairs=["blu>red"])
    refused("class 9 does not exist", pairs=["red>9"])
    refused("names one class twice", pairs=["red>red"])
    refused("unknown concept 'blu'", concepts=["blu"])
    refused("no unit's formula names 'bird'", concepts=["bird"])
    refused("unknown blend 'soft'", blend="soft")
    refused("unknown region 'box'", region="box")
    refused("unknown fill 'grey'", remove="grey")
    refused("sizes \\[0.0\\]", sizes=[0.0])
    refused("photos=0", photos=0)
    refused("does not say where its probe set 'arrays' lies", DataError, probe=None)
    other = scenes.probe_of(pictures[:5], masks[:5])
    refused("is not the probe set that the run was made with", DataError, probe=other)
    wrong = replace(data, classes=tuple((label + 1) % 4 for label in data.classes))
    refused("is right on none of \\d+ photos", data=wrong, pairs=["blue>red"])
    reds = data.select([number for number, label in enumerate(data.classes) if label == 0])
    refused("no photo of class 'blue'", data=reds, pairs=["blue>red"])
    tensors = localization_from_items([(torch.rand(3, 56, 56), 0, None)] * 2)
    refused("preprocessed tensors: give pictures", data=tensors)
    five = Subject(
        torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval(),
        Preprocess((56, 56)),
        name="five",
    )
    refused("five has 5 classes", models_too=[five], pairs=["blue>red"])
    refused("unknown model 'resnet5'", ModelError, models_too=["resnet5"])
    moved = replace(effects.open_explained(run), data={"name": "there", "path": "/nowhere/x", "hash": "0"})
    refused("'there' is not at /nowhere/x any more: give its folder with --probe", DataError, run=moved, probe=None)


def test_a_concept_that_no_image_shows_enough_of_is_said(planted, probe):
    run, data = planted
    units = tuple(replace(unit, formula="bird") for unit in run.units)
    small = replace(effects.open_explained(run), units=units)
    with pytest.raises(DataError, match="no concept that formulas name and arrays shows on 1% of an image"):
        effects.copypaste(small, data, pairs=["blue>red"], probe=probe, draws=10)
