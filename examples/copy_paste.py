"""Copy-paste: from formulas to pictures that make a network say another class, counted beside controls.

A small network of colours on drawn scenes, so that everybody can see why. On the command line:
explain effects RUN_DIR copypaste --data DATA

Run it: python examples/copy_paste.py [RUN_DIR]
"""

import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import explain
from explain.data import as_localization, localization_from_items
from explain.data.scenes import write_scenes
from explain.nets import Preprocess
from explain.neurons import effects

COLORS = {"red": (1, -0.6, -0.6), "green": (-0.6, 1, -0.6), "blue": (-0.7, -0.3, 1), "yellow": (0.5, 0.5, -1)}


def make_network():
    """Unit k measures colour k; the class of a picture is the colour that there is most of."""
    units = nn.Conv2d(3, len(COLORS), 1)
    head = nn.Linear(len(COLORS), len(COLORS))
    with torch.no_grad():
        units.weight.copy_(torch.tensor(list(COLORS.values()))[..., None, None])
        units.bias.fill_(-0.1)
        head.weight.copy_(20 * torch.eye(len(COLORS)))
    net = nn.Sequential(units, nn.ReLU(), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return explain.load(net, transform=Preprocess((56, 56), (0.0,) * 3, (1.0,) * 3), classes=list(COLORS))


def main(out=None):
    with tempfile.TemporaryDirectory() as folder:
        scenes = write_scenes(Path(folder) / "scenes", count=24, seed=5)
        subject = make_network()
        run = explain.dissect(subject, "2", scenes, length=2, quantile=0.03, shuffles=0, draws=0)
        photos = as_localization(scenes).images
        with torch.no_grad():  # what the network says stands as the label
            said = subject.model(torch.stack([subject.transform(Image.open(photo)) for photo in photos]))
        data = localization_from_items(
            [(photo, int(row.argmax()), None) for photo, row in zip(photos, said, strict=True)]
        )
        found = effects.copypaste(
            run, data, count=3, photos=1, cutouts=2, sizes=(0.6, 0.9), draws=200, remove="inpaint"
        )
        found.show()
        if out:
            run.save(out)
            found.save(Path(out) / "effects" / "copypaste")
            print("report:", explain.render(out))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
