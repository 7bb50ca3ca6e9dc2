"""The search on sentence pairs against the published one, and the released code's behaviour, which is not built."""

import numpy as np
import pytest
import torch
from formula_sets import as_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import nli
from torch import nn

from explain.neurons.search import beam_search

SEEDS = st.integers(0, 10**6)


def planted(seed, concepts, pairs=60):
    """Concepts bool (C, N), some alike, and a unit near a formula of three of them."""
    rng = np.random.default_rng(seed)
    masks = rng.random((concepts, pairs)) < rng.choice([0.05, 0.2, 0.5], concepts)[:, None]
    for number in range(1, concepts):
        if rng.random() < 0.2:
            masks[number] = masks[rng.integers(number)]
    one, two, three = masks[rng.integers(0, concepts, 3)]
    return masks, ((one | two) & ~three) ^ (rng.random(pairs) < 0.1)


def named(masks):
    return {f"c{number}": mask for number, mask in enumerate(masks) if mask.any()}


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 6), st.integers(1, 10), st.integers(1, 5))
def test_the_search_gives_the_published_beam_slot_by_slot(seed, concepts, beam, length):
    masks, unit = planted(seed, concepts)
    wanted = nli.search(unit, named(masks), length=length, beam=beam)
    cells, counts = as_cells(masks[:, None, :, None], unit[None, None, :, None])
    used = int((masks & unit).any(1).sum())  # only what overlaps with the unit extends formulas
    found = beam_search(cells, counts, length=length, beam=beam, compat="compexp", limit=max(used, 1))[0]
    scores = [one.intersection / (found.active + one.pixels - one.intersection + 1e-10) for one in found.beam]
    assert [(one.text, one.intersection, one.pixels) for one in found.beam] == [
        (one.text, one.intersection, one.pixels) for one in wanted
    ]
    assert scores == [one.score for one in wanted]


def test_neighbours_change_the_mask_in_the_paper_and_not_in_the_code():
    angles = {"dog": 0.0, "puppy": 0.1, "cat": 0.2, "wolf": 0.3, "pig": 0.4, "cow": 0.5, "car": 3.0}
    vectors = {word: np.array([np.cos(a), np.sin(a)]) for word, a in angles.items()}
    near = nli.neighbours("dog", vectors, [*vectors, "unknown"])
    assert near == {"dog", "puppy", "cat", "wolf", "pig", "cow"}
    assert nli.neighbours("unknown", vectors, list(vectors)) == {"unknown"}
    dog = np.array([True, False, False, False])
    puppy = np.array([False, True, False, False])
    fires = dog | puppy
    paper = nli.search(fires, {"dog": dog, "puppy": puppy, "NEIGHBORS(dog)": dog | puppy}, length=1)
    assert (paper[0].text, paper[0].intersection) == ("NEIGHBORS(dog)", 2)
    code = nli.search(fires, {"dog": dog, "puppy": puppy}, length=1, form="code")
    assert ("(NEIGHBORS dog)", 1) in [(one.text, one.intersection) for one in code]


def test_the_code_tries_each_leaf_twice():
    one, two = np.array([True, True, False, False]), np.array([False, False, True, False])
    items = nli.search(one | two, {"a": one, "b": two}, length=2, form="code")
    texts = [item.text for item in items]
    assert texts.count("(a OR b)") == 2
    assert texts.count("((NEIGHBORS a) OR b)") == 2
    paper = [item.text for item in nli.search(one | two, {"a": one, "b": two}, length=2)]
    assert len(set(paper)) == len(paper) > len(set(texts))


def test_overlap_is_that_of_word_sets():
    premise, hypothesis = ["a", "dog"], ["a", "cat"]  # one word of three in common
    assert nli.overlap_levels(premise, hypothesis, "paper") == {0, 25}
    assert nli.overlap_levels(premise, hypothesis, "code") == {25}  # .5 of theirs, not above
    assert nli.overlap_levels(["a", "dog", "b"], ["a", "dog", "c"], "paper") == {0, 25}  # half, not more
    assert nli.overlap_levels(["a", "dog", "b"], ["a", "dog", "c"], "code") == {25, 50, 75}
    assert nli.overlap_levels(["a"], ["b"], "paper") == set()
    assert nli.overlap_levels(["a"], ["a"], "code") == {25, 50, 75}


@pytest.mark.parametrize("metric", ["iou", "precision", "recall"])
def test_the_score_follows_the_metric(metric):
    fires = np.array([True, True, True, False, False])
    concepts = {
        "wide": np.array([True, True, True, True, True]),
        "narrow": np.array([True, False, False, False, False]),
    }
    best = nli.search(fires, concepts, length=1, metric=metric)[0]
    assert best.text == ("narrow" if metric == "recall" else "wide")


def test_units_that_fire_too_seldom_have_no_formula():
    fires = np.array([True, False])
    assert nli.search(fires, {"a": fires}, least=2) == []


def test_training_mode_makes_firing_depend_on_the_batch():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3))
    pairs = torch.randn(40, 4)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for form, same in (("paper", True), ("code", False)):
        first = nli.firing(net, net, pairs, form)
        second = nli.firing(net, net, pairs[order], form)
        assert np.array_equal(first[order], second) == same
