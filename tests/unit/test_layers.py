"""Several layers in one job, how maps are upsampled, whose values the quantile is of, and untrained networks."""

import csv
import json

import numpy as np
import pytest
import torch
from oracles.neurons import dense_iou, exact_rank, pillow_mask, threshold_of
from PIL import Image
from torch import nn

import explain
from explain.errors import InputError, ModelError
from explain.nets.untrained import untrained
from explain.neurons.collect import stream_maps
from explain.neurons.evidence.gathering import Asked
from explain.neurons.finding import Finder
from explain.neurons.merging import merge_runs
from explain.neurons.settings import Settings

SIZE, TARGET = (30, 36), (32, 40)
QUIET = Asked(shuffles=0, draws=0)


def small_net(seed=0):
    """A net whose weights are coarse fractions: no sum is rounded, so that no batch size changes a bit."""
    torch.manual_seed(seed)
    first, second = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Conv2d(5, 7, 3)
    with torch.no_grad():
        for layer, steps in ((first, 256), (second, 32)):
            for value in layer.parameters():
                value.mul_(steps).round_().div_(steps)
    return nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 2))


@pytest.fixture(scope="module")
def probe():
    rng = np.random.default_rng(5)
    masks = np.kron(rng.integers(0, 4, (10, 2, 6, 6)), np.ones((1, 1, 5, 6), int))
    images = torch.from_numpy(np.round(rng.standard_normal((10, 3, *SIZE)) * 64).astype(np.float32) / 64)
    return images, masks, {1: "a", 2: "b", 3: "c"}


@pytest.fixture(scope="module")
def maps(probe):
    with torch.no_grad():
        return small_net().eval()[:3](probe[0]).numpy()


def job(probe, layers, settings=None, **options):
    asked = settings or Settings(Finder(2), QUIET, 0.05, resolution=TARGET)
    return explain.dissect_layers(small_net(), layers, probe, asked, **options)


def same_runs(one, other):
    assert one.units == other.units
    assert (one.layer, one.grid, one.k, one.summary()) == (other.layer, other.grid, other.k, other.summary())
    assert np.array_equal(one.counts.counts, other.counts.counts)
    assert torch.equal(one.examples.maps, other.examples.maps)


# --- layers and bases ------------------------------------------------------------------------------------------


def test_layers_together_are_those_alone(probe, monkeypatch):
    calls = []

    def counting(*given, **options):
        for batch in stream_maps(*given, **options):
            calls.append(batch)
            yield batch

    monkeypatch.setattr("explain.neurons.collect.stream_maps", counting)
    together = job(probe, ["0", "1", "2", "5"])
    assert len(calls) == 1
    assert [run.layer for run in together] == ["0", "1", "2", "5"]
    assert [run.grid for run in together] == [(15, 18), (15, 18), (13, 16), (1, 1)]
    for run in together:
        alone = explain.dissect(
            small_net(), run.layer, probe, length=2, shuffles=0, draws=0, quantile=0.05, resolution=TARGET
        )
        same_runs(run, alone)


def test_a_layer_in_its_own_and_in_rotated_bases(probe):
    own, still, whole, default = *job(probe, ["2"], rotate=(0, 1)), job(probe, None)[0]
    assert [run.basis for run in (own, still, whole)] == ["", "rotated 0", "rotated 1"]
    assert own.units == still.units
    assert [unit.iou for unit in own.units] != [unit.iou for unit in whole.units]
    assert default.layer == "2"
    same_runs(own, default)
    from explain.neurons.directions import rotated

    given = Settings(Finder(2), QUIET, 0.05, resolution=TARGET, directions=rotated(7, 1))
    same_runs(whole, job(probe, ["2"], given)[0])
    some = Settings(Finder(2), QUIET, 0.05, resolution=TARGET, directions=rotated(7, 1), units=[1, 4])
    (part,) = job(probe, ["2"], some)
    assert list(part.units) == [whole.units[1], whole.units[4]]
    assert part.directions.describe() == whole.directions.describe()


def test_directions_are_units(probe, maps, tmp_path):
    from explain.neurons.units import Directions

    matrix = torch.zeros(3, 7)
    matrix[0, 4] = matrix[1, 2] = 1
    matrix[2, :2] = torch.tensor([0.5, -0.5])
    bias = torch.tensor([0.0, 2.0, 0.0])
    given = [Directions(matrix, bias, name="probes"), Directions(matrix, bias, relu=True, name="probes")]
    kept, run = (
        job(probe, ["2"], Settings(Finder(2), QUIET, 0.05, resolution=TARGET, directions=one))[0] for one in given
    )
    plain = job(probe, ["2"])[0]
    for unit, other in ((0, 4), (1, 2)):
        assert kept.units[unit].formula == plain.units[other].formula
        assert kept.units[unit].active == plain.units[other].active
        assert kept.units[unit].threshold == plain.units[other].threshold + bias[unit]
    difference = np.maximum((maps[:, 0] - maps[:, 1]) / 2, 0)
    limit = threshold_of(difference, exact_rank("0.05", difference.size))
    assert run.units[2].threshold == limit
    assert run.units[2].active == sum(pillow_mask(one, limit, TARGET).sum() for one in difference)
    assert (run.basis, len(run.units)) == ("probes", 3)
    run.save(tmp_path / "run")
    told = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["directions"]
    assert (told["name"], told["shape"], told["relu"]) == ("probes", [3, 7], True)


