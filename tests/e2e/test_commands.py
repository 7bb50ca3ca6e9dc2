"""The commands end to end, on the sample photos, three drawn scenes and small nets; and what they say to bad input."""

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explain.data.recipes import recipe_path
from explain.data.sample import sample_photos
from explain.data.scenes import write_scenes

NET = """
import torch
from torch import nn

def make(bias=True, flat=False):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU())
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 11)]
    tail = [nn.Flatten(), nn.Linear(8 * 14 * 14, 11)] if flat else pooled
    return nn.Sequential(trunk, *tail)

def subject():
    import explain
    from explain.nets import Preprocess
    names = ["circle", "square", "triangle", "star", "ring", "cross", "house", "tree", "car", "boat", "flower"]
    return explain.load(make(), transform=Preprocess((56, 56)), classes=names)

def flat():
    import explain
    from explain.nets import Preprocess
    return explain.load(make(flat=True), transform=Preprocess((56, 56)))

def bare():
    return make()
"""

BROKEN = """
class Broken(nn.Module):
    def forward(self, x):
        raise ValueError("no luck")

def broken():
    import explain
    from explain.nets import Preprocess
    return explain.load(Broken(), transform=Preprocess((56, 56)))
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "small_net.py"
    path.write_text(NET)
    return path


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", count=12, seed=3)


def refused(result, *parts):
    """One line on standard error that holds all parts, exit code 2, no traceback."""
    code, _, err = result
    assert code == 2, err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("explain: ")
    for part in parts:
        assert str(part) in lines[0], lines[0]


# --- the jobs --------------------------------------------------------------------------------------------


def test_image_writes_pictures_json_and_report(run, net, tmp_path):
    out = tmp_path / "runs" / "x"
    photos = [photo.path for photo in sample_photos()[:2]]
    code, text, err = run("image", f"{net}:subject", *photos, "--classes", "top3", "--out", out)
    assert code == 0, err
    value = json.loads((out / "image.json").read_text())
    assert value["exact"] and value["residual"] < 1e-5
    assert [row["name"] for row in value["images"]] == [path.name for path in photos]
    for row in value["images"]:
        assert len(row["maps"]) == 3
        for file in (row["picture"], row["sheet"], *(item["file"] for item in row["maps"])):
            with Image.open(out / file) as picture:
                assert min(picture.size) > 10
        scores = [item["score"] for item in row["maps"]]
        assert scores == sorted(scores, reverse=True)
        height, width = row["size"]
        for item in row["maps"]:
            if item["box"]:
                x0, y0, x1, y1 = item["box"]
                assert 0 <= x0 < x1 <= width
                assert 0 <= y0 < y1 <= height
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["model"]["transform"]["size"] == [56, 56]
    assert len(manifest["model"]["hash"]) == 64
    assert "chelsea.png" in text
    assert (out / "report.html").stat().st_size > 10_000


def test_image_without_out_writes_nothing(run, net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, _ = run("image", f"{net}:subject", sample_photos()[0].path)
    assert code == 0
    assert "chelsea.png" in text
    assert list(tmp_path.iterdir()) == []


def test_image_takes_folders_and_globs_and_names(run, net, tmp_path):
    for name in ("b.png", "a.png"):
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / name)
    out = tmp_path / "out"
    assert run("image", f"{net}:subject", tmp_path / "*.png", "--classes", "car; 3", "--out", out)[0] == 0
    value = json.loads((out / "image.json").read_text())
    assert [row["name"] for row in value["images"]] == ["a.png", "b.png"]
    assert [item["name"] for item in value["images"][0]["maps"]] == ["car", "star"]


def test_a_network_without_exact_maps_is_answered_by_a_gradient_method_that_says_so(run, net, tmp_path):
    out = tmp_path / "out"
    code, text, err = run("image", f"{net}:flat", sample_photos()[0].path, "--out", out)
    assert code == 0, err
    assert "gradcam at" in text
    assert "not exact" in text
    value = json.loads((out / "image.json").read_text())
    assert value["method"] == "gradcam"
    assert value["exact"] is False
    assert value["residual"] is None
    assert "Not exact:" in (out / "report.html").read_text()


def test_image_shows_several_methods_side_by_side(run, net, tmp_path):
    out = tmp_path / "out"
    photo = sample_photos()[0].path
    args = ("image", f"{net}:subject", photo, "--classes", "top2", "--method", "cam", "--method", "Grad-CAM++", "--out")
    code, text, err = run(*args, out)
    assert code == 0, err
    value = json.loads((out / "image.json").read_text())
    (row,) = value["images"]
    assert [(item["method"], item["class"]) for item in row["maps"]] == [
        (method, item["class"]) for method in ("cam", "gradcam++") for item in row["maps"][:2]
    ]
    assert [one["method"] for one in value["methods"]] == ["cam", "gradcam++"]
    assert len({item["file"] for item in row["maps"]}) == 4
    with Image.open(out / row["sheet"]) as two:
        assert two.height > two.width * 0.5  # two rows of three panels; one row is a third
    page = (out / "report.html").read_text()
    assert "Method: cam at" in page
    assert "Method: gradcam++ at" in page
    assert "gradcam++" in text
    refused(run(*args[:-1], "--method", "gradcam", "--method", "cam", "--out", tmp_path / "x"), "twice")


def test_image_measures_faithfulness(run, net, tmp_path):
    out = tmp_path / "out"
    code, text, err = run("image", f"{net}:subject", sample_photos()[0].path, "--faithfulness", "--out", out)
    assert code == 0, err
    value = json.loads((out / "image.json").read_text())
    scores = value["images"][0]["faithfulness"]["cam"]
    assert {"insertion", "deletion", "insertion.random"} <= set(scores)
    assert len(scores["deletion"]) == 1
    assert value["faithfulness"]["cam"]["deletion"]["maps"]["mean"] == pytest.approx(scores["deletion"][0])
    assert "deletion" in text
    assert "Faithfulness of cam" in (out / "report.html").read_text()
    printed = text[text.index("faithfulness of cam") : text.index("cam at ")].splitlines()
    code, text, err = run("image", f"{net}:subject", sample_photos()[0].path, "--faithfulness")
    assert code == 0, err
    assert printed[1:-1] == text[text.index("faithfulness of cam") :].splitlines()[1 : len(printed) - 1]


@pytest.mark.parametrize(("wanted", "drawn"), [("none", 0), ("1", 1), ("all", 3)])
def test_pictures_are_drawn_for_as_many_photos_as_asked_for(run, net, tmp_path, wanted, drawn):
    out = tmp_path / "out"
    photos = [photo.path for photo in sample_photos()[:3]]
    code, text, err = run("image", f"{net}:subject", *photos, "--pictures", wanted, "--out", out)
    assert code == 0, err
    value = json.loads((out / "image.json").read_text())
    assert [row["sheet"] is not None for row in value["images"]] == [number < drawn for number in range(3)]
    assert len(list((out / "images").glob("*.png"))) == drawn
    seconds = value["manifest"]["seconds"]
    assert seconds["maps"] > 0
    assert (seconds["pictures"] > 0) == (drawn > 0)
    assert f"pictures of {drawn} photos" in text
    assert all(path.name in (out / "report.html").read_text() for path in photos)


def test_pictures_can_be_added_to_a_finished_run(run, net, tmp_path):
    photos = [photo.path for photo in sample_photos()[:2]]
    args = ("image", f"{net}:subject", *photos, "--out")
    assert run(*args, tmp_path / "whole")[0] == 0
    assert run(*args, tmp_path / "later", "--pictures", "none")[0] == 0
    before = (tmp_path / "later" / "arrays" / "maps.npz").stat().st_mtime_ns
    assert run(*args, tmp_path / "later", "--pictures", "all", "--resume")[0] == 0
    assert same_files(tmp_path / "whole" / "images", tmp_path / "later" / "images") == 6
    assert (tmp_path / "later" / "arrays" / "maps.npz").stat().st_mtime_ns == before
    first, second = (json.loads((tmp_path / name / "image.json").read_text()) for name in ("whole", "later"))
    assert first["images"] == second["images"]


def same_files(one, two):
    """The number of files of two folders, which are the same to the byte."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    return len(names)


