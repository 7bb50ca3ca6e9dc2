"""Shards of the images, each a job of its own, against one pass over all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from collecting import COUNT, make_job
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import explain
from explain.errors import InputError, RunError
from explain.neurons import collected
from explain.neurons.collect import collect_share, collect_units
from explain.neurons.evidence.gathering import Asked
from explain.neurons.finding import Finder
from explain.neurons.merging import merge_runs
from explain.neurons.merging_shards import is_shard, merge_shards, unite_shares
from explain.neurons.results import NeuronRun
from explain.neurons.settings import Settings
from explain.neurons.shards import Shard, collect_shard, given_data, parse_shard
from explain.runs import Checkpoint


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8))
def test_shards_are_whole_batches_of_all_images(count, batch_size, of):
    if -(-count // batch_size) < of:
        with pytest.raises(InputError, match="too few for"):
            Shard(1, of).images(count, batch_size)
        return
    parts = [Shard(number, of).images(count, batch_size) for number in range(1, of + 1)]
    assert [image for part in parts for image in part] == list(range(count))
    assert all(len(part) and part.start % batch_size == 0 for part in parts)
    sizes = [-(-len(part) // batch_size) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_what_shard_says():
    assert parse_shard("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"
    for wrong in ("0/4", "5/4", "1", "1/0", "-1/4", "1/4/2", "a/b"):
        with pytest.raises(InputError, match="give I/N with I from 1 to N"):
            parse_shard(wrong)


def shares_of(job, of, folder, **changes):
    for number in range(1, of + 1):
        images = Shard(number, of).images(COUNT, job.batch_size)
        checkpoint = Checkpoint(folder / str(number))
        yield collect_share(replace(job, images=images, checkpoint=checkpoint, **changes))


def same_layer(one, other):
    assert one.k == other.k
    for name in ("thresholds", "peaks", "histogram"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for name in ("unit", "image", "maps"):
        assert np.array_equal(getattr(one.firing, name), getattr(other.firing, name))


@pytest.mark.parametrize("keep_bytes", [1 << 29, 400])
@pytest.mark.parametrize("of", [1, 2, 3])
def test_united_shares_are_one_pass(tmp_path, of, keep_bytes):
    job = make_job(("conv", "last", "fc"))
    whole = collect_units(job)
    found = list(zip(*shares_of(job, of, tmp_path, keep_bytes=keep_bytes), strict=True))
    spilled = [file for file in tmp_path.rglob("maps*.npz")]
    assert bool(spilled) == (keep_bytes == 400)
    for layer, one, shares in zip(job.layers, whole, found, strict=True):
        same_layer(unite_shares(layer, job.quantile, COUNT * layer.grid[0] * layer.grid[1], shares), one)


@pytest.mark.parametrize("keep_bytes", [1 << 29, 400])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_an_interrupted_share_goes_on(tmp_path, monkeypatch, cut, keep_bytes):
    job = make_job(("conv",), keep_bytes=keep_bytes, batch_size=4)
    (plain,) = collect_share(replace(job, checkpoint=Checkpoint(tmp_path / "plain")))
    original, calls = collected.Part.add, []

    def add(part, indices, maps):
        calls.append(indices)
        original(part, indices, maps)
        if len(calls) == cut:
            raise KeyboardInterrupt  # the batch is in, and must not be saved as though it were not

    monkeypatch.setattr(collected.Part, "add", add)
    job = replace(job, checkpoint=Checkpoint(tmp_path / "cut"))
    with pytest.raises(KeyboardInterrupt):
        collect_share(job)
    (gone_on,) = collect_share(job)
    assert gone_on.top["seen"] == plain.top["seen"]
    assert np.array_equal(gone_on.top["values"], plain.top["values"])
    first, second = (sorted_pairs(share) for share in (plain, gone_on))
    assert len(first) == len(set(first)) > 0
    assert first == second


def sorted_pairs(share):
    return sorted(
        (unit, image, maps.tobytes()) for piece in share.pieces for unit, image, maps in zip(*piece, strict=True)
    )


def test_lost_maps_of_an_interrupted_job_are_told(tmp_path):
    job = replace(make_job(("conv",), keep_bytes=400, batch_size=4), checkpoint=Checkpoint(tmp_path))
    (share,) = collect_share(job)
    (tmp_path / "maps0-0.npz").unlink()
    with pytest.raises(RunError, match="maps of the interrupted job are gone"):
        list(share.pieces)


# --- the whole job, in Python -----------------------------------------------------------------------------------


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.fixture(scope="module")
def probe():
    random = np.random.default_rng(0)
    masks = random.random((10, 3, 24, 24)) < 0.3
    return torch.from_numpy(masks.astype(np.float32)) + torch.randn(10, 3, 24, 24) * 0.3, masks, ["a", "b", "c"]


SETTINGS = Settings(Finder(2), Asked(shuffles=9, draws=10), quantile=0.1, resolution=(24, 24), batch_size=3)


def shards_of(probe, place, of=2, **options):
    return [
        collect_shard(net(), ["1"], probe, place / str(number), Shard(number, of), SETTINGS, **options)
        for number in range(1, of + 1)
    ]


def test_shards_in_python(probe, tmp_path):
    (whole,) = explain.dissect_layers(net(), ["1"], probe, SETTINGS)
    folders = shards_of(probe, tmp_path)
    assert all(map(is_shard, folders))
    (run,) = merge_shards(folders, data=probe)
    assert isinstance(run, NeuronRun)
    assert run.units == whole.units
    assert run.summary() == whole.summary()
    assert np.array_equal(run.index.local, whole.index.local)
    assert run.subject.describe() == whole.subject.describe()
    run.save(tmp_path / "run")
    assert explain.load(net()).hash() == run.subject.hash()
    with pytest.raises(RunError, match="probe set in memory: give it again"):
        merge_shards(folders)
    with pytest.raises(RunError, match="is a run of kind 'neuron-shard'"):
        merge_runs(folders, tmp_path / "no")
    (folders[0] / "arrays" / "layer0-0.npz").write_bytes(b"no")
    with pytest.raises(RunError, match=r"layer0-0\.npz cannot be read"):
        merge_shards(folders, data=probe)


def test_how_data_was_given(tmp_path):
    assert given_data([tmp_path, "scenes"]).data == (str(tmp_path), "scenes")
    assert given_data(None, ["color"], 3).data is None
