from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.perturbation import ablation_cam_eq3, score_cam_algorithm_1
from torch import nn

from explain.errors import InputError
from explain.saliency.perturbation import ablation_cam, ablation_cam_closed, score_cam


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def net():
    """Trunk, a head that is not linear, and images: float64, so that oracles agree to rounding."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(2, 5, 3, 2), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU()).double()
    head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 3 * 2, 7), nn.Tanh(), nn.Linear(7, 4)).double()
    images = 3 * noise(3, 2, 11, 9)
    with torch.no_grad():
        maps = trunk(images)
    maps[1, 2] = 0  # a dead channel
    maps[2, 4] = 1.5  # a flat one
    return trunk, head, images, maps


CLASSES = torch.tensor([[0, 3], [2, 1], [1, 0]])


def scorer(function, seen=None):
    def scores(values, rows):
        if seen is not None:
            seen.append(len(values))
        return function(values).gather(1, CLASSES[rows])

    return scores


def model_of(net):
    trunk, head, _, _ = net
    return lambda images: head(trunk(images))


def test_score_cam_is_algorithm_1(net):
    _, _, images, maps = net
    model = model_of(net)
    ours = score_cam(maps, images, scorer(model), chunk=4)
    assert ours.shape == (3, 2, 3, 2) and ours.dtype == torch.float64
    assert not ours.requires_grad
    for b in range(3):
        for k, c in enumerate(CLASSES[b].tolist()):

            def score(image, c=c):
                with torch.no_grad():
                    return float(model(torch.from_numpy(image)[None])[0, c])

            theirs = score_cam_algorithm_1(maps[b].numpy(), images[b].numpy(), score)
            np.testing.assert_allclose(ours[b, k].numpy(), theirs, rtol=1e-10, atol=1e-12)
            assert theirs.max() > 0


def test_ablation_cam_is_equation_3(net):
    _, head, _, maps = net
    raised = nn.Sequential(head, nn.Softplus())  # equation 3 is for positive scores
    base = raised(maps).detach().gather(1, CLASSES)
    ours = ablation_cam(maps, scorer(raised), base, chunk=5)
    for b in range(3):
        for k, c in enumerate(CLASSES[b].tolist()):

            def score(features, c=c):
                with torch.no_grad():
                    return float(raised(torch.from_numpy(features)[None])[0, c])

            theirs = ablation_cam_eq3(maps[b].numpy(), score)
            np.testing.assert_allclose(ours[b, k].numpy(), theirs, rtol=1e-9, atol=1e-12)
    assert float(ours.max()) > 0


@pytest.mark.parametrize("chunk", [1, 3, 18, 100])
def test_chunks_change_nothing_and_bound_the_batch(net, chunk):
    _, head, images, maps = net
    seen = []
    by_mask = score_cam(maps, images, scorer(model_of(net), seen), chunk=chunk)
    base = head(maps).detach().gather(1, CLASSES)
    by_ablation = ablation_cam(maps, scorer(head, seen), base, chunk=chunk)
    assert max(seen) <= chunk
    torch.testing.assert_close(by_mask, score_cam(maps, images, scorer(model_of(net)), chunk=7), rtol=1e-9, atol=0)
    torch.testing.assert_close(by_ablation, ablation_cam(maps, scorer(head), base), rtol=1e-9, atol=1e-12)


def test_idle_channels_are_not_run(net):
    _, head, images, maps = net
    seen = []
    ablation_cam(maps, scorer(head, seen), head(maps).detach().gather(1, CLASSES))
    assert sum(seen) == int((maps != 0).any(3).any(2).sum()) < 18
    seen.clear()
    score_cam(maps, images, scorer(model_of(net), seen))
    flat = maps.amax((2, 3)) == maps.amin((2, 3))
    assert sum(seen) == int((~flat).sum()) + int(flat.any(1).sum())


def test_the_map_is_not_changed_and_keeps_no_graph(net):
    _, head, images, maps = net
    leaf = maps.clone().requires_grad_()
    base = head(leaf).gather(1, CLASSES)
    assert not ablation_cam(leaf, scorer(head), base).requires_grad
    assert not score_cam(leaf, images, scorer(model_of(net))).requires_grad
    torch.testing.assert_close(leaf.detach(), maps, rtol=0, atol=0)


def test_the_signed_map_before_relu(net):
    _, head, _, maps = net
    base = head(maps).detach().gather(1, CLASSES)
    signed = ablation_cam(maps, scorer(head), base, relu=False)
    assert float(signed.min()) < 0
    torch.testing.assert_close(signed.relu(), ablation_cam(maps, scorer(head), base))


# --- heads that are affine in the mean: no run at all -------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(-4, 4))
def test_the_closed_form_is_the_general_one(seed, bias):
    maps = noise(2, 5, 3, 4, seed=seed)
    weights, constants = noise(6, 5, seed=seed + 1), noise(6, seed=seed + 2) + bias
    classes = torch.tensor([[0, 5, 2], [1, 1, 4]])

    def scores(values, rows):
        return (values.mean((2, 3)) @ weights.T + constants).gather(1, classes[rows])

    base = scores(maps, torch.arange(2))
    general = ablation_cam(maps, scores, base, relu=False)
    closed = ablation_cam_closed(maps, weights[classes], base, relu=False)
    scale = float(closed.abs().max())
    torch.testing.assert_close(general, closed, rtol=0, atol=1e-9 * scale)


def test_negative_and_zero_scores_do_not_turn_the_map_round():
    """The channel that speaks for the class lights up, whatever the bias makes of the score."""
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 0, 0, 0], maps[0, 1, 1, 1] = 4, 4
    weights = torch.tensor([[[1.0, -1.0]]])

    def closed(constant):
        return ablation_cam_closed(maps, weights, torch.tensor([[constant]]))[0, 0]

    expected = torch.tensor([[4.0, 0.0], [0.0, 0.0]])  # the drop is 1, the channel's peak 4
    for score in (2.0, -2.0):
        torch.testing.assert_close(closed(score), expected / 2)
        general = ablation_cam(
            maps, lambda m, rows, s=score: m.mean((2, 3)) @ weights[0].T + s, torch.tensor([[score]])
        )
        torch.testing.assert_close(general[0, 0], expected / 2)
    torch.testing.assert_close(closed(0.0), expected)


# --- edges ------------------------------------------------------------------------------------------------


def test_maps_without_variation_stay_finite():
    images = torch.ones(2, 3, 8, 8)
    for maps in (torch.zeros(2, 4, 3, 3), torch.full((2, 4, 3, 3), 2.0)):
        result = score_cam(maps, images, lambda x, rows: x.sum((1, 2, 3))[:, None])
        torch.testing.assert_close(result, maps[:, :1])  # equal weights, which add up to 1
    zero = torch.zeros(2, 4, 3, 3)
    assert not ablation_cam(zero, lambda m, rows: m.sum((1, 2, 3))[:, None], torch.zeros(2, 1)).any()


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_masks_do_not_depend_on_the_scale_of_the_map(net, scale):
    _, _, images, maps = net
    plain = score_cam(maps, images, scorer(model_of(net)))
    torch.testing.assert_close(score_cam(maps * scale, images, scorer(model_of(net))) / scale, plain)


def test_half_precision_gives_float32():
    maps = noise(1, 3, 4, 4).bfloat16()
    images = noise(1, 3, 8, 8).bfloat16()

    def scores(values, rows):
        assert values.dtype == torch.bfloat16
        return values.mean((2, 3))

    assert score_cam(maps, images, scores).dtype == torch.float32
    assert ablation_cam(maps, scores, maps.mean((2, 3))).dtype == torch.float32


def test_masks_are_upsampled_without_aligned_corners(net):
    """The peers' ``align_corners=True`` moves masks by up to half a cell."""
    _, _, images, maps = net
    masks = []

    def scores(values, rows):
        masks.extend(values / images[rows])
        return torch.zeros(len(rows), 1, dtype=torch.float64)

    score_cam(maps[:1], images[:1], scores, chunk=1)
    live = [plane for plane in maps[0] if plane.max() > plane.min()]
    for mask, plane in zip(masks, live, strict=False):
        up = F.interpolate(plane[None, None], size=(11, 9), mode="bilinear", align_corners=False)[0, 0]
        expected = (up - up.min()) / (up.max() - up.min())
        torch.testing.assert_close(mask[0], expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score_cam(torch.ones(2, 3, 4), torch.ones(2, 3, 8, 8), None), "a map of shape"),
        (lambda: score_cam(torch.ones(2, 3, 4, 4), torch.ones(1, 3, 8, 8), None), "one per map"),
        (lambda: score_cam(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 8, 8), None, chunk=0), "chunk=0"),
        (lambda: score_cam(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 8, 8), None, chunk="8"), "whole number"),
        (lambda: ablation_cam(torch.ones(2, 3, 4, 4), None, torch.ones(3, 1)), "scores of shape"),
        (lambda: ablation_cam_closed(torch.ones(2, 3, 4, 4), torch.ones(2, 1, 4), torch.ones(2, 1)), "weights of"),
    ],
)
def test_what_does_not_match_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
