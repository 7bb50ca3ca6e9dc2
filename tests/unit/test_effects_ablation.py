"""Ablation: closed forms against literal re-runs, planted units found, nothing found in random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import planted_effects as planted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ablation as oracle
from processes import in_threads
from torch import nn

import explain
from explain.data import localization_from_items, probe_from_arrays
from explain.data.scenes import draw_scene
from explain.errors import InputError
from explain.nets.passes import Work
from explain.neurons import effects, parse
from explain.neurons._overtaking import winners
from explain.neurons.effects.grouping import asserted, matched_groups, units_naming
from explain.neurons.effects.measuring import Asked, find_stage, measure_groups, measure_units, observe_images
from explain.neurons.effects.opening import open_explained
from explain.neurons.effects.preparing import open_job
from explain.neurons.effects.presence import formulas_hold
from explain.neurons.effects.replacing import Forced, donors_of, parse_places
from explain.runs import Checkpoint

SIZE = (planted.SIDE, planted.SIDE)
HOWS = ("zero", "mean", "resample", "insert", "scale")


def dissected(net, probe=None, layer=None):
    return explain.dissect(
        net, layer, probe or planted.probe(), length=2, quantile=0.1, resolution=SIZE, shuffles=0, draws=0
    )


@pytest.fixture(scope="module")
def run():
    return dissected(planted.Planted())


class Residual(nn.Module):
    """Two blocks that add their input, so that the tail after a layer in the middle reads more than its output."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.norm(self.one(x)).relu()
        x = x + self.two(x).relu()
        return self.fc(x.square().mean((2, 3)))


class Gap(nn.Module):
    """A head that is affine in the mean of ``act``."""

    def __init__(self, classes=4, units=6, seed=5):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.act, self.fc = nn.Conv2d(3, units, 3, stride=2), nn.ReLU(), nn.Linear(units, classes)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


