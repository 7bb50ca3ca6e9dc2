"""The search for longer formulas: brute force over the whole grammar, its bound wherever it stops, and its limits."""

import math
import threading
import time

import numpy as np
import pytest
from formula_sets import as_cells, deep_best, flat, formula_mask, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.errors import InputError
from explain.neurons import anytime
from explain.neurons.counts import unit_counts
from explain.neurons.finding import Finder, find
from explain.neurons.optimal import optimal_search
from explain.neurons.search import beam_search, ceiling

SEEDS = st.integers(0, 10**6)


def made(seed, concepts=None):
    """(masks, active, cells, units) of a small random set."""
    masks, active = scene(seed, concepts or 3 + seed % 4, images=1 + seed % 2, side=4 + seed % 3)
    return masks, active, *as_cells(masks, active)


def check(got, best, limit, unit, masks):
    """What holds wherever a search stops."""
    assert got.iou <= best <= got.bound <= max(limit, got.iou)
    assert got.certified == (got.stopped == "")
    assert got.search == ("anytime" if got.stopped else "optimal")
    if got.stopped == "":
        assert (got.iou, got.bound) == (best, best)
    if got.formula is not None:
        mask = formula_mask(got.formula, masks)
        assert (got.intersection, got.pixels) == ((mask & unit).sum(), mask.sum())
        assert got.by_length[-1].iou == got.iou == got.beam[0].iou
        assert [one.iou for one in got.by_length] == sorted(one.iou for one in got.by_length)
        assert got.length == got.beam[0].length


def compare(seed, length, **limits):
    masks, active, cells, units = made(seed)
    beams, limit = beam_search(cells, units, length=length, beam=2), ceiling(cells, units)
    found = optimal_search(cells, units, length=length, beam=2, seconds=math.inf, **limits)
    for unit, (got, beam) in enumerate(zip(found, beams, strict=True)):
        check(got, deep_best(flat(active)[unit], flat(masks), length), limit[unit], flat(active)[unit], flat(masks))
        assert got.iou >= beam.iou
        if not limits:
            assert got.stopped == ""
        if "gap" in limits:
            assert got.gap <= limits["gap"]
    return found, beams


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_a_finished_search_is_the_best_of_the_whole_grammar(seed):
    compare(seed, 4)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(0, 30), st.sampled_from([4, 5]))
def test_a_stopped_search_never_claims_too_much(seed, nodes, length):
    found, _ = compare(seed, length, nodes=nodes)
    again, _ = compare(seed, length, nodes=nodes)
    assert found == again


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.sampled_from([0.01, 0.05, 0.3]))
def test_the_gap_that_is_good_enough_is_kept(seed, gap):
    compare(seed, 4, gap=gap)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_hundreds_of_sets(part):
    better = 0
    for seed in range(40 * part, 40 * part + 40):
        for length, limits in ((4, {}), (4, {"nodes": 1 + seed % 40}), (4, {"gap": 0.02}), (5, {"nodes": 50})):
            found, beams = compare(seed, length, **limits)
            better += sum(got.iou > beam.iou for got, beam in zip(found, beams, strict=True))
    assert better  # the narrow beam misses some


@pytest.mark.slow
@pytest.mark.parametrize("length", [5, 6])
def test_more_concepts_are_proven_too(length):
    for seed in range(20):
        compare(seed, length)


def test_some_searches_stop_by_each_limit_and_some_finish():
    stopped = {"nodes": set(), "gap": set(), "time": set()}
    for seed in range(12):
        _, _, cells, units = made(seed)
        for name, limits in (("nodes", {"nodes": 3}), ("gap", {"gap": 0.2}), ("time", {"seconds": 0})):
            stopped[name] |= {one.stopped for one in optimal_search(cells, units, length=4, beam=1, **limits)}
    assert stopped == {"nodes": {"", "nodes"}, "gap": {"", "gap"}, "time": {"", "time"}}


def test_no_time_gives_the_ceiling_as_bound():
    _, _, cells, units = made(3)
    limits = ceiling(cells, units)
    for unit, got in enumerate(optimal_search(cells, units, length=5, seconds=0)):
        assert got.bound == max(limits[unit], got.iou)


