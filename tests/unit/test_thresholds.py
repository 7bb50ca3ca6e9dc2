import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.neurons import exact_rank, threshold_of

from explain.errors import InputError, ModelError
from explain.neurons.thresholds import TopValues, merge_top_values, rank
from explain.neurons.upsampling import make_axes, upsample


def random_maps(seed, batches, units=3, size=(3, 4), batch=4, ties=False):
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((batches, batch, units, *size)).astype(np.float32)
    return torch.from_numpy(np.round(maps) if ties else maps)


@pytest.mark.parametrize(
    ("quantile", "count", "k"),
    [
        (0.005, 9800, 49),
        (0.005, 9801, 50),
        (0.07, 100, 7),
        (0.14, 50, 7),
        (0.1, 30, 3),
        (0.01, 1, 1),
        (1e-5, 100000, 1),
    ],
)
def test_rank_follows_the_quantile_as_written(quantile, count, k):
    assert rank(quantile, count) == k
    assert rank(np.float64(quantile), count) == k


@given(st.integers(1, 9999), st.integers(1, 10**10))
def test_rank_is_exact(tenthousandths, count):
    text = f"{tenthousandths / 10000}"
    assert rank(float(text), count) == exact_rank(text, count)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -1.0, float("nan")])
def test_rank_refuses_what_is_no_fraction(quantile):
    with pytest.raises(InputError, match="between 0 and 1"):
        rank(quantile, 10)


def test_rank_refuses_an_empty_set():
    with pytest.raises(InputError, match="empty"):
        rank(0.5, 0)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([0.005, 0.05, 0.3, 0.99]), st.booleans())
def test_threshold_is_that_of_a_full_sort(seed, batches, quantile, ties):
    maps = random_maps(seed, batches, ties=ties)
    count = batches * 4 * 12
    top = TopValues(3, quantile, count)
    for batch in maps:
        top.update(batch)
        seen = top.bound()
        assert (seen <= torch.tensor([threshold_of(maps[:, :, u], top.k) for u in range(3)])).all()
    expected = [threshold_of(maps[:, :, unit], top.k) for unit in range(3)]
    assert top.threshold().tolist() == expected


def test_at_most_k_values_are_active():
    maps = random_maps(0, 50)
    top = TopValues(3, 0.01, 50 * 48)
    for batch in maps:
        top.update(batch)
    active = (maps.movedim(2, 0).flatten(1) > top.threshold()[:, None]).sum(1)
    assert active.tolist() == [24, 24, 24]


def test_a_silent_relu_unit_has_threshold_zero():
    top = TopValues(1, 0.1, 40)
    maps = torch.zeros(10, 1, 2, 2)
    maps[0, 0, 0, 0] = 5.0
    top.update(maps)
    assert top.threshold().tolist() == [0.0]


def test_bound_is_minus_infinity_until_k_plus_one_values_came():
    top = TopValues(1, 0.5, 8)
    top.update(torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 2, 2))
    assert top.bound().tolist() == [float("-inf")]
    top.update(torch.tensor([5.0, 6.0, 7.0, 8.0]).reshape(1, 1, 2, 2))
    assert top.bound().tolist() == [4.0]


def test_infinite_values_are_ordered_like_others():
    top = TopValues(2, 0.5, 4)
    top.update(torch.tensor([[[[-torch.inf, 1.0]], [[-torch.inf, -torch.inf]]]]))
    top.update(torch.tensor([[[[2.0, 3.0]], [[-torch.inf, torch.inf]]]]))
    assert top.threshold().tolist() == [1.0, float("-inf")]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_merged_shards_equal_one_pass(seed, first):
    maps = random_maps(seed, 8)
    whole, left, right = (TopValues(3, 0.07, 8 * 48) for _ in range(3))
    for number, batch in enumerate(maps):
        whole.update(batch)
        (left if number < first else right).update(batch)
    merged = merge_top_values(left, right)
    assert torch.equal(merged.threshold(), whole.threshold())
    assert np.array_equal(merged.state()["values"], whole.state()["values"])


