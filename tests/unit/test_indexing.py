import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from processes import in_threads

from explain.data import as_probe, recipe_path, united, with_pixel_concepts
from explain.data.scenes import write_scenes
from explain.errors import InputError
from explain.neurons import indexing
from explain.neurons.cells import build_index
from explain.neurons.indexing import open_index

SIZE = (24, 20)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLAIN_DATA", str(tmp_path / "home"))
    return tmp_path / "home" / "cells"


@pytest.fixture
def folder(tmp_path):
    return write_scenes(tmp_path / "scenes", count=5, seed=1)


def same(one, other):
    arrays = [
        (getattr(a, name), getattr(b, name))
        for a, b, names in (
            (one.cells, other.cells, ("counts", "indptr", "indices")),
            (one, other, ("local", "start", "lookup")),
        )
        for name in names
    ]
    return one.cells.concepts == other.cells.concepts and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays
    )


def plain(probe, size=SIZE):
    return build_index(probe.concepts, [probe.labels(number, size) for number in range(len(probe))])


def kept(folder):
    return sorted(folder.glob("cells-*.npz"))


def first_mask(probe):
    return probe.files[0][0]


def test_cells_are_kept_beside_the_data_and_read_again(folder):
    probe = as_probe(folder)
    built = open_index(probe, SIZE)
    assert (built.reused, built.file) == (False, kept(folder / ".explain")[0])
    again = open_index(replace(probe, labels=None), SIZE)  # nothing is asked for labels
    assert (again.reused, again.file) == (True, built.file)
    assert same(built.index, plain(probe))
    assert same(again.index, built.index)


def test_a_mask_of_the_same_size_and_name_is_another_one(folder):
    probe = as_probe(folder)
    before = open_index(probe, SIZE)
    path = first_mask(probe)
    written = bytearray(path.read_bytes())
    stamp = path.stat()
    ids = np.array(Image.open(path))
    Image.fromarray(np.roll(ids, 3, axis=1)).save(path)
    size = 1 + max(len(written), path.stat().st_size)
    for content in (path.read_bytes(), bytes(written)):  # both are padded behind their end, to one size and one time
        path.write_bytes(content.ljust(size, b"\0"))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        found = open_index(as_probe(folder), SIZE)
        assert not found.reused
        assert same(found.index, plain(as_probe(folder)))
    assert same(found.index, before.index)
    assert as_probe(folder).hash == as_probe(folder).hash


@pytest.mark.parametrize("other", ["resolution", "first", "concepts", "colours", "category", "hash"])
def test_other_cells_have_files_of_their_own(folder, other):
    probe = as_probe(folder)
    open_index(probe, SIZE)
    size = (12, 12) if other == "resolution" else SIZE
    changed = {
        "resolution": lambda: probe,
        "first": lambda: probe.first(3),
        "concepts": lambda: with_pixel_concepts(probe, "position"),
        "colours": lambda: with_pixel_concepts(probe, "color"),
        "category": lambda: replace(probe, concepts=(replace(probe.concepts[0], category="x"), *probe.concepts[1:])),
        "hash": lambda: replace(probe, hash="other"),
    }[other]()
    for reused in (False, True):
        found = open_index(changed, size)
        assert found.reused == reused
        assert same(found.index, plain(changed, size))
    assert len(kept(folder / ".explain")) == 2


def test_colours_change_with_the_image(folder):
    colours = with_pixel_concepts(as_probe(folder), "color")
    open_index(colours, SIZE)
    path = colours.images[0]
    with Image.open(path) as image:
        other = Image.eval(image, lambda value: 255 - value)
    size = path.stat().st_size
    other.save(path)
    changed = replace(with_pixel_concepts(as_probe(folder), "color"), hash=colours.hash)  # as if the size were the same
    assert size
    assert not open_index(changed, SIZE).reused


