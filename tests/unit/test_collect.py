"""Thresholds and firing maps, against all values at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from collecting import COUNT, LAYERS, Net, make_job, make_probe, plain, share_of_two
from oracles.neurons import threshold_of
from processes import in_processes, in_threads
from torch import nn

from explain.distributed import ALONE
from explain.errors import InputError, ModelError
from explain.nets.pieces import make_plan, piece_name
from explain.neurons.collect import collect_units, refuse_infinite
from explain.neurons.examples import top_examples
from explain.neurons.upsampling import make_axes, upsample
from explain.runs import Checkpoint


def all_maps(net=None):
    """Every layer's maps (n, u, h, w), by hand."""
    net, found = (net or Net()).eval(), {name: [] for name in LAYERS}
    with torch.no_grad():
        for image in make_probe().images:
            one = net.conv(image[None])
            found["conv"].append(one)
            found["conv:relu"].append(one.relu())
            last = net.last(one.relu().permute(0, 2, 3, 1))
            found["last"].append(last.permute(0, 3, 1, 2))
            patches = net.tokens(last.relu().flatten(1, 2))
            found["tokens"].append(patches.transpose(1, 2).reshape(1, 4, 8, 12))
            found["fc"].append(net(image[None])[:, :, None, None])
    return {name: torch.cat(maps).numpy() for name, maps in found.items()}


def same(one, other, *, passes=True):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a[: 8 if passes else 7], b[: 8 if passes else 7], strict=True):
            assert np.array_equal(x, y)