class Vectors(nn.Module):
    """Units that are no maps: the tail cannot be recorded, and the network is run again."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.hidden, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.hidden(self.conv(x).relu().mean((2, 3))).relu())


@cache
def run_of(net, layer):
    """A neuron run, made once for all ways to replace."""
    return dissected(net().eval(), layer=layer)


def measured(run, how, groups, items, batch_size=5):
    """Return outcomes of single units and of groups, the stage, and the images."""
    job = open_job(run, items)
    stage = find_stage(job.subject, job.layer, job.data.images)
    observed = observe_images(stage, job.data.images, job.labels, "o", Work(batch_size))
    places = np.zeros(stage.layer.grid, bool)
    places.flat[: max(1, places.size // 2)] = True
    levels = np.linspace(0.1, 1.0, stage.layer.total).astype(np.float32)
    donors = donors_of(len(items), 3)
    asked = Asked(how, donors=donors, forced=Forced(places, levels), factor=0.5)
    masks = np.zeros((len(groups), stage.layer.total), bool)
    for row, units in zip(masks, groups, strict=True):
        row[list(units)] = True
    images, work = job.data.images, Work(batch_size)
    units = np.arange(stage.layer.total)
    single = measure_units(stage, observed, images, units, asked, work, "u")
    several = measure_groups(stage, observed, images, masks, asked, work, "g")
    extra = {"donors": donors, "places": places, "levels": levels, "factor": 0.5}
    return single, several, stage, observed, images, extra


def agrees(outcome, number, expected, observed):
    rows = np.arange(len(expected))
    before = observed.logits.astype(float)
    size = np.abs(before).max()
    for values, classes in ((outcome.label, observed.labels), (outcome.own, observed.predicted)):
        change = expected[rows, classes] - before[rows, classes]
        np.testing.assert_allclose(values[:, number], change, atol=1e-5 * size)
    gap = np.sort(expected, 1)
    sure = gap[:, -1] - gap[:, -2] > 1e-5 * size
    assert (outcome.predicted[sure, number] == expected.argmax(1)[sure]).all()
    assert sure.mean() > 0.9


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("net", "layer", "closed", "replays"),
    [
        (Gap, "act", True, True),
        (planted.Planted, "early", False, True),
        (Residual, "one", False, True),
        (Residual, "norm", False, True),
        (Vectors, "hidden", False, False),
    ],
)
def test_every_way_gives_what_literal_reruns_give(net, layer, closed, replays, how):
    run = run_of(net, layer)
    model = run.subject.model
    total = len(run.units)  # of most units, closed forms sum the others
    groups, items = [(0, 1), (0, 1, 2), tuple(range(1, total)), tuple(range(total))], planted.noise(9)
    single, several, stage, observed, images, extra = measured(run, how, groups, items)
    assert (stage.weights is not None, stage.replays) == (closed, replays)
    place = model.get_submodule(layer)
    units = [(unit,) for unit in range(stage.layer.total)]
    for edits, outcome in ((units, single), (groups, several)):
        for number, edit in enumerate(edits):
            agrees(outcome, number, oracle.ablated(model, place, images, edit, how, **extra), observed)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 9))
def test_the_loop_over_classes_stops_early_and_is_right(seed, classes, units):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 4, (5, classes)).astype(float)  # whole numbers: ties are common
    weights = rng.integers(-2, 3, (units, classes)).astype(float)
    shifts = rng.integers(-3, 4, (5, units)).astype(float)
    order = np.argsort(-logits, 1, kind="stable")
    found = np.full(shifts.shape, -1, np.int32)
    winners(logits, order, weights, weights.max(1), weights.min(1), shifts, found, 0, 5)
    assert np.array_equal(found, oracle.winners(logits, weights, shifts))


# --- planted units, and random weights ---------------------------------------------------------------------------


def test_planted_units_are_found_and_no_others(run):
    """The head of the planted network uses units 0, 1 and 2."""
    options = {
        "top": 2,
        "least": 5,
        "concepts": ["green"],
        "draws": 200,
        "probe": probe_from_arrays(*planted.probe(24)),
    }
    found = effects.ablation(run, planted.labelled(180), **options).findings
    assert found.closed
    assert found.accuracy.value > 95
    used, idle = range(3), range(3, planted.UNITS)
    assert [unit for unit, row in found.units.items() if row.effects["zero"].q < 0.05] == list(used)
    for unit in used:
        effect = found.units[unit].effects["zero"]
        assert effect.accuracy.high < 0
        assert effect.logit.high < 0
        assert effect.hurt[0] == unit  # class k looks for colour k
    for unit in idle:
        effect = found.units[unit].effects["zero"]
        assert (effect.accuracy.value, effect.logit.value, effect.changed) == (0, 0, 0)
    assert found.found == {"zero": 3}
    for row in found.classes:
        assert row.label in row.units
        assert row.removed.value < row.before.value
        assert row.balanced_removed < row.balanced_removed_random - 5
    most = next(group for group in found.groups if "labels rest on" in group.name and not group.kept)
    assert set(most.units) <= set(used)
    assert most.versus.difference.high < 0
    concept = {unit: row.concept for unit, row in found.units.items()}
    assert concept[0].difference.high < 0
    assert concept[5].difference.value == 0  # red AND NOT green, which the head does not use
    assert concept[4] is None  # it has no formula
    few = effects.ablation(run, planted.labelled(18), draws=10, probe=probe_from_arrays(*planted.probe(4))).findings
    assert all(unit.concept is None or unit.concept.difference is None for unit in few.units.values())


def scene_net():
    """Drawn scenes' most frequent objects as channels, labelled by the largest of them."""
    rng = np.random.default_rng(5)
    drawn = [draw_scene(rng).masks["mask"][::14, ::14] for _ in range(40)]
    ids = np.argsort(-np.bincount(np.stack(drawn).ravel(), minlength=2)[1:], kind="stable")[:3] + 1
    masks = np.stack([np.stack([scene == value for value in ids]) for scene in drawn])
    return masks, masks.sum((2, 3)).argmax(1)


def test_units_of_drawn_scenes_that_the_head_uses_are_found():
    masks, labels = scene_net()
    images = torch.from_numpy(masks.astype(np.float32))
    names = ["first", "second", "third"]
    net = planted.Planted(head=np.eye(3, planted.UNITS))
    run = dissected(net, (images, masks, names))
    items = [(image, int(label), None) for image, label in zip(images, labels, strict=True)]
    found = effects.ablation(run, items, replace=["zero", "resample"], least=3, draws=100).findings
    classes = set(labels.tolist())
    hurt = {unit for unit, row in found.units.items() if row.effects["zero"].accuracy.high < 0}
    assert hurt and hurt <= classes
    assert all(found.units[unit].effects["zero"].changed == 0 for unit in range(3, planted.UNITS))