@pytest.mark.parametrize("where", ["maps", "pictures"])
def test_an_interrupted_image_run_goes_on_to_the_same_bytes(run, net, tmp_path, monkeypatch, where):
    import explain.localization.photo_pictures as photo_pictures
    import explain.localization.photos as photos

    photo = np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), dtype=np.uint8)
    for number, pixels in enumerate(photo):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    args = ("image", f"{net}:subject", tmp_path / "*.png", "--classes", "top2", "--batch-size", 2, "--out")
    assert run(*args, tmp_path / "whole")[0] == 0
    home, name = (photos, "_mapped") if where == "maps" else (photo_pictures, "_sheet")
    work, calls = getattr(home, name), []

    def interrupted(*a):
        calls.append(a)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*a)

    monkeypatch.setattr("explain.runs.Checkpoint.due", lambda self, name: self.folder is not None)
    monkeypatch.setattr(home, name, interrupted)
    code, _, err = run(*args, tmp_path / "cut")
    assert code == 130
    assert "--resume" in err
    assert run(*args, tmp_path / "cut", "--resume")[0] == 0
    if where == "maps":
        assert len(calls) == 3 + 2  # of four batches, two were kept
    assert same_files(tmp_path / "whole" / "images", tmp_path / "cut" / "images") == 7 * 4
    assert same_files(tmp_path / "whole" / "arrays", tmp_path / "cut" / "arrays") == 1
    first, second = (json.loads((tmp_path / name / "image.json").read_text()) for name in ("whole", "cut"))
    assert {key: first[key] for key in first if key != "manifest"} == {
        key: second[key] for key in second if key != "manifest"
    }


