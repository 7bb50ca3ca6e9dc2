from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles.components import box, fill, flood_fill, largest
from skimage.measure import label, regionprops

from explain.errors import DependencyError, InputError
from explain.opencv import components, largest_component, outline_paths

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
masks = shapes.flatmap(lambda shape: arrays(np.bool_, shape))


@given(masks)
@settings(max_examples=300, deadline=None)
def test_largest_component_is_the_flood_fills(mask):
    assert largest_component(mask) == largest(mask)


@given(masks)
@settings(max_examples=200, deadline=None)
def test_components_are_the_flood_fills_in_raster_order(mask):
    found, expected = components(mask), flood_fill(mask)
    assert found.areas.tolist() == [len(component) for component in expected]
    assert found.boxes.tolist() == [list(box(component)) for component in expected]
    for number, component in enumerate(expected, start=1):
        assert {found.labels[pixel] for pixel in component} == {number}
    assert np.array_equal(found.labels > 0, mask)


@given(masks)
@settings(max_examples=200, deadline=None)
def test_components_agree_with_scikit_image(mask):
    regions = regionprops(label(mask, connectivity=2))
    theirs = sorted((r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2], int(r.area)) for r in regions)
    found = components(mask)
    ours = [(*row, area) for row, area in zip(found.boxes.tolist(), found.areas.tolist(), strict=True)]
    assert sorted(ours) == theirs


def test_a_tie_goes_to_the_component_that_starts_first_even_where_opencv_numbers_it_later():
    # OpenCV scans blocks of 2x2 pixels: it meets the lower left pixel before the upper right one.
    mask = np.zeros((2, 6), dtype=bool)
    mask[1, 0] = mask[0, 4] = True
    assert largest_component(mask) == (4, 0, 5, 1)
    assert components(mask).boxes.tolist() == [[4, 0, 5, 1], [0, 1, 1, 2]]


def test_one_pixel_has_a_box_of_one_pixel():
    mask = np.zeros((5, 7), dtype=np.uint8)
    mask[3, 4] = 200
    assert largest_component(mask) == (4, 3, 5, 4)


def test_diagonal_neighbours_are_one_component():
    assert largest_component(np.eye(4)) == (0, 0, 4, 4)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (4, 4)])
def test_an_empty_mask_has_no_box_and_no_outline(shape):
    mask = np.zeros(shape, dtype=bool)
    assert largest_component(mask) is None
    assert outline_paths(mask) == []
    assert components(mask).boxes.shape == (0, 4)


def test_a_mask_without_two_dimensions_is_refused():
    with pytest.raises(InputError, match=r"two dimensions .* got shape \(2, 3, 4\)"):
        largest_component(np.zeros((2, 3, 4)))


def test_masks_that_are_not_contiguous():
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:3, 2:7] = True
    assert largest_component(mask[::-1, ::2].T) == (3, 1, 5, 4)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (2, 1, 5, 3), (0, 0, 8, 6), (7, 5, 8, 6)])
def test_the_outline_of_a_rectangle_is_its_four_corners(box):
    x1, y1, x2, y2 = box
    mask = np.zeros((6, 8), dtype=bool)
    mask[y1:y2, x1:x2] = True
    (path,) = outline_paths(mask)
    assert path.shape == (4, 2)
    assert {tuple(corner) for corner in path.tolist()} == {(x1, y1), (x2, y1), (x2, y2), (x1, y2)}


@given(masks)
@settings(max_examples=300, deadline=None)
def test_outlines_filled_give_the_mask_back(mask):
    paths = outline_paths(mask)
    assert np.array_equal(fill(paths, mask.shape), mask)
    for path in paths:
        horizontal = path[:, 1] == np.roll(path[:, 1], 1)
        assert (horizontal != np.roll(horizontal, 1)).all(), "every corner turns"


def test_a_hole_has_its_own_outline():
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 2] = False
    corners = [{tuple(corner) for corner in path.tolist()} for path in outline_paths(mask)]
    assert len(corners) == 2
    assert {(2, 2), (3, 2), (3, 3), (2, 3)} in corners


def test_a_missing_system_library_is_one_line_with_the_remedy(tmp_path):
    (tmp_path / "cv2.py").write_text(
        'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")\n'
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import numpy as np, explain.opencv as o\n"
        "from explain.errors import DependencyError\n"
        "try: o.largest_component(np.ones((2, 2)))\n"
        "except DependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    for part in ("libGL.so.1", "opencv-python-headless", "libgl1"):
        assert part in done.stdout


def test_dependency_error_is_an_import_error():
    assert issubclass(DependencyError, ImportError)


@pytest.mark.parametrize(
    ("use", "imported"),
    [("", False), ("explain.opencv.largest_component(__import__('numpy').ones((2, 2)))", True)],
)
def test_opencv_is_imported_only_when_used(use, imported):
    code = (
        "import sys, explain, explain.types, explain.report, explain.opencv, explain.pictures\n"
        f"{use}\nprint('cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(imported)