@pytest.mark.parametrize("damage", ["cut", "noise", "text", "empty", "foreign", "arrays", "numbers"])
def test_damaged_files_are_built_anew(folder, damage):
    probe = as_probe(folder)
    built = open_index(probe, SIZE)
    path, content = built.file, bytearray(built.file.read_bytes())
    with np.load(path) as stored:
        arrays = dict(stored)
    if damage == "foreign":
        np.savez(path, **{**arrays, "key": np.array("other")})
    elif damage == "arrays":
        np.savez(path, **{**arrays, "start": arrays["start"][:-1]})
    elif damage == "numbers":
        np.savez(path, **{**arrays, "lookup": arrays["lookup"] + 10**6})
    else:
        content[3000] ^= 0xFF  # in the middle of the ids
        path.write_bytes({"cut": content[:-200], "noise": content, "text": b"no", "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged and is built anew") as told:
        found = open_index(probe, SIZE)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert not found.reused
    assert same(found.index, built.index)
    assert open_index(probe, SIZE).reused


def test_without_a_cache_nothing_is_read_or_left(folder, home):
    assert open_index(as_probe(folder), SIZE, cache=False).file is None
    assert not (folder / ".explain").exists()
    assert not home.exists()


def test_data_that_may_not_be_written_has_its_cells_at_home(folder, home):
    folder.chmod(0o555)
    try:
        probe = as_probe(folder)
        assert open_index(probe, SIZE).file.parent == home
        assert open_index(probe, SIZE).reused
        assert not (folder / ".explain").exists()
    finally:
        folder.chmod(0o755)


def test_where_nothing_may_be_written_cells_are_built(folder, home):
    home.parent.write_text("a file, not a folder")
    (folder / ".explain").write_text("a file, not a folder")
    with pytest.warns(UserWarning, match="could not be kept"):
        found = open_index(as_probe(folder), SIZE)
    assert found.file is None
    assert same(found.index, plain(as_probe(folder)))


def test_sets_in_memory_are_not_kept(home):
    images, masks = np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 8, 8), np.uint8)
    probe = as_probe((list(images), masks, ["a"]))
    assert not open_index(probe, SIZE).reused
    assert not open_index(probe, SIZE).reused
    assert not home.exists()


def test_united_sets_are_kept_where_both_are_files(folder, tmp_path, home):
    both = united([as_probe(folder), as_probe(write_scenes(tmp_path / "more", count=3, seed=2))])
    assert open_index(both, SIZE).file.parent == home  # beside neither
    assert open_index(both, SIZE).reused
    memory = as_probe(([np.zeros((8, 8, 3), np.uint8)], np.ones((1, 8, 8), np.uint8), ["a"]))
    assert united([as_probe(folder), memory]).files == ()


def test_few_files_are_kept(folder):
    probe = as_probe(folder)
    for side in range(5, 5 + indexing.KEPT + 2):
        path = open_index(probe, (side, side)).file
        os.utime(path, (side, side))
        if side > 5:  # used again just now, so that others go first
            assert open_index(probe, (5, 5)).reused
    assert len(kept(folder / ".explain")) == indexing.KEPT
    assert open_index(probe, (5, 5)).reused
    assert not open_index(probe, (6, 6)).reused


@pytest.mark.parametrize("resolution", [(0, 3), (3,), (2, 2, 2)])
def test_bad_resolutions_are_refused(folder, resolution):
    with pytest.raises(InputError, match="resolution"):
        open_index(as_probe(folder), resolution)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_processes_share_the_work(folder, size):
    expected = plain(as_probe(folder))
    seen = []

    def task(world, cache):
        probe = as_probe(folder)
        counted = replace(probe, labels=lambda *given: seen.append(given[0]) or probe.labels(*given))
        return open_index(counted, SIZE, cache=cache, world=world)

    for cache, reused in ((False, False), (True, False), (True, True)):
        seen.clear()
        found = in_threads(size, lambda world, cache=cache: task(world, cache))
        assert sorted(seen) == ([] if reused else list(range(5)))  # each image by one of them
        assert [one.reused for one in found] == [reused] * size
        assert len({one.file for one in found}) == 1
        assert all(same(one.index, expected) for one in found)
    assert len(kept(folder / ".explain")) == 1


def test_a_file_that_one_process_does_not_see_is_built_by_all(folder, monkeypatch):
    open_index(as_probe(folder), SIZE)
    search = indexing._search
    blind = []

    def seen(*given):
        found = search(*given)
        blind.append(1)
        return (None, None) if len(blind) == 1 else found

    monkeypatch.setattr(indexing, "_search", seen)
    found = in_threads(2, lambda world: open_index(as_probe(folder), SIZE, world=world))
    assert [one.reused for one in found] == [False, False]
    assert all(same(one.index, plain(as_probe(folder))) for one in found)


def test_nothing_is_written_into_the_samples_of_the_package(home):
    sample = recipe_path("scenes") / "sample"
    before = sorted(sample.rglob("*"))
    found = open_index(as_probe(sample), SIZE)
    assert found.file == kept(home)[0]
    assert sorted(sample.rglob("*")) == before
    assert open_index(as_probe(sample), SIZE).reused


def test_what_was_annotated_is_kept(folder):
    probe = as_probe(folder)
    known = [("object",), None, (), ("color", "object"), None]

    def labels(number, size):
        return replace(probe.labels(number, size), annotated=known[number])

    built = open_index(replace(probe, labels=labels), SIZE)
    again = open_index(replace(probe, labels=None), SIZE)
    assert again.reused
    assert built.index.annotated.any(1).tolist() == [True, True, False, True, True]
    assert np.array_equal(again.index.annotated, built.index.annotated)