def test_a_photo_that_breaks_off_is_named_and_the_run_goes_on_once_it_is_whole(run, net, tmp_path, monkeypatch):
    import explain.localization.photos as photos

    pixels = np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), dtype=np.uint8)
    for number, photo in enumerate(pixels):
        Image.fromarray(photo).save(tmp_path / f"{number}.jpg")
    args = ("image", f"{net}:subject", tmp_path / "*.jpg", "--batch-size", 2, "--out")
    assert run(*args, tmp_path / "whole")[0] == 0
    broken = tmp_path / "5.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    work, calls = photos._mapped, []
    monkeypatch.setattr(photos, "_mapped", lambda *a: calls.append(a) or work(*a))
    refused(run(*args, tmp_path / "cut"), broken, "truncated")
    assert len(calls) == 2
    refused(run(*args, tmp_path / "cut"), "cut.partial", "--resume")
    broken.write_bytes(whole)
    assert run(*args, tmp_path / "cut", "--resume")[0] == 0
    assert len(calls) == 4
    assert same_files(tmp_path / "whole" / "arrays", tmp_path / "cut" / "arrays") == 1
    assert same_files(tmp_path / "whole" / "images", tmp_path / "cut" / "images") == 7 * 3


@pytest.mark.slow
def test_a_killed_image_run_goes_on_to_the_same_bytes(net, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (40, 64, 80, 3), dtype=np.uint8)
    for number, pixels in enumerate(photo):
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    command = [sys.executable, "-m", "explain", "image", f"{net}:subject", str(tmp_path / "*.png"), "--classes", "top5"]
    subprocess.run([*command, "--out", tmp_path / "whole"], check=True, capture_output=True)
    log = (tmp_path / "log").open("w+")
    job = subprocess.Popen([*command, "--out", tmp_path / "cut"], stdout=subprocess.DEVNULL, stderr=log)
    images = tmp_path / "cut.partial" / "images"
    while not (images.exists() and len(list(images.iterdir())) > 20):
        assert job.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.01)
    job.kill()
    job.wait()
    log.close()
    assert not (tmp_path / "cut").exists()
    subprocess.run([*command, "--out", tmp_path / "cut", "--resume"], check=True, capture_output=True)
    assert same_files(tmp_path / "whole" / "images", tmp_path / "cut" / "images") == 40 * 7
    assert same_files(tmp_path / "whole" / "arrays", tmp_path / "cut" / "arrays") == 1


