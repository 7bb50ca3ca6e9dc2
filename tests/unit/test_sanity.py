"""Sanity checks: similarity against literal oracles, randomised copies, and networks trained on random labels."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial

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
from explain.saliency.sanity import compare_maps, compare_models, randomization_check
from explain.saliency.similarity import spearman, ssim


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(seed=0, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    ).eval()  # fmt: skip


X = noise(2, 3, 16, 16)


# --- similarity -----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.integers(2, 7), st.integers(2, 9), st.integers(0, 99))
def test_spearman_against_the_oracle(height, width, levels, seed):
    one, other = (
        torch.from_numpy(np.random.default_rng(seed + n).integers(0, levels, (height, width))) for n in (0, 1)
    )
    found = float(spearman(one[None, None].float(), other[None, None].float()))
    if one.unique().numel() == 1 or other.unique().numel() == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(literal.spearman(one.numpy(), other.numpy()), abs=1e-6)


def test_rank_correlation_is_of_ranks_alone():
    maps = noise(2, 2, 5, 5)
    torch.testing.assert_close(spearman(maps, (maps * 3).exp()), torch.ones(2, 2))
    torch.testing.assert_close(spearman(maps, -1e-9 * maps), -torch.ones(2, 2))


def test_ssim_against_the_oracle_and_scikit_image():
    one, other = noise(2, 2, 17, 14), noise(2, 2, 17, 14, seed=1)
    found = ssim(one, other)
    for i in range(2):
        for j in range(2):
            assert float(found[i, j]) == pytest.approx(literal.ssim(one[i, j].numpy(), other[i, j].numpy()), abs=1e-5)
    torch.testing.assert_close(ssim(one, 5 * one + 3), torch.ones(2, 2))
    metrics = pytest.importorskip("skimage.metrics")
    large = torch.nn.functional.interpolate(torch.cat([one, other]), (64, 64), mode="bilinear")
    scaled = explain.types.normalize_maps(large, "minmax").double().numpy()
    theirs = metrics.structural_similarity(
        scaled[0, 0], scaled[2, 0], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )
    assert float(ssim(large[:1, :1], large[2:3, :1])) == pytest.approx(theirs, abs=1e-5)


def test_small_and_flat_maps():
    assert ssim(noise(1, 1, 4, 6), noise(1, 1, 4, 6, seed=1)).isfinite().all()
    flat = torch.zeros(1, 1, 12, 12)
    torch.testing.assert_close(ssim(flat, flat + 1), torch.ones(1, 1))
    assert spearman(flat, noise(1, 1, 12, 12)).isnan().all()
    with pytest.raises(InputError, match="give two of one shape"):
        spearman(flat, flat[..., :5])
    with pytest.raises(InputError, match="NaN or infinity"):
        ssim(flat, flat * torch.nan)


def test_maps_of_other_sizes_meet_at_the_input():
    low = saliency(noise(2, 1, 4, 4), size=(16, 16))
    high = low.resized((16, 16))
    found = compare_maps(low, high)
    assert float(found.spearman.min()) == pytest.approx(1)
    assert float(found.ssim.min()) == pytest.approx(1)
    for other, message in (
        (replace(low, classes=low.classes + 1), "of other classes: hold them fixed"),
        (replace(low, input_size=(8, 8)), "compare maps of the same images"),
        (saliency(noise(3, 1, 4, 4), size=(16, 16)), "compare maps of the same images"),
    ):
        with pytest.raises(InputError, match=message):
            compare_maps(low, other)


def test_signs_count_only_in_the_signed_correlation():
    one = saliency(noise(1, 1, 6, 6))
    found = compare_maps(one, replace(one, values=-one.values))
    assert float(found.spearman) == pytest.approx(-1)
    assert float(found.spearman_abs) == pytest.approx(1)


# --- random weights -------------------------------------------------------------------------------------------


class Spy:
    """explain.cam, keeping copies of the networks it was called with."""

    def __init__(self):
        self.nets = []

    def __call__(self, model, images, classes="top1"):
        self.nets.append(copy.deepcopy(model.state_dict()))
        return explain.cam(model, images, classes)


def changed(state, before):
    return {
        name.split(".")[0] for name in before if name.endswith("weight") and not torch.equal(state[name], before[name])
    }


@pytest.mark.parametrize("how", ["reinitialize", "permute"])
def test_cascades_go_from_the_top_down(how):
    model, spy = net(), Spy()
    with torch.no_grad():
        model[1].weight.copy_(noise(8))
    found = randomization_check(model, X, spy, how=how)
    assert found.steps == ("7", "3", "1", "0")
    before = model.state_dict()
    assert [changed(state, before) for state in spy.nets] == [set(), {"7"}, {"7", "3"}, {"7", "3", "1"}, {*"7310"}]
    spy = Spy()
    randomization_check(model, X, spy, how=how, order="independent")
    assert [changed(state, before) for state in spy.nets] == [set(), {"7"}, {"3"}, {"1"}, {"0"}]
    if how == "permute":
        for state in spy.nets:
            for name, value in before.items():
                assert torch.equal(state[name].flatten().sort().values, value.flatten().sort().values)


def test_maps_of_the_classes_of_the_untouched_network():
    classes = []

    def spy(model, images, classes_=None, classes_seen=classes):
        maps = explain.cam(model, images, "top1")
        classes_seen.append(maps.classes)
        return maps

    model = net()
    found = randomization_check(model, X, explain.cam)
    assert found.classes.tolist() == explain.cam(model, X).classes.tolist()
    partly = randomization_check(model, X, partial(explain.cam, batch_size=1))
    for a, b in zip(found.similarities, partly.similarities, strict=True):
        torch.testing.assert_close(a.spearman, b.spearman)
    with pytest.raises(InputError, match="of other classes: hold them fixed"):
        for seed in range(20):
            randomization_check(model, X, spy, seed=seed)


def test_a_map_that_ignores_the_network_fails_and_cam_passes():
    def edges(model, images):
        maps = explain.cam(model, images, 0)
        rows = (images[:, :, 1:] - images[:, :, :-1]).abs().mean(1, keepdim=True)
        return replace(maps, values=rows[..., :15, :], method="edges")

    found = randomization_check(net(), X, edges)
    for similarity in found.similarities:
        assert similarity.as_dict() == {
            "spearman": pytest.approx(1),
            "spearman_abs": pytest.approx(1),
            "ssim": pytest.approx(1),
        }
    found = randomization_check(net(), noise(8, 3, 16, 16), explain.cam)
    assert abs(found.similarities[-1].as_dict()["spearman"]) < 0.7
    assert found.method == "cam"


def test_repeatable_and_nothing_is_touched(monkeypatch):
    def seeded(seed):
        pytest.fail("a device that the model is not on was seeded")

    model = net().train()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    torch.manual_seed(3)
    random = torch.get_rng_state()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    one = randomization_check(model, X, explain.cam)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    two, other = randomization_check(model, X, explain.cam), randomization_check(model, X, explain.cam, seed=1)
    assert torch.equal(one.similarities[-1].ssim, two.similarities[-1].ssim)
    assert not torch.equal(one.similarities[-1].ssim, other.similarities[-1].ssim)
    told = one.as_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [step["layers"] for step in told["steps"]] == ["7", "3", "1", "0"]
    assert "cascading" in repr(one)
    assert len(one.table().splitlines()) == 5


class Tokens(nn.Module):
    """A parameter that no reset_parameters covers."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(3 + 0.1 * noise(8, 1, 1))

    def forward(self, x):
        return x * self.token