def test_a_checkpoint_continues_where_it_stopped():
    maps = random_maps(3, 4)
    whole, first = TopValues(3, 0.07, 4 * 48), TopValues(3, 0.07, 4 * 48)
    for batch in maps:
        whole.update(batch)
    for batch in maps[:2]:
        first.update(batch)
    second = TopValues(3, 0.07, 4 * 48)
    second.restore(first.state())
    for batch in maps[2:]:
        second.update(batch)
    assert torch.equal(second.threshold(), whole.threshold())


def test_linear_units():
    top = TopValues(2, 0.25, 4)
    top.update(torch.arange(8.0).reshape(4, 2, 1, 1))
    assert top.threshold().tolist() == [4.0, 5.0]


def test_nan_names_the_unit():
    maps = torch.zeros(2, 3, 2, 2)
    maps[1, 2, 0, 1] = torch.nan
    with pytest.raises(ModelError, match="unit 2 gives NaN"):
        TopValues(3, 0.1, 100).update(maps)


def test_errors():
    top = TopValues(3, 0.1, 8)
    with pytest.raises(InputError, match=r"\(b, 3, h, w\)"):
        top.update(torch.zeros(1, 2, 2, 2))
    top.update(torch.zeros(1, 3, 2, 2))
    with pytest.raises(InputError, match="4 values per unit came in, 8"):
        top.threshold()
    with pytest.raises(InputError, match="12 values per unit came in, 8"):
        top.update(torch.zeros(2, 3, 2, 2))
    with pytest.raises(InputError, match="merged"):
        merge_top_values(top, TopValues(3, 0.2, 8))
    with pytest.raises(InputError, match="saved thresholds"):
        top.restore({"values": np.zeros((3, 9), np.float32), "seen": np.array(0)})


@pytest.mark.parametrize("order", ["rising", "falling", "equal", "late"])
def test_rows_that_fill_again_and_again(order):
    """Values in the worst order: every one exceeds the bound, or hardly any does."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.standard_normal((3, 4000)).astype(np.float32), 1)
    if order == "falling":
        values = values[:, ::-1]
    elif order == "equal":
        values = np.round(values)
    elif order == "late":
        values[:, :3000] = 0
    maps = torch.from_numpy(values.T.reshape(40, 100, 3).transpose(0, 2, 1).reshape(40, 3, 10, 10).copy())
    top = TopValues(3, 0.01, 4000)
    for start in range(0, 40, 8):
        top.update(maps[start : start + 8])
    assert top.threshold().tolist() == [threshold_of(row, 40) for row in values]
    assert top.peaks().tolist() == values.max(1).tolist()
    assert (top.state()["values"] == np.sort(values, 1)[:, ::-1][:, :41]).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0.005, 0.1, 0.6]), st.booleans())
def test_the_way_of_accelerators_gives_the_same(seed, quantile, ties):
    """The torch code, run here on the processor: what it keeps is what the compiled loop keeps."""
    maps = random_maps(seed, 6, ties=ties)
    one, other = (TopValues(3, quantile, 6 * 48) for _ in range(2))
    for batch in maps:
        one.update(batch)
        other._note(48)
        other._append(batch.movedim(1, 0).flatten(1))
    assert torch.equal(one.threshold(), other.threshold())
    assert np.array_equal(one.state()["values"], other.state()["values"])


def test_upsampled_values_are_counted_and_checked():
    axes = make_axes("bilinear", (2, 2), (4, 6))
    top = TopValues(2, 0.1, 3 * 24)
    maps = random_maps(1, 1, units=2, size=(2, 2), batch=3)[0]
    top.update_upsampled(maps, axes)
    large = torch.stack([upsample(one, (4, 6)) for one in maps])
    assert top.threshold().tolist() == [threshold_of(large[:, unit], 8) for unit in range(2)]
    with pytest.raises(InputError, match="96 values per unit came in, 72"):
        top.update_upsampled(maps[:1], axes)
    with pytest.raises(InputError, match=r"\(b, 2, h, w\)"):
        top.update_upsampled(maps[:, :1], axes)
    maps[1, 1, 0, 0] = torch.nan
    with pytest.raises(ModelError, match="unit 1 gives NaN"):
        TopValues(2, 0.1, 72).update_upsampled(maps, axes)