def test_localize_prints_accuracy_first_and_writes_the_contract(run, net, scenes, tmp_path):
    out = tmp_path / "loc"
    code, text, err = run("localize", f"{net}:subject", "--data", scenes, "--out", out, "--batch-size", 5)
    assert code == 0, err
    assert text.index("accuracy: top-1") < text.index("gt_known")
    value = json.loads((out / "result.json").read_text())
    names = {"gt_known", "top1_loc_error", "top5_loc_error", "top1_cls_error", "top5_cls_error", "maxboxacc"}
    scores = value["metrics"]["cam"]["cam2016"]
    assert names <= set(scores)
    assert names <= set(value["baselines"]["centre"])
    for score in scores.values():
        assert set(score) == {"value", "low", "high", "n"}
        assert score["low"] <= score["value"] <= score["high"]
        assert score["n"] == 12
    assert len(value["images"]) == 12
    # GT-known again, from the boxes in the file.
    from explain.localization.metrics import best_ious

    right = [
        row["box"] is not None and best_ious(np.array([row["box"]]), np.array(row["truth"]))[0] >= 0.5
        for row in value["images"]
    ]
    assert scores["gt_known"]["value"] == pytest.approx(100 * np.mean(right))
    assert (out / "report.html").exists()


def test_neurons_writes_the_contract_and_report_makes_the_page_again(run, net, scenes, tmp_path):
    out = tmp_path / "neurons"
    code, text, err = run(
        "neurons", f"{net}:subject", "--data", scenes, "--length", 3, "--quantile", 0.02, "--out", out
    )
    assert code == 0, err
    assert "8 units" in text
    with (out / "units.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == (
        "unit,formula,iou,length,category,threshold,active,precision,recall,iou_heldout,p_value,bound,gap,ceiling,"
        "certified,search,label,score"
    ).split(",")
    assert [int(row["unit"]) for row in rows] == list(range(8))
    value = json.loads((out / "run.json").read_text())
    for row, unit in zip(rows, value["units"], strict=True):
        assert float(row["iou"]) == unit["iou"]
        assert unit["score"] <= unit["iou"] <= unit["ceiling"] + 1e-12
    assert any(unit["length"] > 1 for unit in value["units"])
    (out / "report.html").unlink()
    assert run("report", out)[0] == 0
    page = (out / "report.html").read_text()
    assert all(f'id="unit-{number}"' in page for number in range(8))


def test_resume_of_a_finished_run_and_the_same_answer_twice(run, net, scenes, tmp_path):
    args = ("neurons", f"{net}:subject", "--data", scenes, "--limit", 6, "--units", "2:5", "--out")
    assert run(*args, tmp_path / "a")[0] == 0
    assert run(*args, tmp_path / "b", "--batch-size", 32)[0] == 0
    assert (tmp_path / "a" / "units.csv").read_bytes() == (tmp_path / "b" / "units.csv").read_bytes()
    code, text, _ = run(*args, tmp_path / "a", "--resume")
    assert code == 0
    assert "complete already" in text


def test_interrupted_run_is_kept_and_resumed_to_the_same_result(run, net, scenes, tmp_path, monkeypatch):
    import explain.localization.mapping as mapping

    args = ("localize", f"{net}:subject", "--data", scenes, "--no-random-weights", "--batch-size", 2, "--out")
    assert run(*args, tmp_path / "whole")[0] == 0
    measure, calls = mapping._mapped, []

    def interrupted(*a):
        calls.append(a)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(*a)

    monkeypatch.setattr("explain.runs.Checkpoint.due", lambda self, name: self.folder is not None)
    monkeypatch.setattr(mapping, "_mapped", interrupted)
    code, _, err = run(*args, tmp_path / "cut")
    assert code == 130
    assert "--resume" in err
    assert not (tmp_path / "cut").exists()
    refused(run(*args, tmp_path / "cut"), "interrupted run", "--resume", "--overwrite")
    assert run(*args, tmp_path / "cut", "--resume")[0] == 0
    assert len(calls) == 4 + 3  # three batches of six were kept
    first, second = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "cut"))
    assert first["metrics"] == second["metrics"]
    assert first["images"] == second["images"]