@pytest.mark.parametrize("keep", [0, 1 << 12, 1 << 29])
def test_several_layers_in_one_pass_are_those_of_all_values(keep):
    told = []
    job = make_job(keep_bytes=keep, progress=lambda *row: told.append(row))
    collected = collect_units(job)
    maps = all_maps()
    for one in collected:
        # The same bits: batches of one and of four agree here only to rounding, so values are compared closely.
        values = maps[one.layer.layer]
        expected = np.array([threshold_of(values[:, unit], one.k) for unit in range(values.shape[1])], np.float32)
        np.testing.assert_allclose(one.thresholds, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.peaks, values.max((0, 2, 3)), rtol=1e-4, atol=1e-6)
        assert one.k == -(-5 * values[:, 0].size // 100)
        image, unit = np.nonzero(values.max((2, 3)).T > one.thresholds[:, None])[::-1]
        assert one.firing.unit.tolist() == unit.tolist()
        assert one.firing.image.tolist() == image.tolist()
        np.testing.assert_allclose(one.firing.maps, values[image, unit], rtol=1e-4, atol=1e-6)
    assert {one.passes for one in collected} == {0: {2}, 1 << 12: {1, 2}, 1 << 29: {1}}[keep]
    assert told[-1] == ("firing" if keep < 1 << 29 else "units", COUNT, COUNT)
    same(plain(collected), plain(collect_units(make_job())), passes=False)
    for name, one in zip(LAYERS, collected, strict=True):
        same(plain(collect_units(make_job((name,)))), plain([one]), passes=False)


def test_some_units_are_the_same_as_among_all():
    whole, part = (collect_units(make_job(("last", "fc"), units=units)) for units in (None, [2, 0]))
    for all_units, some in zip(whole, part, strict=True):
        assert some.layer.units.tolist() == [0, 2]
        assert some.thresholds.tolist() == all_units.thresholds[[0, 2]].tolist()
        assert np.array_equal(some.firing.maps, all_units.firing.select([0, 2]).maps)


@pytest.mark.parametrize("keep", [0, 1 << 29])
@pytest.mark.parametrize("how", ["bilinear", "pil"])
def test_quantiles_after_upsampling(how, keep):
    job = make_job(("last", "tokens"))
    axes = tuple(make_axes(how, layer.grid, (10, 15)) for layer in job.layers)
    collected = collect_units(replace(job, axes=axes, keep_bytes=keep))
    plain_ones = collect_units(job)
    for one, low in zip(collected, plain_ones, strict=True):
        maps = torch.from_numpy(all_maps()[one.layer.layer])
        large = torch.stack([upsample(row, (10, 15), how) for row in maps]).numpy()
        assert one.k == -(-5 * COUNT * 150 // 100)
        expected = [threshold_of(large[:, unit], one.k) for unit in range(large.shape[1])]
        np.testing.assert_allclose(one.thresholds, np.array(expected, np.float32), rtol=1e-4, atol=1e-6)
        assert (one.thresholds != low.thresholds).all()
        assert one.firing.unit.tolist() == np.nonzero(maps.amax((2, 3)).numpy().T > one.thresholds[:, None])[0].tolist()


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("keep", [0, 1 << 12, 1 << 29])
def test_several_processes_give_the_bits_of_one(size, keep):
    expected = plain(collect_units(make_job()))
    for found in in_threads(size, lambda world: plain(collect_units(make_job(keep_bytes=keep), world))):
        same(found, expected, passes=False)


@pytest.mark.slow
def test_two_real_processes_give_the_bits_of_one(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = plain(collect_units(make_job()))
    finally:
        torch.set_num_threads(threads)
    for found in in_processes(2, share_of_two, tmp_path):
        same(found, expected, passes=False)
        assert {one[-1] for one in found} == {1, 2}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("keep", [0, 1 << 29])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (3, 2), (1, 3)])
@pytest.mark.parametrize(("stage", "at"), [("units", 4), ("units", 8), ("firing", 4)])
def test_a_killed_run_goes_on_with_any_number_of_processes(tmp_path, keep, before, after, stage, at):
    if stage == "firing" and keep:
        pytest.skip("one pass")
    expected = plain(collect_units(make_job()))
    checkpoint = Checkpoint(tmp_path, seconds=0.0)

    def stop(name, done, total):
        if name == stage and done >= at:
            raise Stopped

    def first(world):
        try:
            collect_units(make_job(keep_bytes=keep, checkpoint=checkpoint, progress=stop), world)
        except Stopped:
            world.meeting.barrier.abort()
        except Exception:  # the others wait in vain
            pass

    in_threads(before, first)
    done = sum(int(key[-7:]) - int(key[-15:-8]) for key in checkpoint.names("thresholds@"))
    assert done >= at  # a piece for each process, of all that it did

    seen = []

    def second(world):
        told = lambda name, done, total: seen.append((world.rank, name, done))  # noqa: E731
        return plain(collect_units(make_job(keep_bytes=keep, checkpoint=checkpoint, progress=told), world))

    for found in in_threads(after, second):
        same(found, expected, passes=False)
    images = [name for _, name, _ in seen].count("units") * 4
    assert images <= COUNT - done + 3 * after
    # A third run finds all that there is to do done.
    seen.clear()
    for found in in_threads(1, second):
        same(found, expected, passes=False)
    assert not [name for _, name, _ in seen if name == "units"]


def test_a_plan_covers_every_image_once(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    pieces = [piece_name("x", spans) for spans in ([range(0, 4), range(4, 8)], [range(12, 16)], [range(0, 4)])]
    for name in pieces:
        checkpoint.save(name, {})
    assert pieces[0] == "x@0000000-0000008"
    for size in (1, 2, 5):
        plans = in_threads(size, lambda world: make_plan(checkpoint, "x", range(30), 4, world))
        held = [image for plan in plans for span in plan.restored for image in span]
        left = [image for plan in plans for span in plan.left for image in span]
        assert sorted(held + left) == list(range(30))
        assert sorted(held) == [*range(8), *range(12, 16)]
        assert all(span.start % 4 == 0 for plan in plans for span in plan.left)
        assert sorted(key for plan in plans for key in plan.pieces) == sorted(pieces[:2])


def test_the_network_comes_back_as_it_was():
    net = Net().train()
    net.last.eval()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    collect_units(make_job(net=net))
    with pytest.raises(Stopped):

        def stop(*told):
            raise Stopped

        collect_units(make_job(net=net, progress=stop))
    assert torch.equal(torch.rand(3), expected)
    assert net.training
    assert net.fc.training
    assert not net.last.training
    assert not any(module._forward_hooks for module in net.modules())


def test_examples_are_the_highest_peaks():
    (one,) = collect_units(make_job(("last",)))
    examples = top_examples(one, 3)
    for unit in range(6):
        rows = [
            (-maps.max(), image)
            for unit_, image, maps in zip(one.firing.unit, one.firing.image, one.firing.maps, strict=True)
            if unit_ == unit
        ]
        rows = sorted(rows)[:3]
        padded = [*(image for _, image in rows), *[-1] * (3 - len(rows))]
        assert examples.images[unit].tolist() == padded
        for place, (height, image) in enumerate(rows):
            assert examples.peaks[unit, place] == -height
            at = np.flatnonzero((one.firing.unit == unit) & (one.firing.image == image))[0]
            assert np.array_equal(examples.maps[unit, place].numpy(), one.firing.maps[at])
    ties = replace(one, firing=replace(one.firing, maps=np.ones_like(one.firing.maps)))
    first = top_examples(ties, 2).images[0].tolist()
    assert first == one.firing.image[one.firing.unit == 0][:2].tolist()


class Wrong(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.value = value

    def forward(self, x):
        return self.conv(torch.where(x > 3.5, self.value, x)).mean((2, 3))


def test_what_has_no_order_is_refused():
    with pytest.raises(ModelError, match="unit 0 gives NaN"):
        collect_units(make_job(("conv",), net=Wrong(torch.nan), units=[0]))
    net = Wrong(torch.inf)
    torch.nn.init.ones_(net.conv.weight)
    (one,) = collect_units(make_job(("conv",), net=net, quantile=0.9))
    with pytest.raises(ModelError, match="unit 0 has the threshold"):
        refuse_infinite(one)
    refuse_infinite(collect_units(make_job(("conv",)))[0])


def test_one_input_size():
    job = make_job(("conv",))
    images = [*job.probe.images[:4], *(torch.zeros(3, 40, 48) for _ in range(4))]
    with pytest.raises(InputError, match="one input size"):
        collect_units(replace(job, probe=replace(job.probe, images=images, names=job.probe.names[:8])), ALONE)