def test_nothing_is_found_in_random_weights():
    net = Gap(classes=3, units=24, seed=2).eval()
    items = planted.noise(90)
    run = dissected(net, layer="act")
    found = effects.ablation(run, items, replace=["zero", "mean", "resample"], top=4, seed=1).findings
    assert found.found == {"zero": 0, "mean": 0, "resample": 0}
    for group in found.groups:
        assert group.versus.difference.low <= 0 <= group.versus.difference.high
        assert group.accuracy.low <= 0 <= group.accuracy.high
    assert all(40 < row.balanced_removed < 60 for row in found.classes)


# --- groups, places, presence ------------------------------------------------------------------------------------


def test_concepts_that_formulas_ask_for(run):
    assert asserted(parse("a AND NOT (b OR NOT c)")) == {"a", "c"}
    assert asserted(parse("(a OR b) AND NOT a")) == {"a", "b"}
    explained = open_explained(run)
    asking, refusing = units_naming(explained, "red")
    formulas = {unit.unit: unit.formula for unit in explained.units}
    assert asking.tolist() == [0, 3, 5]
    assert refusing.tolist() == [unit for unit, text in formulas.items() if text and "NOT red" in text]
    with pytest.raises(InputError, match="unknown concept 'gren'"):
        units_naming(explained, "gren")


def test_random_groups_are_alike_and_without_repeats():
    pool, rng = np.arange(100), np.random.default_rng(0)
    measure = np.arange(100.0)
    units = np.array([3, 50, 97])
    groups = matched_groups(units, pool, measure, 30, rng)
    assert len({tuple(group.tolist()) for group in groups}) > 20
    for group in groups:
        assert len(set(group.tolist()) | set(units.tolist())) == 6
        assert np.abs(np.sort(group) - units).max() <= 11
    assert matched_groups(np.arange(60), pool, measure, 5, rng) == ()
    tight = matched_groups(np.arange(50), pool, measure, 2, rng)  # all that is left is taken
    assert [group.tolist() for group in tight] == [list(range(50, 100))] * 2


def test_places_and_donors():
    assert parse_places("all", (2, 3)).all()
    assert parse_places("centre", (4, 4)).sum() == 4
    assert parse_places("0,0,0.5,1", (4, 2)).tolist() == [[True, True], [True, True], [False, False], [False, False]]
    for text, part in (("middle", "give all, centre"), ("0,0,0.1,0.1", "hold no cell"), ("1,2,3", "give all, centre")):
        with pytest.raises(InputError, match=part):
            parse_places(text, (4, 4))
    donors = donors_of(9, 4)
    assert sorted(donors.tolist()) == list(range(9))
    assert (donors != np.arange(9)).all()
    assert np.array_equal(donors, donors_of(9, 4))


def test_images_where_a_formula_holds():
    masks, _ = planted.colours(10, 3)
    probe = probe_from_arrays(planted.painted(masks, 3), masks, planted.NAMES)
    texts = ["red", "red AND green", "blue AND NOT red", "NOT blue"]
    found = formulas_hold(probe, [parse(text) for text in texts], SIZE, Work())
    red, green, blue = masks.transpose(1, 0, 2, 3)
    for column, mask in zip(found.T, (red, red & green, blue & ~red, ~blue), strict=True):
        assert np.array_equal(column, mask.any((1, 2)))
    with pytest.raises(InputError, match="unknown concept 'violet'"):
        formulas_hold(probe, [parse("violet")], SIZE, Work())


# --- jobs --------------------------------------------------------------------------------------------------------


def as_data(result):
    return json.dumps(result.as_dict(), sort_keys=True)


