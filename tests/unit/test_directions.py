"""Rotations of a layer's basis, and directions from files."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.errors import DataError, InputError
from explain.neurons.directions import load_directions, random_rotation, rotated, rotation_power


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 24), st.integers(0, 2**31), st.floats(0, 1))
def test_powers_of_a_rotation_are_rotations(channels, seed, alpha):
    whole = random_rotation(channels, seed)
    part, rest = rotation_power(whole, alpha), rotation_power(whole, 1 - alpha)
    for matrix in (whole, part, rest):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(channels), atol=1e-10)
        assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(part @ rest, whole, atol=1e-9)
    np.testing.assert_allclose(rotation_power(whole, 0), np.eye(channels))
    assert np.array_equal(random_rotation(channels, seed), whole)


def test_a_plane_turns_by_part_of_its_angle():
    def turn(angle):
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    for angle in (0.3, -2.9, 3.1):
        np.testing.assert_allclose(rotation_power(turn(angle), 0.25), turn(angle / 4), atol=1e-12)


def test_rotations_are_drawn_uniformly():
    """Of SO(3): the angle has the density (1 - cos) / pi, so that it is above pi / 2 in 1/2 + 1/pi of all."""
    drawn = np.stack([random_rotation(3, seed) for seed in range(3000)])
    angles = np.arccos((np.trace(drawn, axis1=1, axis2=2) - 1).clip(-2, 2) / 2)
    assert abs((angles > np.pi / 2).mean() - (0.5 + 1 / np.pi)) < 0.03
    assert np.abs(drawn.mean(0)).max() < 0.05
    np.testing.assert_allclose((drawn**2).mean(0), 1 / 3, atol=0.03)


def test_rotated_directions():
    made = rotated(5, 0.5, seed=2)
    assert made.matrix.dtype == torch.float32
    assert made.name == "rotated 0.5"
    np.testing.assert_allclose(made.matrix.numpy() @ made.matrix.numpy(), random_rotation(5, 2), atol=1e-6)
    with pytest.raises(InputError, match="power -0.1"):
        rotated(5, -0.1)


def test_directions_from_files(tmp_path):
    matrix, bias = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0])
    np.savez(tmp_path / "probe.npz", matrix=matrix, bias=bias, relu=True)
    torch.save({"matrix": torch.from_numpy(matrix)}, tmp_path / "probe.pt")
    torch.save(torch.from_numpy(matrix), tmp_path / "alone.pt")
    found = [load_directions(tmp_path / name) for name in ("probe.npz", "probe.pt", "alone.pt")]
    assert [one.name for one in found] == ["probe", "probe", "alone"]
    assert [one.relu for one in found] == [True, False, False]
    for one in found:
        assert torch.equal(one.matrix, torch.from_numpy(matrix).float())
    assert found[0].bias.tolist() == [1, 2]
    assert found[1].bias is None
    assert found[0].describe()["hash"] != found[1].describe()["hash"]


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("a.npz", None, "do not exist"),
        ("a.csv", {}, "give a .npz or .pt"),
        ("a.npz", {"weight": np.ones((2, 3))}, "hold weight: give matrix"),
        ("a.npz", {"matrix": np.ones((2, 3)), "scale": np.ones(1)}, "hold matrix, scale"),
        ("a.npz", {"matrix": np.ones(3)}, r"float matrix \(d, c\)"),
        ("a.npz", {"matrix": np.ones((2, 3)), "bias": np.ones(3)}, "as many biases"),
        ("a.npz", {"matrix": np.full((2, 3), np.nan)}, "NaN"),
        ("a.npz", {"matrix": np.array([["x"]])}, "cannot be used"),
        ("a.pt", [1, 2], "hold a list"),
        ("a.pt", b"no file of torch", "cannot be read"),
        ("a.npz", b"no zip", "cannot be read"),
    ],
)
def test_files_that_hold_no_directions(tmp_path, name, entries, message):
    path = tmp_path / name
    if isinstance(entries, bytes):
        path.write_bytes(entries)
    elif isinstance(entries, dict) and path.suffix == ".npz":
        np.savez(path, **entries)
    elif entries is not None:
        torch.save(entries, path)
    with pytest.raises(DataError, match=message):
        load_directions(path)
