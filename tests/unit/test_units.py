"""Units in layers of every layout, and directions."""

import numpy as np
import pytest
import torch
from collecting import LAYERS, Net, make_job, make_probe
from torch import nn

from explain.errors import InputError, ModelError
from explain.maps import Cells as Centres
from explain.nets.subject import as_subject
from explain.neurons.collect import collect_units
from explain.neurons.units import Directions, find_layers, looking_at, stream_maps


def found(layers, net=None, **options):
    return find_layers(as_subject(net or Net()), torch.stack(make_probe(2).images[:1]), layers, **options)


def test_every_layout_is_told():
    layers = found(LAYERS)
    facts = [(one.layer, one.layout and one.layout.kind, one.grid, one.total) for one in layers]
    assert facts == [
        ("conv", "nchw", (8, 12), 5),
        ("conv:relu", "nchw", (8, 12), 5),
        ("last", "nhwc", (8, 12), 6),
        ("tokens", "tokens", (8, 12), 4),
        ("fc", None, (1, 1), 3),
    ]
    assert all(one.units.tolist() == list(range(one.total)) for one in layers)


def test_maps_are_read_as_they_lie():
    probe, net = make_probe(5), Net()
    subject = as_subject(net)
    layers = find_layers(subject, probe.images[0][None], LAYERS)
    (first, maps), (second, rest) = stream_maps(subject, probe, layers, batch_size=3)
    assert (first, second) == (range(0, 3), range(3, 5))
    assert [tuple(one.shape) for one in rest] == [
        (2, 5, 8, 12),
        (2, 5, 8, 12),
        (2, 6, 8, 12),
        (2, 4, 8, 12),
        (2, 3, 1, 1),
    ]
    with torch.no_grad():
        conv = net.conv(torch.stack(probe.images[:3]))
        last = net.last(conv.relu().permute(0, 2, 3, 1))
        tokens = net.tokens(last.relu())
        logits = net(torch.stack(probe.images[:3]))
    expected = [conv, conv.relu(), last.permute(0, 3, 1, 2), tokens.permute(0, 3, 1, 2), logits[:, :, None, None]]
    for got, want in zip(maps, expected, strict=True):  # `last` is what it gave, though ReLU then changed it in place
        assert torch.allclose(got, want, atol=1e-6)
        assert got.dtype == torch.float32
        assert got.is_contiguous()
    parts = list(stream_maps(subject, probe, layers, batch_size=3, start=3, stop=4))
    assert [indices for indices, _ in parts] == [range(3, 4)]


def test_half_precision_becomes_float32():
    net = Net().to(torch.bfloat16)
    subject = as_subject(net)
    layers = find_layers(subject, torch.stack(make_probe(2).images[:1]).bfloat16(), ["conv"], units=[3])
    ((_, (maps,)),) = stream_maps(subject, make_probe(2), layers, batch_size=4)
    assert maps.shape == (2, 1, 8, 12)
    assert maps.dtype == torch.float32


def test_directions_are_units():
    rng = torch.Generator().manual_seed(0)
    matrix, bias = torch.randn(7, 6, generator=rng), torch.randn(7, generator=rng)
    directions = Directions(matrix, bias, relu=True)
    (plain,) = collect_units(make_job(("last",)))
    (eye,) = collect_units(make_job(("last",), directions=Directions(torch.eye(6))))
    assert np.array_equal(eye.thresholds, plain.thresholds)
    assert np.array_equal(eye.firing.maps, plain.firing.maps)
    job = make_job(("last",), directions=directions, units=[5, 1])
    (layer,) = job.layers
    assert (layer.total, layer.units.tolist()) == (7, [1, 5])
    ((_, (maps,)),) = stream_maps(job.subject, job.probe, job.layers, batch_size=99)
    ((_, (raw,)),) = stream_maps(job.subject, job.probe, make_job(("last",)).layers, batch_size=99)
    for place, row in enumerate((1, 5)):
        expected = ((raw * matrix[row][:, None, None]).sum(1) + bias[row]).clamp(min=0)
        assert torch.allclose(maps[:, place], expected, atol=1e-5)
    (collected,) = collect_units(job)
    k = collected.k
    assert collected.thresholds.tolist() == [maps[:, place].flatten().sort(descending=True)[0][k] for place in range(2)]
    (linear,) = make_job(("fc",), directions=Directions(torch.randn(4, 3, generator=rng))).layers
    assert (linear.grid, linear.total) == ((1, 1), 4)


def test_receptive_fields_of_a_layer():
    subject, images = as_subject(Net()), torch.stack(make_probe(2).images[:1])
    conv, fc, relu = find_layers(subject, images, ["conv", "fc", "conv:relu"])
    assert looking_at(subject, images, conv) == Centres((0.5, 0.5), (4.0, 4.0))
    assert looking_at(subject, images, fc) is None
    assert looking_at(subject, images, relu) is None


class Odd(nn.Module):
    """Gives a layer ``inner`` whatever output is asked for."""

    def __init__(self, output):
        super().__init__()
        self.inner = nn.Identity()
        self.fc = nn.Linear(3, 2)
        self.output = output

    def forward(self, x):
        self.inner(self.output)
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("output", "grid", "units"),
    [
        (torch.zeros(1, 9, 1, 1), (1, 1), 9),
        (torch.zeros(1, 9, 1, 7), (1, 7), 9),
        (torch.zeros(1, 8, 12, 7), (8, 12), 7),
        (torch.zeros(1, 5), (1, 1), 5),
    ],
)
def test_pooled_maps_are_maps(output, grid, units):
    (layer,) = found(["inner"], Odd(output))
    assert (layer.grid, layer.total) == (grid, units)
    assert layer.read(output).shape == (1, units, *grid)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(1, 3, 5), "units need maps"),
        (torch.zeros(1, 2, 3, 4, 5), "units need maps"),
        (torch.zeros(1, 4, dtype=torch.int64), "floating point"),
        ((torch.zeros(1, 4),), "returns tuple"),
    ],
)
def test_what_is_no_map_is_refused(output, message):
    with pytest.raises(ModelError, match=message):
        found(["inner"], Odd(output))


def test_errors():
    with pytest.raises(ModelError, match="no layer 'cnov'; near: conv"):
        found(["cnov"])
    for options, message in [
        ({"units": [5]}, "units 0 to 4"),
        ({"units": []}, "at most once"),
        ({"units": [1, 1]}, "at most once"),
        ({"directions": Directions(torch.ones(2, 4))}, "directions of 4 channels, but layer 'conv' has 5"),
    ]:
        with pytest.raises(InputError, match=message):
            found(["conv"], **options)
    for layers in ([], ["conv", "conv"]):
        with pytest.raises(InputError, match="each once"):
            found(layers)
    for matrix, bias in [(torch.ones(3), None), (torch.ones(2, 2, dtype=torch.int64), None), (torch.ones(0, 2), None)]:
        with pytest.raises(InputError, match="float matrix"):
            Directions(matrix, bias)
    with pytest.raises(InputError, match="2 directions need as many biases"):
        Directions(torch.ones(2, 3), torch.ones(3))