# --- upsampling ------------------------------------------------------------------------------------------------


def nearest(array, size):
    """The cell that each pixel's centre lies in."""
    rows, columns = ((np.arange(new) * 2 + 1) * old // (2 * new) for old, new in zip(array.shape, size, strict=True))
    return array[rows][:, columns]


def looking(array, size):
    """Between the centres of receptive fields: 2 i + 2.5 input pixels, by hand from the two convolutions."""
    centres = [2 * np.arange(length) + 2.5 for length in array.shape]
    pixels = [(np.arange(new) + 0.5) * old / new for old, new in zip(SIZE, size, strict=True)]
    wide = np.stack([np.interp(pixels[1], centres[1], row) for row in array.astype(np.float64)])
    return np.stack([np.interp(pixels[0], centres[0], column) for column in wide.T], 1)


@pytest.mark.parametrize("how", ["nearest", "pil", "receptive-field"])
def test_each_upsampling_reaches_counts_evidence_and_pictures(probe, maps, how, tmp_path):
    settings = Settings(Finder(1), Asked(0.3, shuffles=9, draws=5), 0.05, resolution=TARGET, upsampling=how)
    (run,) = job(probe, ["2"], settings)
    run.save(tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "run.json").read_text())
    assert saved["settings"]["upsampling"] == how
    with np.load(tmp_path / "run" / "arrays" / "examples.npz") as stored:
        bits = np.unpackbits(stored["unit"], axis=1)[:, : TARGET[0] * TARGET[1]].reshape(-1, *TARGET).astype(bool)
    labels = np.stack([[np.asarray(Image.fromarray(m.astype(np.uint8)).resize(TARGET[::-1], 0)) for m in one]
                       for one in probe[1]])  # fmt: skip
    concepts = {name: (labels == number).any(1) for number, name in probe[2].items()}
    held = np.random.default_rng(0).permutation(10)[:3]
    kept = np.setdiff1d(np.arange(10), held)
    unlike = 0
    for unit in run.units:
        limit = threshold_of(maps[:, unit.unit], exact_rank("0.05", maps[:, 0].size))
        if how == "pil":
            mask = np.stack([pillow_mask(one, limit, TARGET) for one in maps[:, unit.unit]])
        else:
            large = {"nearest": nearest, "receptive-field": looking}[how]
            mask = np.stack([large(one, TARGET) > limit for one in maps[:, unit.unit]])
        other = np.stack([pillow_mask(one, limit, TARGET) for one in maps[:, unit.unit]])
        unlike += (mask != other).sum()
        assert unit.active == mask[kept].sum()  # of the images that were searched
        assert unit.iou == dense_iou(mask[kept], concepts[unit.label][kept])
        assert unit.evidence.iou_heldout == dense_iou(mask[held], concepts[unit.label][held])
        for example in saved["units"][unit.unit]["examples"]:
            assert np.array_equal(bits[example["row"]], mask[example["image"]])
    assert how == "pil" or unlike > 100


def test_the_quantile_of_upsampled_values(probe, maps):
    settings = Settings(Finder(1), QUIET, 0.05, "upsampled", TARGET, "nearest")
    (run,) = job(probe, ["2"], settings)
    assert run.k == exact_rank("0.05", 10 * TARGET[0] * TARGET[1])
    lower = 0
    for unit in run.units:
        large = np.stack([nearest(one, TARGET) for one in maps[:, unit.unit]])
        assert unit.threshold == threshold_of(large, run.k)
        assert unit.active == (large > unit.threshold).sum() <= run.k
        lower += unit.threshold != threshold_of(maps[:, unit.unit], exact_rank("0.05", maps[:, 0].size))
    assert lower > 0
    (run,) = job(probe, ["2"], Settings(Finder(1), QUIET, 0.05, "upsampled", TARGET))
    for unit in run.units:  # of bilinear maps nearly 5 % are above, which low-resolution thresholds do not give
        assert abs(unit.active - run.k) <= 0.01 * run.k


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"upsampling": "bilinaer"}, "unknown upsampling 'bilinaer'.*bilinear"),
        ({"quantile_at": "high"}, "unknown quantile_at 'high'"),
        ({"quantile": 1.5}, "between 0 and 1"),
        ({"resolution": (0, 3)}, "resolution"),
        ({"batch_size": 0}, "batch_size"),
        ({"examples": -1}, "examples=-1"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Settings(**settings)


def test_what_does_not_fit_the_layers_is_refused_before_the_passes(probe, monkeypatch):
    from explain.neurons.units import Directions

    monkeypatch.setattr("explain.neurons.collect.stream_maps", None)
    three = Directions(torch.ones(2, 3))
    with pytest.raises(InputError, match="directions of 3 channels, but layer '2' has 7"):
        job(probe, ["2"], Settings(directions=three))
    with pytest.raises(InputError, match="leave the directions away"):
        job(probe, ["2"], Settings(directions=three), rotate=[1])
    with pytest.raises(InputError, match="give 0 .* to 1"):
        job(probe, ["2"], rotate=[1.5])
    with pytest.raises(InputError, match="each once"):
        job(probe, ["2"], rotate=[1, 1])
    with pytest.raises(InputError, match="each once"):
        job(probe, ["2", "2"])
    with pytest.raises(InputError, match="Pillow's filter"):
        job(probe, ["2"], Settings(upsampling="pil", resolution=(8, 8)))

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).relu().mean((2, 3))

    with pytest.raises(InputError, match="is not known: use upsampling='bilinear'"):
        explain.dissect_layers(Functional(), ["conv:relu"], probe, Settings(upsampling="receptive-field"))


