"""The messages that the pages of docs/errors quote are those that the code raises, numbers apart."""

import builtins
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pages import ROOT, blocks_of, masked
from PIL import Image
from torch import nn

import explain
from explain import opencv
from explain.errors import ExplainError
from explain.nets.inputs import suspicion
from explain.nets.modes import naming_errors
from explain.neurons.effects.opening import check_model
from explain.runs import run_folder

PAGES = sorted(path.stem for path in (ROOT / "docs" / "errors").glob("*.md") if path.stem != "index")


def flat():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5)
    return nn.Sequential(*layers).eval()


def pooled():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def probe(classes=None, number=0):
    """Three images; the second mask holds ``number``."""
    for folder in ("images", "masks"):
        Path("probe", folder).mkdir(parents=True)
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"probe/images/{n}.png")
        Image.fromarray(np.full((32, 32), number if n == 1 else 0, np.uint8)).save(f"probe/masks/{n}.png")
    rows = [f"{n}.png,masks/{n}.png" for n in range(3)]
    Path("probe/index.csv").write_text("\n".join(["image,mask", *rows]))
    if classes is not None:
        Path("probe/classes.json").write_text(json.dumps({"layers": {"mask": {"classes": classes}}}))
    explain.dissect(explain.load(pooled(), input_size=32), probe="probe")


def labelled(boxes):
    Path("own/images").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save("own/images/a.png")
    Path("own/images.csv").write_text("image,class_index\na.png,281\n")
    if boxes:
        Path("own/boxes.csv").write_text("image,x0,y0,x1,y1\na.png,0,0,10,10\n")
    explain.evaluate_localization(explain.load(pooled(), input_size=32), "own")


def picture():
    Image.new("RGB", (40, 30)).save("a.png")
    explain.cam(pooled(), "a.png")


def twice():
    for _ in range(2):
        with run_folder(Path("runs/cat"), config={}) as folder:
            (folder.path / "manifest.json").write_text("{}")


def other_weights():
    own, given = ({"name": "mine", "hash": letter * 64, "transform": None} for letter in "ab")
    check_model(SimpleNamespace(model=own), SimpleNamespace(describe=lambda: given))


def without_libgl():
    def refuse(name, *args, **kwargs):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        return real(name, *args, **kwargs)

    real = builtins.__import__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "__import__", refuse)
        opencv.load()


def misfit():
    torch.save(pooled().state_dict(), "gap.pth")
    explain.load(flat(), weights="gap.pth")


def no_memory():
    with naming_errors(torch.zeros(32, 3, 1, 1)):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def unnormalised():
    raise ExplainError(suspicion(torch.linspace(0, 255, 48).reshape(1, 3, 4, 4)))  # said as a note


RAISES = {
    "classes-do-not-fit": lambda: labelled(boxes=True),
    "labels-missing": lambda: labelled(boxes=False),
    "missing-classes-json": probe,
    "missing-libgl": without_libgl,
    "no-exact-cam": lambda: explain.cam(flat(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))),
    "no-transform": picture,
    "other-weights": other_weights,
    "out-of-memory": no_memory,
    "probe-without-concepts": lambda: probe([]),
    "run-folder-exists": twice,
    "unknown-id": lambda: probe([{"id": 1, "name": "sky"}], 7),
    "unknown-layer": lambda: explain.attribute(pooled(), torch.rand(1, 3, 32, 32), method="gradcam", layer="layer5"),
    "weights-do-not-fit": misfit,
    "wrong-normalisation": unnormalised,
}


def test_every_page_has_its_error():
    assert sorted(RAISES) == PAGES
    index = (ROOT / "docs" / "errors" / "index.md").read_text(encoding="utf-8")
    assert [name for name in PAGES if f"({name}.md)" not in index] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_quotes_what_is_raised(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExplainError) as raised, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        RAISES[page]()
    first = blocks_of((ROOT / "docs" / "errors" / f"{page}.md").read_text(encoding="utf-8"))[0]
    assert masked(first.body) == masked(f"explain: {raised.value}")
