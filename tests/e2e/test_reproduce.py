"""``examples/reproduce``: every config end to end on miniature stand-ins, and the page that is made from them."""

import importlib
import json
import math
from pathlib import Path

import pytest
import torch
from text_grammar import drawn, grammar_vectors

from explain.data import open_probe
from explain.data.recipes import read_recipe, recipe_path
from explain.data.scenes import write_scenes

ROOT = Path(__file__).parents[2]
BOXES = ROOT.parent / "shared" / "data" / "wsol-metadata"
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(0)
        self.layer4 = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU())
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.layer4(x).mean((2, 3)))


def classes_3(): return Net(3)
def classes_11(): return Net(11)
def classes_100(): return Net(100)
def classes_200(): return Net(200)
def classes_1000(): return Net(1000)
"""


@pytest.fixture
def script(monkeypatch):
    """A function that imports a script of examples/reproduce/."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "reproduce"))
    return importlib.import_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("reproduce")
    (place / "small.py").write_text(NET)
    module = {}
    exec(NET, module)
    for classes in (3, 11, 100, 200, 1000):
        net = module["Net"](classes)
        state = {f"module.{key}": value for key, value in net.state_dict().items()}
        torch.save({"state_dict": state}, place / f"{classes}.pth.tar")  # as published checkpoints are
    return place


def sample(name, rest="."):
    return recipe_path(name) / "sample" / rest


def carried_out(script, folder, name, options, **inputs):
    """Carry a config out; returns what its run says of each figure, by name."""
    out = folder / name
    given = [f"{key}={value}" for key, value in inputs.items()]
    code = script("run").main([name, *given, "--go", "--out", str(out), "--options", options])
    assert code == 0
    config = script("run").read(name)
    return {figure["name"]: script("run").found_at(out, figure) for figure in config["figures"]}


def test_localization_tables(script, folder, capsys):
    small, images = f"{folder}/small.py:classes_3", "--input-size 32 --no-random-weights"
    found = carried_out(
        script, folder, "cam-ilsvrc", images, ilsvrc=sample("ilsvrc"), googlenet=small, weights=folder / "3.pth.tar"
    )
    assert {name for name, value in found.items() if value is not None} == {
        name for name in found if name.startswith("GoogLeNet: ")
    }
    printed = capsys.readouterr().out
    assert "alexnet-gap: left out, lacks alexnet_gap" in printed
    value = found["GoogLeNet: top-5 localization error, %"]
    assert 0 <= value <= found["GoogLeNet: top-1 localization error, %"] <= 100
    assert f"{value:.3f}" in printed
    nets = dict.fromkeys(("vgg16", "alexnet", "googlenet"), small)
    found = carried_out(
        script, folder, "gradcam-ilsvrc", images, ilsvrc=sample("ilsvrc"), weights=folder / "3.pth.tar", **nets
    )
    assert all(0 <= value <= 100 for value in found.values())


