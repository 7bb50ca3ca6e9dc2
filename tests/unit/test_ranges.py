"""Clusters of activations, against a literal k-means, and counts in ranges against masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.errors import InputError, ModelError
from explain.neurons.cells import build_index
from explain.neurons.firing import count_firing, firing_from_pieces
from explain.neurons.ranges import activation_ranges, firing_in_ranges
from explain.neurons.upsampling import upsample
from explain.types import Concept, Labels


def clusters(values, k):
    """Lloyd's algorithm value by value; returns each value's cluster."""
    values = sorted(float(value) for value in values if value != 0)
    centres = [values[(2 * j + 1) * len(values) // (2 * k)] for j in range(k)]
    label = None
    while True:
        new = [min(range(k), key=lambda j: (abs(value - centres[j]), j)) for value in values]
        if new == label:
            return values, label
        label = new
        for j in range(k):
            own = [value for value, at in zip(values, label, strict=True) if at == j]
            centres[j] = sum(own) / len(own) if own else centres[j]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(6, 60))
def test_ranges_are_the_clusters_of_a_literal_k_means(seed, k, count):
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, 2, count).astype(np.float32)
    (lower,), (upper,) = activation_ranges([values], k)
    ordered, label = clusters(values, k)
    for value, at in zip(ordered, label, strict=True):
        inside = [j for j in range(k) if lower[j] < value <= upper[j]]
        assert inside == [at]


def test_the_ends_leave_no_gap():
    values = np.array([[0.0, 1, 1.1, 5], [5.2, 20, 0, 0]], np.float32)
    lower, upper = activation_ranges([values, -values, np.zeros(3), np.ones(4)], 3)
    assert lower[0].tolist() == [0.0, np.float32(1.1), np.float32(5.2)]
    assert upper[0].tolist() == [np.float32(1.1), np.float32(5.2), np.inf]
    assert lower[1, 0] == np.nextafter(np.float32(-20), np.float32(-21))
    assert np.array_equal(lower[:, 1:], upper[:, :-1])
    assert np.isinf(lower[2]).all()
    assert (lower[3, 0], upper[3, 0]) == (0, np.inf)
    assert [a.dtype for a in (lower, upper)] == [np.float32] * 2


def test_counts_in_ranges_are_those_of_masks():
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.standard_normal((6, 2, 3, 4)), 0).astype(np.float32)
    labels = [Labels(rng.integers(-1, 2, (1, 9, 10)).astype(np.int32)) for _ in range(6)]
    index = build_index((Concept("a", "o"), Concept("b", "o")), labels)
    image, unit = np.nonzero(maps.max((2, 3)) > 0)
    firing = firing_from_pieces([(unit, image, maps[image, unit])], (3, 4))
    ends = activation_ranges([maps[:, 0], maps[:, 1]], 3)
    store, lower, upper = firing_in_ranges(firing, *ends)
    counts = count_firing(store, lower, index, units=6, upper=upper)
    large = np.stack([upsample(torch.from_numpy(one), (9, 10)).numpy() for one in maps])
    for pair in range(6):
        mask = (large[:, pair // 3] > lower[pair]) & (large[:, pair // 3] <= upper[pair])
        expected = np.bincount(np.stack([index.cell_ids(i) for i in range(6)])[mask], minlength=len(index.cells))
        got = np.zeros(len(index.cells), np.int64)
        row = slice(counts.indptr[pair], counts.indptr[pair + 1])
        got[counts.cells[row]] = counts.counts[row]
        assert got.tolist() == expected.tolist()
        assert got.sum() > 0
    assert counts.active.reshape(2, 3).sum(1).tolist() == (large > 0).sum((0, 2, 3)).tolist()


def test_errors():
    with pytest.raises(InputError, match="at least 1 range"):
        activation_ranges([np.ones(3)], 0)
    with pytest.raises(ModelError, match="unit 1 gives NaN"):
        activation_ranges([np.ones(3), np.array([np.nan])])
    firing = firing_from_pieces([(np.array([3]), np.array([0]), np.ones((1, 2, 2), np.float32))], (2, 2))
    with pytest.raises(InputError, match="for all units"):
        firing_in_ranges(firing, np.zeros((2, 5), np.float32), np.ones((2, 5), np.float32))