def test_models_and_doctor_and_data_check(run, net, scenes):
    code, text, _ = run("models")
    assert code == 0
    assert "resnet50" in text
    code, text, _ = run("models", "--check", "shufflenet_v2_x0_5")
    assert code == 0
    assert "conv5" in text
    assert "yes" in text
    code, text, err = run("doctor", f"{net}:subject", "--data", scenes, "--limit", "4")
    assert code == 0, err
    assert len(text.strip().splitlines()) == 10
    for word in (
        "versions",
        "device",
        "map",
        "exact CAM",
        "residual",
        "transform",
        "accuracy",
        "speed",
        "estimate",
    ):
        assert re.search(f"^{word}", text, re.MULTILINE)
    code, text, _ = run("data", "check", recipe_path("scenes") / "sample")
    assert code == 0
    assert "nothing wrong" in text


# --- bad input -------------------------------------------------------------------------------------------


def test_missing_and_broken_images(run, net, tmp_path):
    out = tmp_path / "out"
    refused(run("image", f"{net}:subject", tmp_path / "no.jpg", "--out", out), "no.jpg", "does not exist")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    refused(run("image", f"{net}:subject", broken, "--out", out), "broken.jpg", "cannot be read")
    (tmp_path / "empty").mkdir()
    refused(run("image", f"{net}:subject", tmp_path / "empty", "--out", out), "holds no pictures")
    assert not out.exists()
    assert not out.with_name("out.partial").exists()