def test_parameters_of_modules_without_an_initialisation_of_their_own():
    model, spy = net(), Spy()
    model[4] = nn.Sequential(Tokens(), nn.ReLU())
    randomization_check(model, X, spy, layers=["4"])
    token = spy.nets[1]["4.0.token"]
    assert not torch.equal(token, model[4][0].token)
    assert 2.5 < float(token.mean()) < 3.5
    assert changed(spy.nets[1], model.state_dict()) == set()


def test_many_layers_come_in_groups_and_layers_can_be_named():
    torch.manual_seed(0)
    deep = nn.Sequential(
        *[nn.Conv2d(3, 3, 1) for _ in range(30)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    spy = Spy()
    found = randomization_check(deep, X, spy)
    assert len(found.steps) == 12
    assert found.steps[0] == "32"
    assert len(changed(spy.nets[-1], deep.state_dict())) == 31
    assert len(changed(spy.nets[2], deep.state_dict())) - len(changed(spy.nets[1], deep.state_dict())) in (2, 3)
    named = randomization_check(deep, X, explain.cam, layers=["32", "29"])
    assert named.steps == ("32", "29")


def test_subjects_go_to_the_function_as_subjects():
    seen = []

    def spy(model, images, classes="top1"):
        seen.append(type(model).__name__)
        return explain.cam(model, images, classes)

    randomization_check(explain.load(net()), X, spy, layers=["7"])
    randomization_check(net(), X, spy, layers=["7"])
    assert seen == ["Subject", "Subject", "Sequential", "Sequential"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "down"}, "unknown order 'down'"),
        ({"how": "noise"}, "unknown way 'noise'"),
        ({"layers": ["8"]}, "unknown layer '8'"),
        ({"layers": ["2"]}, "'2' has no parameters"),
        ({"layers": []}, "no layers"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        randomization_check(net(), X, explain.cam, **options)


def test_networks_that_cannot_be_randomised():
    bare = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match="nothing to randomise"):
        randomization_check(bare, X, explain.cam)
    model = net()
    model.left = (model[7].weight * 2).sum()  # a tensor with a graph cannot be copied
    with pytest.raises(ModelError, match="cannot be copied"):
        randomization_check(model, X, explain.cam)


# --- random labels --------------------------------------------------------------------------------------------


def squares(count, seed):
    """Noise with a square, bright in one of two channels: the class."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.rand(count, 3, 16, 16, generator=generator)
    labels = torch.arange(count) % 2
    for number in range(count):
        y, x = torch.randint(0, 11, (2,), generator=generator).tolist()
        images[number, labels[number], y : y + 5, x : x + 5] += 1
    return images, labels


def trained(images, labels, seed):
    model = net(seed, classes=2).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def test_random_labels_give_other_maps():
    """Two networks trained on the task agree on where the square is; one trained on random labels does not."""
    torch.manual_seed(0)
    images, labels = squares(64, 0)
    random = labels[torch.randperm(64, generator=torch.Generator().manual_seed(1))]
    true, again, wrong = trained(images, labels, 0), trained(images, labels, 1), trained(images, random, 1)
    held_out, right = squares(16, 5)
    assert (true(held_out).argmax(1) == right).float().mean() > 0.9
    fixed = partial(explain.cam, classes=right[:, None])

    def maps(model, images):
        return fixed(model, images)

    alike, other = compare_models(true, again, held_out, maps), compare_models(true, wrong, held_out, maps)
    assert alike.as_dict()["spearman"] > other.as_dict()["spearman"] + 0.2
    same = compare_models(true, true, held_out, explain.cam)
    assert same.as_dict() == {name: pytest.approx(1) for name in ("spearman", "spearman_abs", "ssim")}
