"""Faithfulness: known answers, literal oracles, controls, and what must not change."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_maps import saliency
from oracles import faithfulness as literal
from torch import nn

import explain
from explain.errors import InputError, ModelError
from explain.saliency.controls import control_maps, ranked
from explain.saliency.faithfulness import faithfulness
from explain.saliency.faithfulness_result import METRICS, estimate, share
from explain.saliency.imputation import baseline_of, blurred, impute


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Pixels(nn.Module):
    """Two classes: the logit of class 0 is ``gain`` times the mean of the chosen pixels, that of class 1 is 0."""

    def __init__(self, chosen, gain=4.0):
        super().__init__()
        self.weight = nn.Parameter(chosen.float() / chosen.sum())
        self.gain = gain
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        score = self.gain * (x.mean(1) * self.weight).sum((1, 2))
        return torch.stack([score, torch.zeros_like(score)], 1)


def small(seed=0, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, classes)
    ).eval()


def made(b=2, k=2, grid=(8, 8), size=(8, 8), seed=3):
    maps = saliency(noise(b, k, *grid, seed=seed), size=size)
    return replace(maps, classes=torch.arange(k).expand(b, k).clone())


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


# --- known answers --------------------------------------------------------------------------------------------

CHOSEN = torch.zeros(4, 4)
CHOSEN[1, :] = 1


def test_areas_by_hand():
    """Four pixels decide. In the right order they go first: p falls by known steps, then stays at 1/2."""
    model, x = Pixels(CHOSEN), torch.ones(1, 3, 4, 4)
    right = saliency(CHOSEN[None, None] * torch.arange(1.0, 5.0))
    found = faithfulness(model, x, right, ["deletion", "insertion"], steps=16, insertion_baseline="zero", controls=[])
    falling = [sigmoid(4), sigmoid(3), sigmoid(2), sigmoid(1), *[0.5] * 13]
    curve = found.curves["deletion"]
    assert curve.fractions.tolist() == [n / 16 for n in range(17)]
    assert curve.probabilities[0, 0].tolist() == pytest.approx(falling)
    area = (sum(falling) - falling[0] / 2 - falling[-1] / 2) / 16
    assert float(found.scores["deletion"]) == pytest.approx(area)
    rising = [0.5, sigmoid(1), sigmoid(2), sigmoid(3), *[sigmoid(4)] * 13]
    assert float(found.scores["insertion"]) == pytest.approx((sum(rising) - rising[0] / 2 - rising[-1] / 2) / 16)
    wrong = faithfulness(model, x, saliency(-right.values), "deletion", steps=16, controls=[])
    assert float(wrong.scores["deletion"]) > 0.9
    assert float(found.scores["deletion"]) < 0.6


def test_drop_and_increase_by_hand():
    model, x = Pixels(CHOSEN), torch.ones(2, 3, 4, 4)
    x[1, :, 1] = -1  # here the chosen pixels speak against the class
    half = CHOSEN * 1.0
    half[1, 2:] = 0.5
    maps = saliency(torch.stack([torch.stack([half, -half]), torch.stack([half, -half])]))
    found = faithfulness(model, x, maps, ["average_drop", "increase"], controls=[])
    # masked by 1 1 .5 .5 the mean of the four pixels is .75; a map without positive values hides everything
    y, o = sigmoid(4), sigmoid(3)
    drop = found.scores["average_drop"]
    assert drop[0].tolist() == pytest.approx([100 * (y - o) / y, 100 * (y - 0.5) / y], rel=1e-5)
    assert drop[1].tolist() == [0, 0]
    assert found.scores["increase"].tolist() == [[0, 0], [100, 100]]
    assert found.mean("increase").mean == 50
    everything = faithfulness(model, x, saliency(torch.full((2, 1, 4, 4), 0.3)), ["average_drop", "increase"])
    for metric in ("average_drop", "increase"):  # nothing is hidden: no drop, and no increase either
        assert everything.scores[metric].tolist() == [[0], [0]]
    assert found.probabilities[:, 0].tolist() == pytest.approx([sigmoid(4), sigmoid(-4)])


def test_road_by_hand():
    """Where everything but one row is one constant, imputing that row restores the constant."""
    model = Pixels(CHOSEN)
    x = torch.zeros(1, 3, 4, 4)
    x[:, :, 1] = 1
    maps = saliency(CHOSEN[None, None] * torch.arange(1.0, 5.0))
    found = faithfulness(model, x, maps, "road", fractions=[0.25], noise=0, controls=[])
    assert found.curves["road_morf"].probabilities.flatten().tolist() == pytest.approx([0.5], abs=1e-4)
    assert found.curves["road_lerf"].probabilities.flatten().tolist() == pytest.approx([sigmoid(4)])
    assert float(found.scores["road"]) == pytest.approx((sigmoid(4) - 0.5) / 2, abs=1e-4)


# --- literal oracles ------------------------------------------------------------------------------------------


def probability(model, number):
    def of(image):
        with torch.no_grad():
            return float(model(torch.from_numpy(image[None]).float()).softmax(1)[0, number])

    return of


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
@pytest.mark.parametrize("batch_size", [5, 64])
def test_curves_against_the_oracle(baseline, batch_size):
    model, x, maps = small(), noise(2, 3, 8, 8), made()
    found = faithfulness(
        model, x, maps, steps=10, baseline=baseline, batch_size=batch_size, noise=0, fractions=[0.3, 0.8], controls=[]
    )
    behind = baseline_of(x, baseline).numpy()
    blur = blurred(x).numpy()
    for i in range(2):
        for j in range(2):
            of, image, plane = probability(model, j), x[i].numpy(), maps.values[i, j].numpy()
            deletion = literal.perturbation_curve(of, image, behind[i], plane, 10)
            insertion = literal.perturbation_curve(of, blur[i], image, plane, 10)
            assert found.curves["deletion"].probabilities[i, j].tolist() == pytest.approx(deletion, abs=1e-5)
            assert found.curves["insertion"].probabilities[i, j].tolist() == pytest.approx(insertion, abs=1e-5)
            # 64 pixels in 10 steps are not equally spaced to the pixel
            assert float(found.scores["deletion"][i, j]) == pytest.approx(literal.trapezoids(deletion), abs=0.01)
            if baseline == "zero":
                masked = of(literal.explanation(image, plane))
                assert float(found.scores["average_drop"][i, j]) == pytest.approx(
                    literal.average_drop(of(image), masked), abs=1e-3
                )
                assert float(found.scores["increase"][i, j]) == 100 * (masked > of(image))
            order = literal.falling_order(plane)
            gaps = []
            for fraction in (0.3, 0.8):
                most, least = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
                number = round(fraction * 64)
                for place in order[:number]:
                    most[place] = True
                for place in order[-number:]:
                    least[place] = True
                gaps.append(of(literal.impute(image, least)) - of(literal.impute(image, most)))
            assert float(found.scores["road"][i, j]) == pytest.approx(sum(gaps) / 4, abs=1e-4)


def test_maps_are_laid_over_the_input_as_they_upsample_themselves():
    model, x, maps = small(), noise(2, 3, 8, 8), made(grid=(3, 5))
    low = faithfulness(model, x, maps, "deletion", steps=8, controls=[])
    high = faithfulness(model, x, maps.resized((8, 8)), "deletion", steps=8, controls=[])
    assert torch.equal(low.scores["deletion"], high.scores["deletion"])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 13), st.integers(2, 13), st.floats(0.05, 0.95), st.integers(0, 99), st.booleans())
def test_imputation_against_a_dense_solution(height, width, share, seed, blob):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, height, width, generator=generator)
    plane = torch.rand(height, width, generator=generator)
    missing = torch.arange(height * width).view(height, width) < share * height * width if blob else plane < share
    missing[0, 0] = False
    found = impute(image[None], missing[None])[0]
    expected = literal.impute(image.double().numpy(), missing.numpy()) if missing.any() else image.numpy()
    assert np.allclose(found.numpy(), expected, atol=5e-4)
    assert torch.equal(found[:, ~missing], image[:, ~missing])


def test_imputation_of_a_large_hole_and_of_a_plane():
    """The imputation of a plane is that plane: every inner pixel is the mean of its neighbours."""
    plane = (torch.arange(96.0)[:, None] / 40 + torch.arange(80.0) / 60)[None, None]
    missing = torch.zeros(1, 96, 80, dtype=torch.bool)
    missing[:, 1:-1, 1:-1] = True
    assert float((impute(plane, missing) - plane).abs().max()) < 2e-3
    both = impute(torch.cat([plane, -plane]), missing.expand(2, 96, 80))
    assert float((both[0] + both[1]).abs().max()) < 2e-3
    grain = noise(1, 1, 96, 80)
    noisy = impute(plane, missing, grain)
    torch.testing.assert_close(noisy - impute(plane, missing), grain * missing, atol=1e-5, rtol=0)
    half = impute(plane.half(), missing)
    assert half.dtype == torch.float16
    with pytest.raises(InputError, match="no known pixel"):
        impute(plane, torch.ones_like(missing))
    with pytest.raises(InputError, match="give bool"):
        impute(plane, missing.float())


def test_blur_against_the_oracle():
    x = noise(2, 3, 9, 12)
    assert np.allclose(blurred(x, 0.3)[1].numpy(), literal.blur(x[1].double().numpy(), 0.3 * 9, 2), atol=1e-5)
    flat = torch.full((1, 3, 224, 224), 0.7)
    torch.testing.assert_close(blurred(flat), flat)  # no dark frame
    spike = torch.zeros(1, 1, 224, 224)
    spike[..., 100, 100] = 1
    assert int((blurred(spike) > 0).sum()) == 11 * 11  # RISE's window


def test_baselines():
    x = noise(2, 3, 6, 6)
    assert not baseline_of(x, "zero").any()
    torch.testing.assert_close(baseline_of(x, "mean")[:, :, 0, 0], x.mean((2, 3)))
    black = torch.tensor([-1.0, -2.0, -3.0]).view(3, 1, 1)
    assert torch.equal(baseline_of(x, black), black.expand(2, 3, 6, 6))
    for wrong, message in (("black", "unknown baseline 'black'"), (torch.zeros(2, 1, 1), "does not fit")):
        with pytest.raises(InputError, match=message):
            baseline_of(x, wrong)
    with pytest.raises(InputError, match="NaN"):
        baseline_of(x, black * torch.nan)
    for blur in (0, 1, -1):
        with pytest.raises(InputError, match="share of the shorter side"):
            blurred(x, blur)
    one = faithfulness(small(), x := noise(2, 3, 8, 8), made(), "deletion", baseline=black, controls=[])
    two = faithfulness(small(), x, made(), "deletion", baseline="zero", controls=[])
    assert not torch.equal(one.scores["deletion"], two.scores["deletion"])
    assert one.settings["baseline"] == "tensor"


# --- controls, ties -------------------------------------------------------------------------------------------


def test_controls_hold_the_values_of_the_maps():
    values = noise(2, 3, 5, 7)
    for control in ("random", "centre"):
        found = control_maps(values, control, torch.Generator().manual_seed(0))
        assert torch.equal(found.flatten(2).sort().values, values.flatten(2).sort().values)
        again = control_maps(values, control, torch.Generator().manual_seed(0))
        assert torch.equal(found, again)
    centre = control_maps(values, "centre", torch.Generator().manual_seed(0))
    assert torch.equal(centre[..., 2, 3], values.amax((2, 3)))
    corners = torch.stack([centre[..., y, x] for y in (0, 4) for x in (0, 6)], -1)
    assert torch.equal(corners.sort().values, values.flatten(2).sort().values[..., :4])
    other = control_maps(values, "random", torch.Generator().manual_seed(1))
    assert not torch.equal(other, control_maps(values, "random", torch.Generator().manual_seed(0)))
    with pytest.raises(InputError, match="unknown control 'edges'"):
        control_maps(values, "edges", torch.Generator())


def test_a_right_map_beats_its_controls_and_a_control_does_not():
    torch.manual_seed(0)
    weight = torch.zeros(12, 12)
    weight[1:4, 7:11] = 1
    model, x = Pixels(weight, gain=6), torch.rand(6, 3, 12, 12) / 2
    x[:, :, 1:4, 7:11] += 1  # a bright thing: imputing its pixels from around takes it away
    maps = saliency(weight.expand(6, 1, 12, 12) + 0.01 * torch.rand(6, 1, 12, 12))
    found = faithfulness(model, x, maps, insertion_baseline="zero", draws=3)
    for metric in METRICS:
        if metric != "increase":  # p cannot rise here
            for control in ("random", "centre"):
                assert found.advantage(metric, control).low > 0, (metric, control)
    shuffled = replace(maps, values=control_maps(maps.values, "random", torch.Generator().manual_seed(9)))
    against = faithfulness(model, x, shuffled, "deletion", draws=3, insertion_baseline="zero")
    assert against.advantage("deletion", "random").low < 0.02


def test_equal_pixels_are_taken_in_one_random_order():
    ties = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    flat = torch.zeros(2, 20)
    flat[1, 5] = 1
    order = ranked(flat, ties)
    assert torch.equal(order[0], ties)
    assert int(order[1, 0]) == 5
    assert torch.equal(order[1, 1:], ties[ties != 5])


def test_flat_maps_are_marked_and_scored():
    model, x = small(), noise(2, 3, 8, 8)
    values = noise(2, 1, 4, 4)
    values[1] = 0
    found = faithfulness(model, x, saliency(values, size=(8, 8)), steps=8)
    assert found.flat.tolist() == [[False], [True]]
    assert all(bool(scores.isfinite().all()) for scores in found.scores.values())
    assert found.as_dict()["images"][1][0]["flat"] is True
    # the controls of a flat map are that map
    for metric, scores in found.scores.items():
        assert torch.equal(found.controls["random"][metric][1], scores[1])


# --- determinism, batches, the model --------------------------------------------------------------------------


def test_seeds_batches_and_the_users_random_state():
    model, x, maps = small(), noise(3, 3, 8, 8), made(3)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = faithfulness(model, x, maps, steps=6)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    two = faithfulness(model, x, maps, steps=6)
    other = faithfulness(model, x, maps, steps=6, seed=1)
    chunks = faithfulness(model, x, maps, steps=6, batch_size=7)
    alone = faithfulness(model, x, maps, "road", controls=["random"])
    for metric in METRICS:
        assert torch.equal(one.scores[metric], two.scores[metric])
        torch.testing.assert_close(one.scores[metric], chunks.scores[metric], atol=1e-4, rtol=1e-4)
        for control in one.controls:
            assert torch.equal(one.controls[control][metric], two.controls[control][metric])
    assert not torch.equal(one.controls["random"]["deletion"], other.controls["random"]["deletion"])
    assert not torch.equal(one.scores["road"], other.scores["road"])  # its noise
    # what is asked for beside does not matter
    torch.testing.assert_close(alone.scores["road"], one.scores["road"], atol=1e-6, rtol=0)
    torch.testing.assert_close(alone.controls["random"]["road"], one.controls["random"]["road"], atol=1e-6, rtol=0)


def test_forward_passes_come_in_chunks():
    model, maps = Pixels(CHOSEN), saliency(noise(3, 2, 4, 4))
    faithfulness(model, torch.ones(3, 3, 4, 4), maps, "deletion", steps=4, batch_size=8, controls=[])
    # the whole images, then 3 images x 2 classes x 5 steps
    assert model.calls == [6, 8, 8, 8, 6]


def test_the_model_comes_back_as_it_was():
    model = small().train()
    model[1].eval()
    model.requires_grad_(False)
    model[0].weight.requires_grad_(True)
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        maps, x = made(), noise(2, 3, 8, 8)
    found = faithfulness(model, x, maps, steps=4)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not found.scores["insertion"].requires_grad
    model[1] = nn.Conv2d(7, 1, 1)
    model.train()
    with pytest.raises(ModelError, match="the network fails on an input"):
        faithfulness(model, x, maps, steps=4)
    assert model.training and model[1].training


def test_networks_in_training_mode_are_measured_as_they_predict():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), small())
    x, maps = noise(2, 3, 8, 8) + 1, made()
    expected = faithfulness(model.eval(), x, maps, "deletion", steps=4, controls=[])
    found = faithfulness(model.train(), x, maps, "deletion", steps=4, controls=[])
    assert torch.equal(found.scores["deletion"], expected.scores["deletion"])
    assert not model[0].running_mean.any()
    assert model.training


def test_low_precision():
    model, x, maps = small(), noise(2, 3, 8, 8), made()
    exact = faithfulness(model, x, maps, steps=6)
    rough = faithfulness(model.bfloat16(), x, maps, steps=6)
    for metric in ("insertion", "deletion", "road"):
        assert rough.scores[metric].dtype == torch.float32
        torch.testing.assert_close(rough.scores[metric], exact.scores[metric], atol=0.03, rtol=0)


# --- refusals -------------------------------------------------------------------------------------------------


def broken(maps, value):
    values = maps.values.clone()
    values[1, 0, 2, 2] = value
    return replace(maps, values=values)


X, MAPS = noise(2, 3, 8, 8), made()


@pytest.mark.parametrize(
    ("x", "maps", "options", "message"),
    [
        (X, broken(MAPS, torch.nan), {}, "1 map.s. hold NaN or infinity, the first for image 1, class 0"),
        (X, broken(MAPS, torch.inf), {}, "NaN or infinity"),
        (X[:1], MAPS, {}, "maps of 2 image.s. for 1 image"),
        (X[:, :, :7], MAPS, {}, r"belong to inputs of \(8, 8\), the images are \(7, 8\)"),
        (X * torch.nan, MAPS, {}, "images hold NaN"),
        (X[:0], MAPS, {}, "no images"),
        (X, replace(MAPS, classes=MAPS.classes - 1), {}, "not a class"),
        (X, MAPS, {"metrics": ["delition"]}, "unknown metric 'delition'; near: deletion"),
        (X, MAPS, {"metrics": []}, "no metrics"),
        (X, MAPS, {"steps": 0}, "steps=0"),
        (X, MAPS, {"draws": 0}, "draws=0"),
        (X, MAPS, {"batch_size": 0}, "batch_size=0"),
        (X, MAPS, {"fractions": [0.5, 1]}, "between 0 and 1"),
        (X, MAPS, {"fractions": []}, "between 0 and 1"),
        (X, MAPS, {"noise": -1}, "noise=-1"),
        (X, MAPS, {"noise": math.nan}, "noise=nan"),
        (X, MAPS, {"baseline": "black"}, "unknown baseline 'black'"),
        (X, MAPS, {"controls": ["edges"]}, "unknown control 'edges'"),
    ],
)
def test_refusals(x, maps, options, message):
    with pytest.raises(InputError, match=message):
        faithfulness(small(), x, maps, **options)


def test_an_unknown_control_is_refused_before_the_network_is_asked():
    model = Pixels(torch.ones(8, 8))
    with pytest.raises(InputError, match="unknown control 'centr'; there are random, centre"):
        faithfulness(model, X, MAPS, controls="centr")
    assert model.calls == []
    assert list(faithfulness(model, X, MAPS, "deletion", steps=2, controls="centre").controls) == ["centre"]


def test_refused_networks():
    with pytest.raises(ModelError, match="of the network that the maps belong to"):
        faithfulness(small(classes=1), X, MAPS)
    poisoned = small()
    with torch.no_grad():
        poisoned[4].bias.fill_(torch.nan)
    with pytest.raises(ModelError, match="the network gives NaN"):
        faithfulness(poisoned, X, MAPS)


# --- the result -----------------------------------------------------------------------------------------------


def test_intervals_by_hand():
    values = torch.tensor([[1.0, 3.0], [4.0, 4.0], [6.0, 6.0]])  # images: 2, 4, 6
    found = estimate(values)
    assert found.mean == 4
    assert found.high - 4 == pytest.approx(1.959964 * 2 / math.sqrt(3))
    assert estimate(values, (0.0, 5.0)).high == 5
    assert estimate(values[:1]).low is None
    none = share(torch.zeros(5, 1))
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(100 * 1.959964**2 / (5 + 1.959964**2))  # Wilson 1927


def test_the_report_is_json_and_says_everything():
    subject = explain.nets.Subject(small(), classes=("a", "b", "c"))
    maps = replace(MAPS, names=subject.classes)
    found = faithfulness(subject, X, maps, steps=4)
    told = found.as_dict(curves=True)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["summary"]) == set(METRICS)
    summary = told["summary"]["deletion"]
    assert summary["better"] == "lower"
    assert set(summary["controls"]) == set(summary["advantage"]) == {"random", "centre"}
    assert summary["maps"] == found.mean("deletion").as_dict()
    gap = found.controls["random"]["deletion"] - found.scores["deletion"]
    assert summary["advantage"]["random"]["mean"] == pytest.approx(float(gap.mean()))
    one = told["images"][1][1]
    assert (one["class"], one["name"], one["flat"]) == (1, "b", False)
    assert one["scores"]["road"] == float(found.scores["road"][1, 1])
    assert one["controls"]["centre"]["insertion"] == float(found.controls["centre"]["insertion"][1, 1])
    assert len(one["curves"]["deletion"]) == len(told["fractions"]["deletion"]) == 5
    assert "curves" not in found.as_dict()["images"][0][0]
    text = found.table().splitlines()
    assert text[0].split() == ["metric", "better", "cam", "random", "centre"]
    assert len(text) == 6
    assert "2 image(s) x 2 class(es)" in repr(found)


@pytest.mark.slow
def test_cams_of_a_pretrained_network_beat_maps_that_know_nothing():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the demo model is not installed")
    from explain.data.sample import sample_photos

    subject, photos = explain.load("demo"), [photo.path for photo in sample_photos()]
    maps = explain.cam(subject, photos)
    found = faithfulness(subject, photos, maps, ["deletion", "insertion"], steps=16, draws=2, controls=["random"])
    for metric in ("deletion", "insertion"):
        assert found.advantage(metric, "random").mean > 0.05
