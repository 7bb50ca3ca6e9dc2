"""A small network with layers of every kind, and a job over them."""

from __future__ import annotations

import torch
from torch import nn

from explain.data import probe_from_arrays
from explain.nets.subject import as_subject
from explain.neurons.collect import collect_units
from explain.neurons.collected import Job
from explain.neurons.units import find_layers

COUNT = 22


class Net(nn.Module):
    """Maps, maps with channels last, tokens behind a class token, a function, and vectors."""

    def __init__(self, seed=0):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=4, padding=1)
        self.last = nn.Linear(5, 6)
        self.tokens = nn.Linear(6, 4)
        self.fc = nn.Linear(4, 3)
        self.class_token = nn.Parameter(torch.zeros(1, 1, 6))
        generator = torch.Generator().manual_seed(seed)  # of its own: networks are made in several threads at once
        with torch.no_grad():
            for value in self.parameters():
                value.normal_(0, 0.4, generator=generator)

    def forward(self, x):
        x = self.conv(x).relu()
        x = self.last(x.permute(0, 2, 3, 1)).relu_()
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x.flatten(1, 2)], 1)
        return self.fc(self.tokens(x)[:, 0] + self.tokens(x).mean(1))


LAYERS = ("conv", "conv:relu", "last", "tokens", "fc")


def make_probe(count=COUNT):
    images = torch.randn(count, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    masks = (images[:, :2] > 0.5).numpy()
    return probe_from_arrays(images, masks, ["a", "b"])


def make_job(layers=LAYERS, *, units=None, directions=None, net=None, count=COUNT, **options):
    subject, probe = as_subject(net or Net()), make_probe(count)
    found = find_layers(subject, probe.images[0][None], layers, units=units, directions=directions)
    return Job(subject, probe, found, **{"quantile": 0.05, "batch_size": 4, **options})


def plain(collected):
    """What must be the same in every process: arrays by layer."""
    return [
        (
            one.histogram,
            one.thresholds,
            one.peaks,
            one.firing.unit,
            one.firing.image,
            one.firing.maps,
            one.k,
            one.passes,
        )
        for one in collected
    ]


def share_of_two(world):
    return plain(collect_units(make_job(keep_bytes=1 << 12), world))