def test_the_row_of_wsolevaluation(script, folder, capsys):
    found = carried_out(
        script, folder, "wsol-cam", "--input-size 32 --no-random-weights",
        ilsvrc=sample("imagenetv2", "metadata/ILSVRC/val"), cub=sample("cubv2", "metadata/CUB/val"),
        openimages=sample("openimages30k", "metadata/OpenImages/val"),
        **{f"{name}_network": f"{folder}/small.py:classes_{n}"
           for name, n in (("ilsvrc", 1000), ("cub", 200), ("openimages", 100))},
        **{f"{name}_weights": folder / f"{n}.pth.tar"
           for name, n in (("ilsvrc", 1000), ("cub", 200), ("openimages", 100))},
    )  # fmt: skip
    assert all(0 <= value <= 100 for value in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cub", "ilsvrc"])
def test_the_filled_figures_of_the_centre_come_out_again(script, folder, capsys, name):
    metadata = BOXES / name.upper() / "test"
    if not metadata.is_dir():
        pytest.skip(f"no metadata of wsolevaluation at {metadata}")
    run = f"centre-{name}"
    out = folder / f"real-{name}"
    assert script("run").main(["wsol-cam", f"{name}={metadata}", "--go", "--only", run, "--out", str(out)]) == 0
    (figure,) = (one for one in script("run").read("wsol-cam")["figures"] if one["run"] == run)
    assert f"{script('run').found_at(out, figure):.2f}" == figure["ours"]


def test_neurons_on_broden(script, folder, capsys):
    (folder / "once").mkdir()
    found = carried_out(
        script, folder, "netdissect-resnet18", "--input-size 32 --quantile 0.1 --no-cells-cache",
        broden=sample("broden"), network=f"{folder}/small.py:classes_3", weights=folder / "3.pth.tar",
    )  # fmt: skip
    assert found["units that detect a concept, of 512"] >= found["unique concepts among them"] > 0
    assert 0 < found["mean IoU of the best concept"] < 1


def test_the_part_of_broden_from_ade20k(script, folder):
    count = script("ade_of_broden").write_part(sample("broden"), folder / "ade")
    part = open_probe(folder / "ade")
    assert count == len(part) == 2
    assert all("ade20k" in name for name in part.names)


def test_compositional_explanations(script, folder, capsys):
    scenes = write_scenes(folder / "scenes", count=12, seed=3)
    (folder / "words.txt").write_text("circle 1 0 0\nsquare 1 0.2 0\nsky 0 1 0\nsea 0 1 0.2\n")
    found = carried_out(
        script, folder, "compexp-resnet18", "--input-size 32 --quantile 0.05 --no-cells-cache --examples 0",
        ade=scenes, places365=scenes, vectors=folder / "words.txt",
        network=f"{folder}/small.py:classes_11", weights=folder / "11.pth.tar",
    )  # fmt: skip
    assert 0 < found["mean IoU, one concept"] < found["mean IoU, ten concepts"] < 1
    kinds = [value for name, value in found.items() if "share" in name]
    assert len(kinds) == 3
    assert 0 <= sum(kinds) <= 1
    assert -1 <= found["Pearson's r of IoU and accuracy when firing"] <= 1


def test_sentence_pairs(script, folder, capsys):
    lines = ("\t".join((label, one, other)) for one, other, label in drawn(150))
    (folder / "pairs.tsv").write_text("\n".join(["gold\tpremise\thypothesis", *lines]) + "\n")
    grammar_vectors(folder / "vectors.txt")
    found = carried_out(
        script, folder, "snli", "--min-active .02 --units 0:24",
        train=folder / "pairs.tsv", dev=folder / "pairs.tsv", vectors=folder / "vectors.txt",
    )  # fmt: skip
    words, r = found.values()
    assert words[0] == "hyp:nobody"
    assert -1 <= r <= 1
    capsys.readouterr()
    network = f"network={folder / 'snli' / 'net'}"
    script("run").main(["snli", network, "--go", "--out", str(folder / "none")])
    printed = capsys.readouterr().out
    assert "explain text train" not in printed
    assert "units: left out, lacks" in printed
    assert "pmi: left out, lacks the run units" in printed


def test_configs_say_where_figures_come_from(script):
    run = script("run")
    for name in run.names():
        config = run.read(name)
        assert config["title"], config["paper"]
        runs = {one["name"] for one in config["runs"]}
        for figure in config["figures"]:
            assert figure["known"] in run.KNOWN, figure["name"]
            assert figure["run"] in runs, figure["name"]
            assert ("ours" in figure) == bool(figure.get("made_with")), figure["name"]
        for key, entry in config["inputs"].items():
            assert entry["about"], key
            if "set" in entry:
                assert bool(read_recipe(entry["set"]).archives) or not entry.get("prepared", True), key
        assert all(one.get("unless", key) in config["inputs"] for one in config["runs"])


def test_what_is_open_says_so(script, capsys):
    run = script("run")
    run.main(["--list"])
    printed = capsys.readouterr().out
    figures = [figure for name in run.names() for figure in run.read(name)["figures"]]
    assert printed.count(run.OPEN) == sum("ours" not in figure for figure in figures)
    run.main(["cam-ilsvrc"])
    assert "explain localize" in capsys.readouterr().out
    for wrong, told in (
        (["cam"], "no figures 'cam'"),
        (["snli", "devs=x"], "has no inputs devs"),
        (["snli", "--only", "x"], "has no runs x"),
    ):
        with pytest.raises(SystemExit, match=told):
            run.main(wrong)


def test_values_are_found_by_their_path(script, tmp_path):
    found_at = script("run").found_at
    value = {"rows": [{"of": "a", "x": 1.5}, {"of": "b", "x": math.pi}], "none": None}
    (tmp_path / "run.json").write_text(json.dumps(value))
    for at, wanted in (("rows.of=b.x", math.pi), ("rows.*.x", [1.5, math.pi]), ("none.x", None), ("rows.of=c.x", None)):
        assert found_at(tmp_path, {"file": "run.json", "at": at}) == wanted
    assert found_at(tmp_path, {"file": "other.json", "at": "rows"}) is None
    assert script("run").told(math.pi, "+0.31") == "3.142"


@pytest.mark.parametrize("name", ["alexnet_gap", "resnet18_places365", "fine_resnet50"])
def test_networks_take_weights_of_their_names(script, name):
    net = getattr(script("networks"), name)()
    if name == "fine_resnet50":
        from torchvision.models import resnet50

        with torch.device("meta"):
            same = resnet50()
        assert {key: value.shape for key, value in net.state_dict().items()} == {
            key: value.shape for key, value in same.state_dict().items()
        }
        with torch.no_grad():
            first = torch.nn.Sequential(*list(net.eval().children())[:-2])
            assert first(torch.zeros(1, 3, 64, 64)).shape == (1, 2048, 4, 4)  # not 2 x 2
    elif name == "resnet18_places365":
        assert net.fc.out_features == 365


def test_the_page_is_made_from_the_configs(script):
    page = script("page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text) == text, "python examples/reproduce/page.py writes it anew"
