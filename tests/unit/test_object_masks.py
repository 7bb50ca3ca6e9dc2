"""Object masks: OpenCV's nearest rule, run lengths and polygons of COCO, masks of plain folders."""

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from explain.data import check, open_localization
from explain.data.formats.rle import polygon_mask, rle_mask, unpacked_counts
from explain.data.object_masks import object_mask, opencv_nearest, tight_box
from explain.errors import DataError


def test_nearest_is_opencvs():
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(1, 400, (150, 4)).tolist(), [375, 500, 224, 224], [1, 1, 9, 7], [500, 333, 28, 28]]
    for h, w, th, tw in sizes:
        mask = rng.integers(0, 255, (h, w)).astype(np.uint8)
        expected = cv2.resize(mask, (tw, th), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(opencv_nearest(mask, (th, tw)), expected)


def test_nearest_takes_the_floor():
    assert opencv_nearest(np.array([[10, 20, 30, 40, 50]]), (1, 2)).tolist() == [[10, 30]]
    assert opencv_nearest(np.array([[10, 20]]), (2, 5)).tolist() == [[10, 10, 10, 20, 20]] * 2


def test_uniting_and_resizing_commute():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 2, (2, 37, 53))
    united = opencv_nearest(first | second, (19, 24))
    assert np.array_equal(united, opencv_nearest(first, (19, 24)) | opencv_nearest(second, (19, 24)))


def test_ids_to_masks():
    ids = np.array([[0, 1, 2], [3, 255, 1]])
    assert object_mask(ids, None, (255,)).tolist() == [[0, 1, 1], [1, 255, 1]]
    assert object_mask(ids, (2, 3)).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert tight_box(object_mask(ids, (2, 3))).tolist() == [[0, 0, 3, 2]]
    assert tight_box(object_mask(ids, (9,))).shape == (0, 4)


def packed(runs):
    """The letters of run lengths, bit by bit as COCO's format description has it."""
    text = ""
    for place in range(len(runs)):
        value = runs[place] - runs[place - 2] if place > 2 else runs[place]
        while True:
            low = value % 32
            value //= 32  # rounds down, so -1 stays -1
            last = (value == 0 and not low & 16) or (value == -1 and low & 16)
            text += chr(48 + low + (0 if last else 32))
            if last:
                break
    return text


@pytest.mark.parametrize(
    ("counts", "size", "pixels"),
    [  # made with COCO's own code
        ("127O10", (5, 4), [(1, 0), (2, 0), (0, 2), (4, 3)]),
        ("06", (2, 3), [(y, x) for y in range(2) for x in range(3)]),
        (
            "01abc0Q4e_\\O0i]V1oKUfiN",
            (200, 300),
            [(0, 0), *[(y, x) for x in (100, 101) for y in range(50, 180)], (3, 299)],
        ),
        ("jd0b0<0000000000000000000000000b3", (30, 40), [(y, x) for y in range(6, 24) for x in range(22, 36)]),
    ],
)
def test_packed_run_lengths(counts, size, pixels):
    expected = np.zeros(size, bool)
    for y, x in pixels:
        expected[y, x] = True
    assert np.array_equal(rle_mask(counts, size), expected)
    assert packed(unpacked_counts(counts)) == counts


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40))
def test_packing_round_trip(runs):
    assert unpacked_counts(packed(runs)) == runs


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_masks_round_trip(height, width, data):
    flat = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    runs, current = [0], False
    for value in flat:  # column by column
        if value != current:
            runs.append(0)
            current = value
        runs[-1] += 1
    expected = [[flat[x * height + y] for x in range(width)] for y in range(height)]
    assert rle_mask(runs, (height, width)).tolist() == expected
    assert rle_mask(packed(runs), (height, width)).tolist() == expected


@pytest.mark.parametrize(
    ("counts", "part"),
    [([3, 2], "add up to 5 pixels"), ([8, -2], "the least is -2"), ("1~", "cannot occur"), ("P", "breaks off")],
)
def test_bad_run_lengths(counts, part):
    with pytest.raises(DataError, match=part):
        rle_mask(counts, (2, 3))