@pytest.mark.parametrize(("net", "layer"), [(planted.Planted, None), (Residual, "one")])
def test_processes_and_interruptions_change_nothing(net, layer, tmp_path, monkeypatch):
    run, items = dissected(net(), layer=layer), planted.noise(14)
    options = {"replace": ["resample", "mean"], "top": 2, "controls": 2, "draws": 20, "least": 3}
    whole = as_data(effects.ablation(run, items, work=Work(4), **options))

    nets = [net(), net()]  # not in the threads, which share the generator that draws their weights

    def job(world):
        own = dissected(nets[world.rank], layer=layer)
        return as_data(effects.ablation(own, items, work=Work(4, world=world), **options))

    assert in_threads(2, job) == [whole, whole]
    monkeypatch.setattr(Checkpoint, "due", lambda self, name: self.folder is not None)

    class Stopped(Exception):
        pass

    def stop(name, done, total):
        if name == "probe" and done >= 4:
            raise Stopped

    checkpoint = Checkpoint(tmp_path / "kept")
    with pytest.raises(Stopped):
        effects.ablation(run, items, work=Work(4, checkpoint=checkpoint, progress=stop), **options)
    told = []
    work = Work(4, checkpoint=checkpoint, progress=lambda *row: told.append(row[0]))
    assert as_data(effects.ablation(run, items, work=work, **options)) == whole
    assert "observed" not in told


def test_the_network_comes_back_as_it_was(run):
    for net, layer in ((planted.Planted(), None), (Residual(), "one"), (Vectors(), "hidden")):
        net.train()
        own, before = dissected(net, layer=layer), {key: value.clone() for key, value in net.state_dict().items()}
        effects.ablation(own, planted.noise(6), top=2, controls=1, draws=10)
        assert all(module.training for module in net.modules())
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
        assert all(value.grad is None for value in net.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_trained_photos_and_their_subsets(run):
    items = planted.labelled(30)
    data = localization_from_items(items)
    told = effects.ablation(run, data, trained="all", draws=10).notes
    assert any("was trained on these photos" in text for text in told)
    split = replace(data, subsets=("train",) * 20 + ("val",) * 10)
    found = effects.ablation(run, split, trained="train", top=2, draws=10)
    group = found.findings.groups[0]
    assert (group.seen.n, group.unseen.n) == (20, 10)
    assert group.accuracy.worse == group.seen.worse + group.unseen.worse
    assert any("on photos" in table.title for table in found.tables)
    some = effects.ablation(run, split, subset="val", draws=10).findings
    assert some.images == 10


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"replace": "nothing"}, "unknown replacement 'nothing'"),
        ({"replace": []}, "give at least one"),
        ({"replace": ["zero", "zero"]}, "each once"),
        ({"top": 0}, "top=0"),
        ({"match": "size"}, "unknown match 'size'"),
        ({"level": "high"}, "unknown level 'high'"),
        ({"places": "left"}, "places 'left'"),
        ({"concepts": ["violet"]}, "unknown concept 'violet'"),
        ({"classes": [7]}, "class 7 does not exist"),
        ({"classes": ["cat"]}, "class 'cat' given by name"),
        ({"units": [9]}, "unit 9 was not explained"),
        ({"trained": "val"}, "no subset 'val'"),
        ({"replace": "resample", "limit": 1}, "there is only one"),
    ],
)
def test_bad_input_is_said_in_one_line_before_any_pass(run, options, part):
    told = []
    with pytest.raises(InputError) as caught:
        effects.ablation(run, planted.labelled(18), work=Work(progress=lambda *row: told.append(row)), **options)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert told == []


def test_formulas_without_images_are_told(run):
    masks, _ = planted.colours(6, 3)
    masks[:] = False
    empty = probe_from_arrays(planted.painted(masks, 3), masks, planted.NAMES)
    with pytest.raises(InputError, match="no image of arrays satisfies"):
        effects.ablation(run, planted.labelled(18), probe=empty, draws=10)
    masks[:, 0, :4] = True
    only_red = probe_from_arrays(planted.painted(masks, 3), masks, planted.NAMES)
    found = effects.ablation(run, planted.labelled(18), probe=only_red, draws=10)
    assert any("hold in no image" in text for text in found.warnings)
    assert found.findings.units[1].concept.changed_holds is None
    other = probe_from_arrays(planted.painted(masks, 3), masks, ["sky", "sea", "sand"])
    with pytest.raises(InputError, match="unknown concept"):
        effects.ablation(run, planted.labelled(18), probe=other)
