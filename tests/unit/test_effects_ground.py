"""What all effects jobs stand on: a run opened with its network, checks before any pass, passes that go on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import planted_effects as planted
import pytest
import torch
from PIL import Image
from processes import in_threads

import explain
from explain.data import localization_from_items
from explain.errors import DataError, InputError, RunError
from explain.nets import Preprocess
from explain.nets.passes import Work, run_pass
from explain.neurons import effects
from explain.neurons.effects.observing import firing_cells, observe
from explain.neurons.effects.opening import open_explained
from explain.neurons.effects.preparing import open_job
from explain.runs import Checkpoint

SIZE = (planted.SIDE, planted.SIDE)


@pytest.fixture(scope="module")
def run():
    return explain.dissect(
        planted.Planted(), None, planted.probe(), length=2, quantile=0.1, resolution=SIZE, shuffles=0, draws=0
    )


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    return run.save(tmp_path_factory.mktemp("runs") / "run")


def test_a_saved_run_is_opened_as_the_one_in_memory(run, folder):
    one, other = open_explained(run), open_explained(folder)
    assert (one.layer, one.grid, one.resolution, one.upsampling) == (
        other.layer, other.grid, other.resolution, other.upsampling)  # fmt: skip
    assert np.array_equal(one.thresholds, other.thresholds)
    assert np.array_equal(one.numbers, other.numbers)
    assert [unit.formula for unit in one.units] == [unit.formula for unit in other.units]
    assert [unit.evidence for unit in one.units] == [unit.evidence for unit in other.units]
    assert one.model == other.model
    assert np.array_equal(one.cells.counts, other.cells.counts)
    assert (one.folder, other.folder) == (None, folder)
    assert open_explained(one) is one


@pytest.mark.parametrize("kind", effects.__all__)
def test_names_are_loaded_when_first_used(kind):
    assert callable(getattr(effects, kind))
    assert kind in dir(effects)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'ablate'"):
        _ = effects.ablate


def test_what_does_not_fit_is_said_in_one_line(run, folder, tmp_path):
    items, net = planted.labelled(18), planted.Planted()

    def refused(kind, text, *given, **options):
        with pytest.raises(kind) as caught:
            open_job(*given, **options)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(InputError, "a run folder holds no network: give model=", folder, items)
    refused(InputError, "give the network and the weights that the run was made with", run, items,
            planted.Planted(hidden=False, head=np.eye(3, 6)))  # fmt: skip
    refused(InputError, "without a class per image", run, run.probe)
    refused(DataError, "no images.csv", run, tmp_path)
    wrong = localization_from_items([(image, label + 1, None) for image, label, _ in items])
    many = sum(label == 2 for _, label, _ in items)
    refused(InputError, f"has class 3, and Planted has classes 0 to 2 ({many} of 18 images)", run, wrong)
    refused(InputError, "limit 0", run, items, limit=0)
    refused(RunError, "manifest.json is missing", tmp_path, items, net)
    several = explain.dissect(
        net, None, planted.probe(), ranges=2, quantile=0.1, resolution=SIZE, shuffles=0, draws=0, length=1
    )
    refused(InputError, "this run explains ranges of activation", several, items)


def test_another_transform_is_refused_and_a_crop_is_not_another(tmp_path):
    masks, _ = planted.colours(4)
    images = [Image.fromarray((mask.transpose(1, 2, 0) * 255).astype(np.uint8)) for mask in masks]
    plain = Preprocess(SIZE, (0, 0, 0), (1, 1, 1))
    cropping = explain.load(planted.Planted(), transform=replace(plain, crop_from=(20, 20)))
    run = explain.dissect(cropping, None, (images, masks, planted.NAMES), length=1, quantile=0.1, resolution=SIZE,
                          shuffles=0, draws=0)  # fmt: skip
    items = [(image, 0, None) for image in images]
    assert open_job(run, items, cropping).subject.transform == plain  # jobs show the whole image
    other = explain.load(planted.Planted(), transform=replace(plain, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(InputError, match="the run was made with the transform"):
        open_job(run, items, other)


def test_names_of_classes_that_differ_are_told(run):
    items = planted.labelled(18)
    subject = replace(run.subject, classes=("red, crimson", "green", "blue"))
    same = localization_from_items(items, class_names=["Crimson", "green", "blue"])
    other = localization_from_items(items, class_names=["green", "green", "red"])
    assert open_job(run, same, subject).warnings == ()
    (told,) = open_job(run, other, subject).warnings
    assert told == (
        "names of 2 class(es) differ between items and Planted: class 0 is 'green', not 'red, crimson',"
        " 2 is 'red', not 'blue'"
    )
    assert open_job(run, other).names == ("green", "green", "red")  # the network has no names of its own
    assert open_job(run, items).names == ("class 0", "class 1", "class 2")
    assert len(open_job(run, items, limit=5).labels) == 5


def measure_of(run, items):
    job = open_job(run, items)
    thresholds = torch.from_numpy(job.explained.thresholds)
    calls = []

    def measure(images, numbers):
        calls.append(numbers)
        (maps,), logits = observe(job.subject, [job.layer], images)
        return {"cells": firing_cells(maps, thresholds).numpy(), "logits": logits.double().numpy()}

    def summed(images, numbers):
        return {key: values.sum(0) for key, values in measure(images, numbers).items()}

    return job, measure, summed, calls


def test_a_pass_is_the_same_in_any_batches_and_processes(run):
    job, measure, summed, _ = measure_of(run, planted.labelled(18))
    images = job.data.images
    whole = run_pass(job.subject, images, measure, "x", Work(4))
    assert whole["cells"].shape == (18, planted.UNITS)
    for number, (image, _, _) in enumerate(planted.labelled(18)):
        maps = planted.Planted().eval().conv(image[None]).relu()[0]
        for unit in range(planted.UNITS):
            expected = sum(float(value) > job.explained.thresholds[unit] for value in maps[unit].detach().flatten())
            assert whole["cells"][number, unit] == expected
    for size in (2, 3):
        for one in in_threads(size, lambda world: run_pass(job.subject, images, measure, "x", Work(4, world=world))):
            assert all(np.array_equal(one[key], whole[key]) for key in whole)
        for one in in_threads(
            size, lambda world: run_pass(job.subject, images, summed, "x", Work(4, world=world), summed=True)
        ):
            assert np.array_equal(one["cells"], whole["cells"].sum(0))
            np.testing.assert_allclose(one["logits"], whole["logits"].sum(0), rtol=1e-12)


@pytest.mark.parametrize("sums", [False, True])
def test_an_interrupted_pass_goes_on(run, tmp_path, monkeypatch, sums):
    job, measure, summed, calls = measure_of(run, planted.labelled(18))
    right = summed if sums else measure
    whole = run_pass(job.subject, job.data.images, right, "x", Work(4), summed=sums)
    checkpoint = Checkpoint(tmp_path / "kept")
    monkeypatch.setattr(Checkpoint, "due", lambda self, name: self.folder is not None)
    calls.clear()

    def broken(images, numbers):
        if numbers.start == 8:
            raise KeyboardInterrupt
        return right(images, numbers)

    with pytest.raises(KeyboardInterrupt):
        run_pass(job.subject, job.data.images, broken, "x", Work(4, checkpoint=checkpoint), summed=sums)
    assert [numbers.start for numbers in calls] == [0, 4]
    told = []
    work = Work(4, checkpoint=checkpoint, progress=lambda *row: told.append(row))
    found = run_pass(job.subject, job.data.images, right, "x", work, summed=sums)
    assert [numbers.start for numbers in calls] == [0, 4, 8, 12, 16]  # what was saved is not done again
    assert told == [("x", 12, 18), ("x", 16, 18), ("x", 18, 18)]
    assert all(np.array_equal(found[key], whole[key]) for key in whole)


def test_batches_without_images_are_refused():
    with pytest.raises(InputError, match="batch_size=0"):
        Work(0)