def test_polygons():
    mask = polygon_mask([[2, 1, 6, 1, 6, 4, 2, 4], [0, 5, 1, 5, 1, 6, 0, 6]], (6, 8))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    expected[5, 0] = True
    assert np.array_equal(mask, expected)
    # A triangle against the centres of all pixels; its slanted edge passes none of them.
    ours = polygon_mask([[0, 0, 20.5, 0, 0, 10.2]], (12, 24))
    y, x = np.mgrid[:12, :24] + 0.5
    assert np.array_equal(ours, x / 20.5 + y / 10.2 < 1)


@pytest.fixture
def plain(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    ids = np.zeros((6, 8), np.uint8)
    ids[1:4, 2:7], ids[4, 3], ids[0, 0] = 7, 9, 255
    for name in ("a", "b"):
        Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(tmp_path / "images" / f"{name}.png")
    Image.fromarray(ids).save(tmp_path / "masks" / "a.png")
    Image.fromarray(np.eye(6, 8, dtype=bool)).save(tmp_path / "masks" / "b.png")  # one bit per pixel
    (tmp_path / "images.csv").write_text("image,class_index,mask\na.png,1,masks/a.png\nb.png,0,masks/b.png\n")
    return tmp_path


def test_plain_masks_give_boxes(plain):
    data = open_localization(plain)
    assert data.masks(0, (6, 8)).sum() == 17  # whatever is not 0 is the object
    assert [each.tolist() for each in data.boxes] == [[[0, 0, 7, 5]], [[0, 0, 6, 6]]]
    assert check(plain) == []
    (plain / "masks.json").write_text('{"object": [7], "ignored": [255]}')
    again = open_localization(plain)
    assert again.hash != data.hash
    assert again.masks(0, (6, 8)).tolist()[0][0] == 255
    assert (again.masks(0, (6, 8)) == 1).sum() == 15
    assert again.boxes[0].tolist() == [[2, 1, 7, 4]]
    assert pickle.loads(pickle.dumps(again.masks))(0, (3, 4)).shape == (3, 4)
    (plain / "masks.json").write_text('{"ignored": [255, 9]}')
    assert open_localization(plain).boxes[0].tolist() == [[2, 1, 7, 4]]


def test_boxes_of_a_table_come_first(plain):
    (plain / "boxes.csv").write_text("image,x0,y0,x1,y1\na.png,0,0,4,5\n")
    data = open_localization(plain)
    assert [each.tolist() for each in data.boxes] == [[[0, 0, 4, 5]], []]
    assert data.masks(1, (6, 8)).sum() == 6


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("images.csv", "image,class_index,mask\na.png,1,\n", "line 2: the mask cell is empty"),
        ("images.csv", "image,class_index,mask\na.png,1,masks/c.png\n", "line 2: no mask"),
        ("images.csv", "image,class_index,mask\na.png,1,masks/big.png\n", "line 2: mask"),
        ("images.csv", "image,class_index,mask\na.png,1,images/a.png\n", "a.png is a RGB picture"),
        ("masks.json", "{", "masks.json line 1 is not valid JSON"),
        ("masks.json", '{"objects": [1]}', "is not of the form"),
        ("masks.json", '{"object": 1}', "1 is no list of ids"),
        ("masks.json", '{"object": [true]}', "is no list of ids"),
        ("masks.json", '{"object": []}', "'object' is empty or shares"),
        ("masks.json", '{"object": [1, 5], "ignored": [5]}', "'object' is empty or shares an id with 'ignored'"),
    ],
)
def test_bad_plain_masks(plain, name, text, part):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(plain / "masks" / "big.png")
    (plain / name).write_text(text)
    with pytest.raises(DataError) as caught:
        open_localization(plain)
    assert part in str(caught.value)
    assert any(part in problem for problem in check(plain))


def test_check_tells_empty_masks_of_plain_folders(plain):
    (plain / "masks.json").write_text('{"object": [7]}')
    assert check(plain) == [f"{plain / 'images.csv'} line 3: the mask shows no object: correct it or drop the row"]
