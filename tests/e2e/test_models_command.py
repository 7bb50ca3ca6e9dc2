"""``explain models`` and ``explain doctor`` on networks with and without exact maps."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from torch import nn
from torchvision import models

from explain.cli.models import support_table
from explain.nets import Preprocess, Subject
from explain.nets.subject import torchvision_names

SMALL = """
import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
import explain
from explain.nets import Preprocess

def _made(net):
    return explain.load(net.eval(), transform=Preprocess((64, 64)))

def convnext():
    torch.manual_seed(0)
    return _made(models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=10))

def vit():
    torch.manual_seed(0)
    net = models.VisionTransformer(64, 16, 2, 2, 24, 48, num_classes=10)
    nn.init.normal_(net.heads.head.weight)
    return _made(net)

def blind():
    return explain.load(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), transform=Preprocess((64, 64)))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small_nets.py"
    path.write_text(SMALL)
    return path


def found(text):
    """The rows of the table that --check prints."""
    cells = [re.split(r"[│┃|]", line) for line in text.splitlines()]
    return {row[1].strip(): row[2].strip() for row in cells if len(row) == 4}


def test_models_prints_a_row_for_each_classifier(run):
    code, text, err = run("models")
    assert code == 0, err
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert set(torchvision_names()) <= set(rows)
    titles = text.splitlines()[0]
    answers = [rows[name][titles.index("exact CAM") :].split("  ")[0] for name in torchvision_names()]
    assert (answers.count("yes"), answers.count("yes, folded"), answers.count("no")) == (59, 4, 17)
    assert "7 x 7 grid" in rows["vit_b_32"]
    assert "features:relu" in rows["densenet121"]
    assert "299 x 299" in rows["inception_v3"]
    assert "63 of 80" in text


def test_models_check_convnext_tiny(run):
    code, text, err = run("models", "--check", "convnext_tiny")
    assert code == 0, err
    rows = found(text)
    assert rows["map"] == "features: 768 channels, 7 x 7"
    assert rows["exact CAM"].startswith("yes, folded: ")
    assert 0 < float(rows["residual"].split()[0]) < 1e-5  # a head of zeros would give 0
    assert rows["method"] == "cam"


def test_models_check_of_a_transformer_says_why_not_and_what_instead(run, small):
    code, text, err = run("models", "--check", f"{small}:vit")
    assert code == 0, err
    rows = found(text)
    assert rows["exact CAM"].startswith("no: ")
    assert "class token" in rows["exact CAM"]
    assert rows["Grad-CAM"] == "finite, not flat, on a 4 x 4 grid"
    assert rows["its place"].startswith("noise in one quarter of the image shows most")
    assert rows["method"] == "gradcam"


def test_models_check_of_a_network_without_a_map(run, small):
    code, _, err = run("models", "--check", f"{small}:blind")
    assert code == 2
    assert err.startswith("explain: no spatial feature map")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "place", "answer"),
    [
        ("convnext", "features: 16 channels, 8 x 8", "yes: "),
        ("vit", "encoder.layers.encoder_layer_1.ln_1: 24 channels, 4 x 4", "no: "),
    ],
)
def test_doctor_names_map_grid_and_answer(run, small, name, place, answer):
    code, text, err = run("doctor", f"{small}:{name}", "--weights", "none", "--batch-size", "2")
    assert code == 0, err
    lines = dict(line.split(maxsplit=1) for line in text.replace("exact CAM", "exact").splitlines())
    assert len(text.splitlines()) == 10
    assert lines["map"] == place
    assert lines["exact"].startswith(answer)
    assert ("; use gradcam on the 4 x 4 grid" in lines["exact"]) == (answer == "no: ")
    assert (lines["residual"] == "-") == (answer == "no: ")


def test_a_vision_transformer_with_random_weights_is_judged_by_a_head_that_is_not_zero():
    from explain.cli.doctor import _measure

    network = models.VisionTransformer(64, 16, 2, 2, 24, 48, num_classes=10).eval()
    assert not network.heads.head.weight.any()  # as torchvision makes it
    subject = Subject(network, Preprocess((64, 64)), name="small", source="random")
    assert "class token" in _measure(subject, 1)[0].reason
    nn.init.zeros_(network.heads.head.weight)
    trained = replace(subject, source="file")
    assert "a head of zeros?" in _measure(trained, 1)[0].reason
    assert "class token" in str(list(support_table(subject).columns[1].cells))


def test_a_reader_that_has_enough_is_no_error():
    command = f"{sys.executable} -m explain models | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
