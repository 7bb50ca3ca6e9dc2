"""What `explain models` says of torchvision's classifiers: the file, the page, and that both are what is measured."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from explain.cli.models import zoo_lines
from explain.nets.subject import torchvision_names
from explain.nets.zoo import fill_random, read_zoo, write_zoo
from explain.saliency.support import examine, examine_random

ROOT = Path(__file__).parents[2]
ROWS = read_zoo()
BY_NAME = {row.name: row for row in ROWS}
PRETENDERS = ("alexnet", "vgg", "mobilenet_v3", "maxvit", "vit")


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("zoo_script", ROOT / "benchmarks" / "zoo.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# --- the file ----------------------------------------------------------------------------------------------


def test_the_table_has_every_classifier_of_torchvision():
    assert [row.name for row in ROWS] == sorted(BY_NAME)
    assert len(ROWS) == len(BY_NAME) == 80
    assert set(BY_NAME) == set(torchvision_names())  # a later torchvision has more? python benchmarks/zoo.py --missing


def test_63_are_exact_and_17_answer_with_a_gradient():
    assert Counter(row.answer for row in ROWS) == {"yes": 59, "yes, folded": 4, "no": 17}
    assert {row.name for row in ROWS if row.folded} == {
        f"convnext_{size}" for size in ("tiny", "small", "base", "large")
    }
    assert {row.name for row in ROWS if not row.exact} == {name for name in BY_NAME if name.startswith(PRETENDERS)}
    for row in ROWS:
        assert row.gradcam, row.name
        assert min(row.height, row.width) > 1
        if row.exact:
            assert row.residual <= 1e-5
            assert max(row.additivity, row.permutation) < 1e-9
            assert row.instead == ""
        else:
            assert row.placed, row.name
            assert max(row.additivity, row.permutation) > 1e-2 or row.fault
            assert f"gradcam on a {row.height} x {row.width} grid" in row.instead


def test_the_table_survives_writing(tmp_path):
    write_zoo(reversed(ROWS), tmp_path / "zoo.csv")
    again = read_zoo(tmp_path / "zoo.csv")
    assert [repr(row) for row in again] == [repr(row) for row in ROWS]
    assert read_zoo(tmp_path / "none.csv") == ()


def test_the_page_carries_the_table(script):
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.with_table(page, ROWS)
    assert page.count("\n| ") == 81
    assert page != script.with_table(page, [replace(ROWS[0], channels=1), *ROWS[1:]])


def test_a_network_without_a_row_is_said_to_be_not_measured():
    names = [*sorted(BY_NAME)[:3], "resnet1001"]
    lines = list(zoo_lines(names, ROWS[:3]))
    assert lines[4].split("  ")[-1].strip() == "not measured: explain models --check resnet1001"
    assert [line.split()[0] for line in lines[1:5]] == names


# --- what is measured --------------------------------------------------------------------------------------


class Pooled(nn.Module):
    """A small net whose map may be handed on wrongly."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU())
        self.head = nn.Linear(8, 5)
        self.wrong = wrong

    def forward(self, images):
        found = self.features(images)
        if self.wrong == "transposed":
            found = found.transpose(2, 3).relu()
        if self.wrong == "flat":
            found = found.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4) * 1.0
        return torch.tanh(self.head(found.mean((2, 3))))


def test_a_gradient_map_that_is_misplaced_or_flat_is_found_out():
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    for wrong, placed, gradcam in (("", True, True), ("transposed", False, True), ("flat", False, False)):
        torch.manual_seed(0)
        net = Pooled(wrong).eval()
        with torch.no_grad():
            net.head.weight.abs_()
            net.head.bias.fill_(0)
        row = examine(net, images)[1]
        assert not row.exact
        assert (row.placed, row.gradcam) == (placed, gradcam), wrong


def test_statistics_are_filled_and_zeros_replaced():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(net[4].weight)
    images = 5 + torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    fill_random(net, images)
    assert torch.equal(torch.get_rng_state(), before)
    assert net[1].momentum == 0.1
    assert not any(module.training for module in net.modules())
    both = net[0](torch.cat([images, images.flip(3)])).detach()
    torch.testing.assert_close(net[1].running_mean, both.mean((0, 2, 3)))
    assert float(net[4].weight.detach().std()) > 0


def small_convnext():
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return models.ConvNeXt(blocks, num_classes=10)


def small_swin_v2():
    kinds = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=10, **kinds)


def small_vit():
    return models.VisionTransformer(64, 16, 2, 2, 24, 48, num_classes=10)


def small_maxvit():
    return models.MaxVit((64, 64), 16, 2, [16, 16], [1, 1], 8, 0.1, num_classes=10)


SMALL = [  # the families that test_models.py leaves out
    (lambda: models.mnasnet0_5(), "layers", "2 x 2", "yes"),
    (lambda: models.googlenet(init_weights=False), "inception5b", "2 x 2", "yes"),
    (small_swin_v2, "permute", "8 x 8", "yes"),
    (small_convnext, "features", "8 x 8", "yes, folded"),
    (small_maxvit, "blocks.1", "8 x 8", "no"),
    (small_vit, "encoder.layers.encoder_layer_1.ln_1", "4 x 4", "no"),
]


@pytest.mark.parametrize(("make", "layer", "grid", "answer"), SMALL)
def test_families(make, layer, grid, answer):
    torch.manual_seed(0)
    net, images = make(), torch.randn(2, 3, 64, 64)
    fill_random(net, images)
    row = examine(net, images)[1]
    assert (row.layer, row.grid, row.answer) == (layer, grid, answer)
    assert row.gradcam
    assert row.placed is (None if row.exact else True)
    assert not row.exact or row.residual <= 1e-5


def memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError):
        return float("inf")


@pytest.mark.slow
@pytest.mark.skipif(memory() < 12, reason="less than 12 GB of memory: the largest networks need 6")
@pytest.mark.parametrize("name", torchvision_names())
def test_every_classifier_is_what_the_table_says(name):
    found, said = examine_random(name), BY_NAME[name]
    fixed = (
        "family",
        "parameters",
        "input",
        "layer",
        "channels",
        "grid",
        "classes",
        "answer",
        "fault",
        "gradcam",
        "placed",
    )
    assert [getattr(found, field) for field in fixed] == [getattr(said, field) for field in fixed]
    assert not found.exact or found.residual <= 1e-5
