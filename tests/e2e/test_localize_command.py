"""``explain localize``: several protocols and methods, processes, interruptions, earlier maps, image-less baselines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NET = """
import torch
from torch import nn
from explain.nets import Preprocess, Subject


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.trunk(x).mean((2, 3)))


def subject():
    return Subject(Net().eval(), Preprocess((32, 32)), ("red", "green", "blue"), "net")


def slow():
    import time

    found = subject()
    found.model.register_forward_hook(lambda *_: time.sleep(0.4))
    return found
"""


@pytest.fixture
def data(tmp_path):
    """Pictures of different sizes, each with a square of its class's colour, and a mask."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    images, boxes = ["image,class_index,mask"], ["image,x0,y0,x1,y1"]
    for number in range(22):
        height, width = rng.integers(40, 70, 2)
        picture = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        x0, y0 = rng.integers(0, 15, 2)
        x1, y1 = x0 + rng.integers(10, 25), y0 + rng.integers(10, 25)
        picture[y0:y1, x0:x1, number % 3] = 255
        mask = np.zeros((height, width), np.uint8)
        mask[y0:y1, x0:x1] = 255
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        images.append(f"{number}.png,{number % 3},masks/{number}.png")
        boxes.append(f"{number}.png,{x0},{y0},{x1},{y1}")
    (root / "images.csv").write_text("\n".join(images) + "\n")
    (root / "boxes.csv").write_text("\n".join(boxes) + "\n")
    return root


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "toynet.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "toynet"
    sys.modules.pop("toynet", None)


def result(folder: Path):
    return json.loads((folder / "result.json").read_text())


def same(first: Path, second: Path) -> None:
    a, b = result(first), result(second)
    assert a["metrics"] == b["metrics"]
    assert a["baselines_by_protocol"] == b["baselines_by_protocol"]
    assert a["images"] == b["images"]
    with np.load(first / "arrays" / "records.npz") as one, np.load(second / "arrays" / "records.npz") as other:
        assert set(one.files) == set(other.files)
        for name in one.files:
            assert np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f"), name


PROTOCOLS = ("cam2016", "cam2016-heuristics", "cam2016-code", "gradcam", "ilsvrc-devkit", "maxboxacc", "maxboxacc-v2",
             "pxap", "ts-cam", "bas")  # fmt: skip


def test_every_protocol_and_several_methods_at_once(run, net, data, tmp_path):
    chosen = [part for name in PROTOCOLS for part in ("--protocol", name)]
    code, text, err = run("localize", f"{net}:subject", "--data", data, *chosen, "--method", "cam", "--method",
                          "gradcam++", "--out", tmp_path / "run")  # fmt: skip
    assert code == 0, err
    found = result(tmp_path / "run")
    assert list(found["metrics"]) == ["cam", "gradcam++"]
    for method in found["metrics"].values():
        assert list(method) == list(PROTOCOLS)
        assert "pxap" in method["pxap"] and "pxap" not in method["cam2016"]
        assert "maxboxacc" not in method["cam2016-code"]  # there is no threshold to choose
        assert {"gt_known", "gt_known_val", "maxboxacc", "maxboxacc_30", "maxboxacc_v2_shared"} <= set(method["bas"])
    assert set(found["baselines_by_protocol"]) == {"centre", "full", "rings", "truth", "random_weights"}
    for protocol, scores in found["baselines_by_protocol"]["truth"].items():
        assert scores["gt_known"]["value"] == 100, protocol
    assert set(found["thresholds"]["cam"]["maxboxacc-v2"]) == {"fixed", "oracle", "oracle_30", "oracle_50", "oracle_70"}
    assert sum(found["errors"]["counts"].values()) == 22
    assert "no blacklist was given" in text
    assert (tmp_path / "run" / "report.html").exists()


def test_another_protocol_costs_no_forward_pass(run, net, data, tmp_path, monkeypatch):
    both = ("--protocol", "cam2016", "--protocol", "maxboxacc", "--no-random-weights")
    assert run("localize", f"{net}:subject", "--data", data, *both, "--out", tmp_path / "both")[0] == 0
    one = ("--protocol", "cam2016", "--no-random-weights")
    assert run("localize", f"{net}:subject", "--data", data, *one, "--out", tmp_path / "one")[0] == 0
    import toynet

    def refuse(self, x):
        raise AssertionError("a forward pass")

    monkeypatch.setattr(toynet.Net, "forward", refuse)
    again = ("--protocol", "maxboxacc", "--compare", "cam2016", "--no-random-weights")
    earlier = ("--maps", tmp_path / "one")
    code, text, err = run("localize", f"{net}:subject", "--data", data, *again, *earlier, "--out", tmp_path / "again")
    assert code == 0, err
    found, expected = (result(tmp_path / name)["metrics"]["cam"]["maxboxacc"] for name in ("again", "both"))
    assert found == expected
    assert "images flip from maxboxacc to cam2016" in text
    assert (tmp_path / "again" / "flips_cam.txt").read_text().strip() in text


