"""Drawn scenes at a quarter of their pixels, in memory, and networks on them: of planted colours, of random weights."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from explain.data import localization_from_items, probe_from_arrays
from explain.data.scene_paint import COLORS
from explain.data.scenes import LAYERS, draw_scene
from explain.nets import Preprocess, Subject

OBJECTS = LAYERS["mask"][1]
COUNT = 32
PLAIN = Preprocess((56, 56), (0.0,) * 3, (1.0,) * 3)
CLASSES = ("red", "green", "blue", "yellow")


class Colors(nn.Module):
    """Unit k is how much of colour k is at a place, and class k looks for unit k alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.pool = nn.AvgPool2d(4)
        self.fc = nn.Linear(4, 4)
        rows = [[1, -0.6, -0.6, -0.1], [-0.6, 1, -0.6, -0.05], [-0.7, -0.3, 1, -0.05], [0.5, 0.5, -1, -0.1]]
        weight = torch.tensor(rows)
        with torch.no_grad():
            self.conv.weight.copy_(weight[:, :3, None, None])
            self.conv.bias.copy_(weight[:, 3])
            self.fc.weight.copy_(20 * torch.eye(4))
            self.fc.bias.zero_()

    def forward(self, x):
        return self.fc(self.pool(self.conv(x).relu()).mean((2, 3)))


def drawn(count=COUNT, seed=5):
    """Pictures of 112 x 112 pixels, and their masks ``(n, 2, 112, 112)`` of objects and, behind them, colours."""
    pictures, masks = [], []
    for number in range(count):
        scene = draw_scene(np.random.default_rng([seed, number]), number % 11)
        image = Image.fromarray(scene.image).resize((112, 112), Image.Resampling.BOX)
        pictures.append(image)
        colors = scene.masks["color_mask"][::2, ::2].astype(int)
        masks.append(np.stack([scene.masks["mask"][::2, ::2], np.where(colors > 0, colors + len(OBJECTS), 0)]))
    return pictures, masks


def probe_of(pictures, masks):
    return probe_from_arrays(pictures, masks, [*OBJECTS, *COLORS])


def logits_of(subject, pictures):
    with torch.no_grad():
        return subject.model(torch.stack([subject.transform(picture) for picture in pictures]))


def labelled(subject, pictures):
    """The pictures with what the network says of them as labels."""
    classes = logits_of(subject, pictures).argmax(1).tolist()
    return localization_from_items([(picture, label, None) for picture, label in zip(pictures, classes, strict=True)])


def planted():
    return Subject(Colors().eval(), PLAIN, CLASSES, "planted")


def random_net(pictures, seed):
    """Three layers of random weights, whose classes come about equally often."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 12, 5, 2, 2), nn.Conv2d(12, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, 1)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
        head = nn.Linear(16, 4)
        nn.init.normal_(head.weight)
    trunk = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())])
    net = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    subject = Subject(net, Preprocess((56, 56), (0.5,) * 3, (0.25,) * 3), ("a", "b", "c", "d"), "random")
    with torch.no_grad():
        head.bias.sub_(logits_of(subject, pictures).mean(0))
    return subject