def test_unknown_model_layer_class_and_options(run, net, scenes, tmp_path):
    photo, out = sample_photos()[0].path, tmp_path / "out"
    refused(run("image", "resnet5", photo), "unknown model 'resnet5'", "resnet50")
    refused(run("image", f"{net}:nothing", photo), "nothing")
    refused(run("image", "no_file.py:make", photo), "no file no_file.py")
    refused(run("image", f"{net}:subject", photo, "--classes", "hous"), "unknown class 'hous'", "house")
    refused(run("image", f"{net}:subject", photo, "--classes", "11"), "classes 0 to 10")
    refused(run("image", f"{net}:subject", photo, "--method", "magic"), "unknown method 'magic'")
    refused(run("image", f"{net}:subject", photo, "--layer", "nowhere", "--method", "gradcam"), "nowhere")
    refused(run("image", f"{net}:subject", photo, "--pictures", "some"), "--pictures 'some'", "all, or none")
    refused(run("image", f"{net}:subject", photo, "--classes", "²"), "unknown class '²'")
    refused(run("image", f"{net}:subject", "**.jpg"), "**.jpg cannot be searched", "'**'")
    refused(run("image", f"{net}:subject", "a" * 5000), "cannot be searched: File name too long")
    refused(run("neurons", f"{net}:subject", "--data", scenes, "--layer", "0.9", "--out", out), "no layer '0.9'")
    refused(run("neurons", f"{net}:subject", "--data", scenes, "--units", "5:99", "--out", out), "units 0 to 7")
    refused(run("localize", f"{net}:subject", "--data", scenes, "--protocol", "cam16", "--out", out), "cam2016")
    refused(run("image", f"{net}:subject", photo, "--device", "cuda:77"), "cuda:77")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit(run, tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    photo = sample_photos()[0].path
    refused(
        run("image", "resnet18", photo, "--weights", tmp_path / "w.pth"),
        "do not fit resnet18",
        "bn1.weight",
        "conv1.weight is",
    )
    refused(run("image", "resnet18", photo, "--weights", tmp_path / "none.pth"), "none.pth do not exist")
    (tmp_path / "text.pth").write_text("hello")
    refused(run("image", "resnet18", photo, "--weights", tmp_path / "text.pth"), "cannot be read")


def test_heads_without_exact_maps_are_refused_with_the_reason(run, net, scenes, tmp_path):
    photo = sample_photos()[0].path
    command = ("image", f"{net}:flat", photo, "--method", "cam")
    refused(run(*command), "no exact class activation map", "sees positions", "linear_head")
    refused(
        run("localize", f"{net}:flat", "--data", scenes, "--out", tmp_path / "o"),
        "no exact class activation map",
    )
    refused(run("image", f"{net}:bare", photo), "transform")


def test_probe_folder_that_does_not_match(run, net, scenes, tmp_path):
    import shutil

    for name, spoil, parts in (
        ("size", _halve_mask, ("index.csv", "line 3")),
        ("id", _unknown_id, ("index.csv", "line 3", "250")),
        ("file", lambda folder: (folder / "images" / _image_of(folder)).unlink(), ("index.csv", "line 3")),
    ):
        folder = tmp_path / name
        shutil.copytree(scenes, folder)
        spoil(folder)
        out = tmp_path / f"out-{name}"
        refused(run("neurons", f"{net}:subject", "--data", folder, "--out", out), *parts)
        assert not out.exists()
        assert not out.with_name(out.name + ".partial").exists()


def _row(folder):
    with (folder / "index.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))[1]


def _image_of(folder):
    return Path(_row(folder)["image"]).name


def _halve_mask(folder):
    path = folder / _row(folder)["mask"]
    with Image.open(path) as mask:
        mask.resize((112, 112)).save(path)


def _unknown_id(folder):
    path = folder / _row(folder)["mask"]
    with Image.open(path) as mask:
        ids = np.array(mask)
    ids[0, 0] = 250
    Image.fromarray(ids).save(path)


def test_output_folder_that_holds_a_run_or_other_files(run, net, tmp_path):
    photo, out = sample_photos()[0].path, tmp_path / "out"
    command = ("image", f"{net}:subject", photo, "--out", out)
    assert run(*command)[0] == 0
    before = (out / "image.json").read_bytes()
    refused(run(*command), "already holds a run", "--overwrite")
    refused(run(*command, "--classes", "nope", "--overwrite"), "unknown class")
    assert (out / "image.json").read_bytes() == before  # kept until a new run is complete
    assert run(*command, "--overwrite")[0] == 0
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    refused(run(*command[:-1], tmp_path / "own", "--overwrite"), "not a run")
    assert (tmp_path / "own" / "thesis.txt").read_text() == "mine"


def test_report_of_no_run(run, tmp_path):
    refused(run("report", tmp_path / "no"), "no")
    (tmp_path / "empty").mkdir()
    refused(run("report", tmp_path / "empty"), "empty")


def test_usage_errors_are_one_line(run, net, tmp_path):
    photo = sample_photos()[0].path
    refused(run("image", f"{net}:subject", photo, "--limit", "0"), "--limit", "--help")
    refused(run("neurons", f"{net}:subject"), "--data")
    refused(run("nothing"), "nothing")
    refused(run("image", f"{net}:subject", photo, "--mean", "1,2"), "--mean '1,2'")
    refused(run("image", f"{net}:subject", photo, "--std", ""), "--std ''")
    refused(run("image", f"{net}:subject", photo, "--input-size", ""), "--input-size ''")
    refused(run("image", f"{net}:subject", photo, "--seed", 2**70), "--seed")
    refused(run("models", "--weights", "DEFAULT"), "--check MODEL")
    refused(run("image", f"{net}:subject", photo, "--std", "0,0,0"), "above 0")
    refused(run("image", f"{net}:subject", photo, "--transform", "os:sep"), "cannot be called")
    refused(run("image", f"{net}:subject", photo, "--device", "meta"), "meta")
    refused(run("image", f"{net}:subject", photo, "--input-size", "0"), "not positive")
    names = tmp_path / "names.json"
    for text, part in (("5", "no list"), ("{", "cannot be read"), ('["a", "b"]', "2 class names for a network of 11")):
        names.write_text(text)
        refused(run("image", f"{net}:subject", photo, "--class-names", names), part)
    refused(run("neurons", f"{net}:subject", "--data", tmp_path, "--quantile", "nan"), "quantile")
    refused(run("localize", f"{net}:subject", "--data", "sample", "--out", "/proc/no/run"), "cannot be written")


def test_a_network_that_fails_leaves_one_line_and_no_folder(run, scenes, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(NET + BROKEN)
    out = tmp_path / "out"
    for command in (
        ("image", f"{path}:broken", sample_photos()[0].path),
        ("localize", f"{path}:broken", "--data", scenes),
        ("neurons", f"{path}:broken", "--data", scenes),
    ):
        refused(run(*command, "--out", out), "the network fails", "56, 56) float32 (ValueError: no luck)")
        assert [child.name for child in tmp_path.iterdir()] == ["broken.py"]
