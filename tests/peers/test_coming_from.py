"""The page for people who come from another library: its code runs, and both sides give the same maps."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"


def blocks(title):
    """The code under a heading: the other library's, and ours."""
    part = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S).group(1)
    return re.findall(r"```python\n(.*?)```", part, re.S)


@pytest.fixture(scope="module")
def place():
    torch.manual_seed(0)
    model = models.resnet18(weights=None)
    x = torch.randn(3, 3, 96, 96)
    with torch.no_grad():
        model.train()(x)
    return {"model": model.eval(), "x": x, "classes": [5, 700, 12]}


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
@pytest.mark.parametrize(
    ("title", "package"), [("torch-cam", "torchcam"), ("pytorch-grad-cam", "pytorch_grad_cam"), ("captum", "captum")]
)
def test_both_sides_agree(title, package, place):
    pytest.importorskip(package)
    theirs, ours = blocks(title)
    first, second = dict(place), dict(place)
    exec(compile(theirs, "theirs", "exec"), first)
    exec(compile(ours, "ours", "exec"), second)
    expected, found = np.asarray(first["theirs"]), np.asarray(second["ours"].detach())
    assert expected.shape == found.shape
    assert found.std() > 0
    np.testing.assert_allclose(found, expected, atol=2e-4 * expected.max(), rtol=1e-3)


def test_neurons(place):
    (ours,) = blocks("compexp")
    rng = np.random.default_rng(0)
    images = [torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    masks = [rng.integers(0, 3, (64, 64)).astype(np.uint8) for _ in images]
    there = {**place, "probe": (images, masks, ["nothing", "a", "b"])}
    exec(compile(ours, "ours", "exec"), there)
    assert len(there["run"].units) == 512