def test_up_to_three_concepts_no_limit_matters():
    _, _, cells, units = made(5)
    assert optimal_search(cells, units, length=3, seconds=0, nodes=0) == optimal_search(cells, units, length=3)


def test_units_without_pixels_or_concepts_have_no_formula():
    masks, active = scene(1, 4)
    masks[:], active[0] = masks & ~active[1], False  # no concept meets the second
    cells, units = as_cells(masks, active)
    for got in optimal_search(cells, units, length=4):
        assert (got.formula, got.iou, got.bound, got.stopped) == (None, 0.0, 0.0, "")
    cells, units = as_cells(np.zeros_like(masks), active)
    assert [one.formula for one in optimal_search(cells, units, length=4)] == [None, None]


def test_progress_is_told_unit_by_unit():
    _, _, cells, units = made(7)
    told = []
    optimal_search(cells, units, length=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_an_interruption_ends_a_search_without_end(monkeypatch):
    _, _, cells, units = made(8)
    running, seen = threading.Event(), []

    def endless(*arguments):
        if arguments[-2]:  # not the call that compiles
            running.set()
        time.sleep(0.001)
        return 0

    def interrupting(count, run, progress, chunk, stop):
        thread = threading.Thread(target=run, args=(0, 1))
        thread.start()
        running.wait()
        seen.append(thread.is_alive())
        stop.set()
        thread.join(10)
        seen.append(thread.is_alive())
        raise KeyboardInterrupt

    monkeypatch.setattr(anytime, "go_on", endless)
    monkeypatch.setattr(anytime, "run_chunks", interrupting)
    with pytest.raises(KeyboardInterrupt):
        optimal_search(cells, units, length=4, beam=1, seconds=math.inf)
    assert seen == [True, False]


def test_the_clock_is_looked_at_between_slices(monkeypatch):
    """A clock that jumps ends the search, whatever the machine."""
    _, _, cells, units = made(11)
    now = [0.0]

    def slow(*arguments):
        now[0] += 0.4 if arguments[-2] else 60  # the call that compiles does not count
        return 0

    monkeypatch.setattr(anytime, "go_on", slow)
    monkeypatch.setattr(anytime.time, "perf_counter", lambda: now[0])
    found = optimal_search(cells, units.select([0]), length=4, beam=1, seconds=1)
    assert (found[0].stopped, round(now[0], 1)) == ("time", 61.2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": -1}, "time per unit -1: give seconds"),
        ({"seconds": math.nan}, "time per unit nan"),
        ({"gap": -0.1}, "stop gap -0.1: give a difference"),
        ({"gap": math.nan}, "stop gap nan"),
        ({"gap": math.inf}, "stop gap inf"),
    ],
)
def test_limits_out_of_range_are_refused(options, said):
    _, _, cells, units = made(0)
    with pytest.raises(InputError, match=said):
        optimal_search(cells, units, length=4, **options)
    with pytest.raises(InputError, match=said):
        Finder(length=4, search="optimal", **options)
    with pytest.raises(InputError, match="nodes -1"):
        optimal_search(cells, units, length=4, nodes=-1)


@pytest.mark.parametrize("search", ["beam", "auto"])
def test_limits_go_with_the_optimal_search(search):
    for options in ({"seconds": 1.0}, {"seconds": 0.0}, {"gap": 0.1}):
        with pytest.raises(InputError, match=f"limit search='optimal', got search='{search}'"):
            Finder(length=4, search=search, **options)


def test_a_finder_hands_its_limits_on():
    _, _, cells, units = made(2)
    found = find(Finder(length=4, beam=1, search="optimal", seconds=math.inf, gap=0.02), cells, units)
    assert found == optimal_search(cells, units, length=4, beam=1, seconds=math.inf, gap=0.02)
    none = find(Finder(length=4, beam=1, search="optimal", seconds=0), cells, units)
    assert none == optimal_search(cells, units, length=4, beam=1, seconds=0)


def test_no_units():
    _, _, cells, _ = made(2)
    assert optimal_search(cells, unit_counts(np.zeros((0, len(cells)), np.int64)), length=4) == []
