"""Second opinions on faithfulness: pytorch-grad-cam (ROAD), torch-cam (insertion and deletion), SciPy (ranks)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from made_maps import saliency
from torch import nn

import explain
from explain.saliency.faithfulness import faithfulness
from explain.saliency.imputation import impute
from explain.saliency.similarity import spearman


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def road():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports warns of itself
        return pytest.importorskip("pytorch_grad_cam.metrics.road", reason="grad-cam is not installed")


OLD = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # grad-cam hands tensors to numpy


@OLD
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_grad_cams_imputation(road, share):
    """Its sparse factorisation, and our conjugate gradients: far below the noise of 0.01 that is added."""
    images = noise(2, 3, 48, 40).cumsum(2) / 5
    plane = nn.functional.interpolate(noise(2, 1, 6, 5, seed=1), (48, 40), mode="bilinear")[:, 0]
    missing = plane < plane.flatten(1).quantile(share, 1)[:, None, None]
    ours = impute(images, missing)
    for i in range(2):
        theirs = road.NoisyLinearImputer(noise=0)(images[i], (~missing[i]).float())
        assert float((ours[i] - theirs).abs().max()) < 1e-3


@OLD
def test_grad_cams_road(road, net):
    images, maps = noise(3, 3, 16, 16), saliency(torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(2)))
    percentiles = [25, 50, 75]  # whose counts of 256 pixels are whole numbers in its definition too
    planes, imputer = maps.values[:, 0].numpy(), road.NoisyLinearImputer(noise=0)
    targets = [lambda output: output.softmax(-1)[0]] * 3
    found = []
    for perturbation in (road.RemoveLeastRelevantFirst, road.RemoveMostRelevantFirst):
        scores = [
            road.PerturbationConfidenceMetric(perturbation(p, imputer))(images, planes, targets, net, return_diff=False)
            for p in percentiles
        ]
        found.append(np.mean(scores, 0))
    ours = faithfulness(net, images, maps, "road", fractions=[0.25, 0.5, 0.75], noise=0, controls=[])
    assert ours.scores["road"][:, 0].tolist() == pytest.approx(((found[0] - found[1]) / 2).tolist(), abs=1e-4)


def test_torchcams_insertion_and_deletion(net):
    metrics = pytest.importorskip("torchcam.metrics", reason="torch-cam is not installed")
    if not hasattr(metrics, "DeletionInsertionMetric"):
        pytest.skip("this torch-cam has no insertion and deletion")
    from functools import partial

    from torchcam.methods import CAM

    images = noise(3, 3, 16, 16)
    with CAM(net, target_layer="3", fc_layer="6") as extractor:
        metric = metrics.DeletionInsertionMetric(extractor, partial(torch.softmax, dim=-1), steps=16)
        metric.update(images, [2, 0, 1])
        theirs = metric.summary()
    maps = explain.cam(net, images, [[2], [0], [1]])
    ours = faithfulness(net, images, maps, ["deletion", "insertion"], steps=16, insertion_baseline="zero", controls=[])
    assert ours.mean("deletion").mean == pytest.approx(theirs["deletion_auc"], abs=1e-5)
    assert ours.mean("insertion").mean == pytest.approx(theirs["insertion_auc"], abs=1e-5)


def test_scipys_rank_correlation():
    stats = pytest.importorskip("scipy.stats")
    one = torch.randint(0, 9, (1, 1, 8, 9), generator=torch.Generator().manual_seed(0)).float()
    other = torch.randint(0, 9, (1, 1, 8, 9), generator=torch.Generator().manual_seed(1)).float()
    theirs = stats.spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
    assert float(spearman(one, other)) == pytest.approx(float(theirs), abs=1e-6)