# --- the untrained network -------------------------------------------------------------------------------------


def test_an_untrained_copy():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MultiheadAttention(4, 2), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].running_mean += 3
        net[1].weight += 1
    net.register_buffer("scale", torch.tensor(2.0))
    before, state = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()
    subject = explain.Subject(net, name="net")
    made, again, other = (untrained(subject, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    found = made.subject.model.state_dict()
    assert all(torch.equal(value, again.subject.model.state_dict()[key]) for key, value in found.items())
    assert made.subject.hash() != other.subject.hash()
    for key in ("0.weight", "0.bias", "3.weight", "2.in_proj_weight", "2.out_proj.weight"):
        assert not torch.equal(found[key], before[key])
        assert not found[key].isnan().any()
    assert found["1.running_mean"].tolist() == [0] * 4
    assert found["1.weight"].tolist() == [1] * 4
    assert made.kept == ("scale",)
    assert set(made.reset) == {"0", "1", "2", "2.out_proj", "3"}
    assert made.subject.source == "random (seed 0)"


class Own(nn.Module):
    def __init__(self, reset=None):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(2))
        if reset is not None:
            self.reset_parameters = reset


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Own(), "no reset_parameters sets 1.token"),
        (Own(lambda: None), "no reset_parameters sets 1.token"),
        (Own(lambda: 1 / 0), "reset_parameters of 1 .Own. fails .ZeroDivisionError"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "1.parametrizations.weight.original0"),
    ],
)
def test_parameters_that_cannot_be_reset_are_named(module, message):
    with pytest.raises(ModelError, match=message):
        untrained(explain.Subject(nn.Sequential(nn.Linear(2, 2), module)))


@pytest.mark.parametrize("held", [None, 0.3])
def test_units_against_the_untrained_network(probe, tmp_path, held):
    asked = Asked(held, shuffles=0, draws=0)

    def made(**options):
        return job(probe, ["0", "2"], Settings(Finder(2), asked, 0.05, resolution=TARGET, **options))

    plain, runs = made(), made(untrained=True)
    rival = explain.dissect_layers(
        untrained(explain.Subject(small_net())).subject.model, ["0", "2"], probe,
        Settings(Finder(2), asked, 0.05, resolution=TARGET),
    )  # fmt: skip
    for run, without, null in zip(runs, plain, rival, strict=True):
        ious = [unit.iou for unit in null.units]
        for unit, other in zip(run.units, without.units, strict=True):
            assert unit.iou == other.iou
            assert unit.evidence.p_untrained == (1 + sum(iou >= unit.iou for iou in ious)) / (1 + len(ious))
        values = [unit.evidence.p_untrained for unit in run.units]
        assert len(set(values)) > 1
        assert run.summary()["share_above_untrained"] == sum(value <= 0.05 for value in values) / len(values)
        assert "share_above_untrained" not in without.summary()
    (given,) = job(
        probe, ["2"], Settings(Finder(2), asked, 0.05, resolution=TARGET, untrained=untrained(
            explain.Subject(small_net())).subject.model),
    )  # fmt: skip
    assert given.units == runs[1].units
    for name, units in (("whole", None), ("low", range(3)), ("high", range(3, 7))):
        (run,) = job(probe, ["2"], Settings(Finder(2), asked, 0.05, resolution=TARGET, units=units, untrained=True))
        run.save(tmp_path / name)
    merge_runs([tmp_path / "low", tmp_path / "high"], tmp_path / "merged")
    assert (tmp_path / "merged" / "units.csv").read_bytes() == (tmp_path / "whole" / "units.csv").read_bytes()
    rows = list(csv.DictReader((tmp_path / "whole" / "units.csv").read_text().splitlines()))
    assert [row["p_untrained"] for row in rows] == [repr(unit.evidence.p_untrained) for unit in runs[1].units]
    told = json.loads((tmp_path / "whole" / "run.json").read_text())["settings"]["untrained"]
    assert (told["source"], told["modules_reset"], told["buffers_kept"]) == ("random (seed 0)", 3, [])


def test_an_untrained_network_of_another_width_is_refused(probe):
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="of the untrained network has 4 units"):
        job(probe, ["0"], Settings(untrained=other))