def test_a_protocol_of_ones_own(run, net, data, tmp_path):
    (tmp_path / "mine.toml").write_text('base = "maxboxacc"\nthreshold = 0.3\niou = 0.3\n')
    code, _, err = run("localize", f"{net}:subject", "--data", data, "--protocol", tmp_path / "mine.toml", "--out",
                       tmp_path / "run", "--no-random-weights")  # fmt: skip
    assert code == 0, err
    found = result(tmp_path / "run")
    assert found["protocols"]["mine"]["threshold"] == 0.3
    assert found["protocols"]["mine"]["component"] == "polygon"
    assert {"maxboxacc", "maxboxacc_50"} <= set(found["metrics"]["cam"]["mine"])  # 0.3 is the main level here


def test_processes_share_the_work_and_give_the_same(run, net, data, tmp_path):
    rest = ("--data", data, "--batch-size", "4", "--protocol", "maxboxacc-v2", "--protocol", "bas", "--workers", "0")
    code, _, err = run("localize", f"{net}:subject", *rest, "--out", tmp_path / "one")
    assert code == 0, err
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29571", "-m",
               "explain", "localize", f"{net}:subject", *map(str, rest), "--out", str(tmp_path / "two")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    same(tmp_path / "one", tmp_path / "two")


def test_a_killed_run_goes_on(run, net, data, tmp_path, monkeypatch):
    rest = ("--data", data, "--batch-size", "2", "--no-random-weights", "--protocol", "maxboxacc-v2")
    assert run("localize", f"{net}:subject", *rest, "--out", tmp_path / "whole")[0] == 0
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    code = (
        "import dataclasses, explain.runs as runs\n"
        "runs.Checkpoint.__init__.__defaults__ = (None, 0.0, *runs.Checkpoint.__init__.__defaults__[2:])\n"
        "from explain.cli import main\nmain()\n"
    )
    command = [sys.executable, "-c", code, "localize", f"{net}:slow", *map(str, rest), "--out", str(tmp_path / "cut")]
    job = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pieces = tmp_path / "cut.partial" / "checkpoints"
    while not (pieces.exists() and len(list(pieces.glob("images@*.npz"))) >= 3):
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (tmp_path / "cut").exists()
    code, _, err = run("localize", f"{net}:slow", *rest, "--out", tmp_path / "cut", "--resume")
    assert code == 0, err
    same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("kind", ["centre", "full", "rings"])
def test_baselines_need_no_pictures(run, data, tmp_path, kind):
    for file in (data / "images").iterdir():  # headers are enough
        file.write_bytes(file.read_bytes()[:60])
    code, text, err = run("localize", kind, "--data", data, "--protocol", "maxboxacc", "--boxes", "first", "--out",
                          tmp_path / "run")  # fmt: skip
    assert code == 0, err
    found = result(tmp_path / "run")
    assert found["protocols"]["maxboxacc"]["instances"] == "first"
    assert f"{found['metrics'][kind]['maxboxacc']['maxboxacc']['value']:.2f}" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--protocol", "maxboxacc3"), "unknown protocol 'maxboxacc3'; near: maxboxacc"),
        (("--protocol", "nothing.toml"), "cannot be read"),
        (("--method", "gradcum"), "unknown method 'gradcum'"),
        (("--method", "cam", "--method", "CAM"), "give each once"),
        (("--boxes", "all"), "use any, first or largest"),
        (("--align", "centre"), "unknown alignment"),
        (("--protocol", "maxboxacc", "--align", "receptive-field"), "takes maps on the grid only"),
        (("--protocol", "maxboxacc", "--compare", "bas"), "show the network different pictures"),
        (("--blacklist", "missing.txt", "--protocol", "ilsvrc-devkit"), "missing.txt"),
        (("--maps", "missing"), "missing"),
        (("--split", "test"), "split"),
    ],
)
def test_bad_input_is_one_line(run, net, data, tmp_path, arguments, said):
    code, _, err = run("localize", f"{net}:subject", "--data", data, *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert said in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists() and not (tmp_path / "run.partial").exists()
