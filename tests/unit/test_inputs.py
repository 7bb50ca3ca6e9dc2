from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import EfficientNet_B0_Weights, ResNet50_Weights
from torchvision.transforms import InterpolationMode

import explain
from explain.errors import DataError, InputError
from explain.nets import Preprocess, Subject
from explain.nets.inputs import as_batch, describe_transform, read_image, recognise, stream, suspicion
from explain.types import Geometry

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def picture(width=61, height=43, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def compose(*steps, mean=MEAN, std=STD):
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, std)])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("size", [(32, 48), (80, 70)])
def test_squash_equals_torchvision(mode, size):
    theirs = compose(transforms.Resize(size, InterpolationMode(mode)))
    ours = Preprocess(size, MEAN, STD, mode)
    torch.testing.assert_close(ours(picture()), theirs(picture()))
    assert recognise(theirs) == ours


@pytest.mark.parametrize(("width", "height"), [(61, 43), (43, 61), (50, 50), (200, 31)])
@pytest.mark.parametrize(("resize", "crop"), [(40, 32), (37, 30), (32, 32)])
def test_crop_equals_torchvision(width, height, resize, crop):
    theirs = compose(transforms.Resize(resize), transforms.CenterCrop(crop))
    ours = Preprocess((crop, crop), MEAN, STD, crop_from=resize)
    torch.testing.assert_close(ours(picture(width, height)), theirs(picture(width, height)))
    assert recognise(theirs) == ours


def test_grey_and_transparent_pictures_become_rgb():
    for mode in ("L", "RGBA", "P", "1", "CMYK"):
        assert Preprocess((8, 8))(picture().convert(mode)).shape == (3, 8, 8)


# --- geometry -----------------------------------------------------------------------------------------------

sides = st.integers(20, 300)


@settings(deadline=None, max_examples=100)
@given(sides, sides, st.integers(8, 40), st.integers(8, 40))
def test_a_squash_shows_the_whole_image(height, width, y, x):
    geometry = Preprocess((y, x)).geometry((height, width))
    assert geometry.covers
    assert geometry.region == (0, 0, height, width)
    box = torch.tensor([[0.0, 0.0, width, height]])
    assert torch.equal(geometry.from_region(box), box)


@settings(deadline=None, max_examples=100)
@given(sides, sides, st.integers(8, 40), st.integers(0, 20))
def test_a_crop_goes_back_to_where_it_came_from(height, width, crop, more):
    known = Preprocess((crop, crop), crop_from=crop + more)
    geometry = known.geometry((height, width))
    short = min(height, width)
    assert geometry.covers or more > 0 or height != width
    assert not geometry.covers or more == 0
    # Edges of the input, by hand: resized to crop + more, then the middle.
    for axis, side in enumerate((height, width)):
        resized = int((crop + more) * side / short)
        start = round((resized - crop) / 2)
        assert geometry.offset[axis] == pytest.approx(start * side / resized)
        assert geometry.scale[axis] * resized == pytest.approx(side)
    top, left, bottom, right = geometry.region
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
    inner = torch.tensor([[0.0, 0.0, right - left, bottom - top], [1, 2, 3, 4]])
    expected = [[left, top, right, bottom], [left + 1, top + 2, left + 3, top + 4]]
    assert geometry.from_region(inner)[0].tolist() == expected[0]
    assert (geometry.from_region(inner)[1] <= torch.tensor(expected[1])).all()


def marked(height, width, box):
    array = np.zeros((height, width, 3), np.uint8)
    array[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(array)


@settings(deadline=None, max_examples=40)
@given(st.integers(60, 200), st.integers(60, 200), st.booleans(), st.data())
def test_pixels_go_where_the_geometry_says(height, width, crop, data):
    """A white box drawn in the image is found in the input where the geometry says."""
    x0, y0 = data.draw(st.integers(0, width - 30)), data.draw(st.integers(0, height - 30))
    box = (x0, y0, x0 + 30, y0 + 30)
    known = Preprocess((48, 48), (0, 0, 0), (1, 1, 1), crop_from=60 if crop else None)
    white = known(marked(height, width, box))[0] > 0.5
    geometry = known.geometry((height, width))
    for axis, (low, high) in enumerate(((box[1], box[3]), (box[0], box[2]))):
        seen = white.any(1 - axis).nonzero().flatten()
        start, stop = ((edge - geometry.offset[axis]) / geometry.scale[axis] for edge in (low, high))
        start, stop = max(start, 0), min(stop, 48)
        if stop - start < 2 or white.sum() == 0:
            continue
        assert abs(int(seen[0]) - start) <= 1
        assert abs(int(seen[-1]) + 1 - stop) <= 1


# --- recognise ----------------------------------------------------------------------------------------------


def test_presets_become_a_squash_to_their_crop():
    known = recognise(ResNet50_Weights.DEFAULT.transforms())
    assert known == Preprocess((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
    assert recognise(EfficientNet_B0_Weights.DEFAULT.transforms()).interpolation == "bicubic"
    assert recognise(known) is known


@pytest.mark.parametrize(
    "transform",
    [
        lambda image: torch.zeros(3, 8, 8),
        compose(transforms.Resize(40)),  # the size follows the image
        compose(transforms.CenterCrop(30), transforms.Resize((40, 40))),  # in this order it is another geometry
        compose(transforms.Resize(40), transforms.Resize((40, 40))),
        compose(transforms.Resize((40, 40)), transforms.CenterCrop(30)),
        compose(transforms.Resize(40, max_size=50), transforms.CenterCrop(30)),
        compose(transforms.Resize((40, 40), InterpolationMode.BOX)),
        compose(transforms.Resize((40, 40)), transforms.RandomHorizontalFlip()),
        transforms.Compose([transforms.Resize((40, 40)), transforms.ToTensor()]),
        transforms.ToTensor(),
    ],
)
def test_what_is_not_recognised(transform):
    assert recognise(transform) is None


def test_a_list_of_one_number_is_one_number():
    assert recognise(compose(transforms.Resize([40]), transforms.CenterCrop(30))).crop_from == 40


def test_transforms_are_described():
    assert describe_transform(None) is None
    assert describe_transform(Preprocess())["size"] == (224, 224)
    assert "ToTensor" in describe_transform(transforms.ToTensor())


# --- images -------------------------------------------------------------------------------------------------


def test_images_of_all_kinds_give_one_batch(tmp_path):
    image = picture()
    image.save(tmp_path / "a.png")
    array = np.array(image)
    batch = as_batch([tmp_path / "a.png", str(tmp_path / "a.png"), image, array], Preprocess((8, 9)))
    assert batch.tensor.shape == (4, 3, 8, 9)
    assert all(torch.equal(one, batch.tensor[0]) for one in batch.tensor)
    assert batch.geometries == (Geometry((43, 61), (8, 9), (43 / 8, 61 / 9)),) * 4
    assert [one.size for one in batch.pictures] == [(61, 43)] * 4
    assert torch.equal(as_batch(image, Preprocess((8, 9))).tensor, batch.tensor[:1])
    assert read_image(array[:, :, 0]).mode == "RGB"


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    found = np.array(read_image(tmp_path / "deep.png"))
    assert found[0, :, 0].tolist() == list(range(256))
    with pytest.raises(InputError, match="floating point"):
        read_image(Image.fromarray(np.zeros((4, 4), np.float32)))


def test_photos_are_turned_upright_and_labelled_data_are_not(tmp_path):
    image = picture()
    exif = Image.Exif()
    exif[274] = 6  # a phone held upright
    image.save(tmp_path / "phone.png", exif=exif)
    assert read_image(tmp_path / "phone.png").size == (61, 43)
    batch = as_batch(tmp_path / "phone.png", Preprocess((8, 9)))
    assert batch.pictures[0].size == (43, 61)
    assert np.array_equal(np.array(batch.pictures[0]), np.rot90(np.array(image.convert("RGB")), -1))
    ((_, stored),) = stream([tmp_path / "phone.png"], Preprocess((8, 9)))
    assert torch.equal(stored, as_batch(image, Preprocess((8, 9))).tensor)


def test_a_transform_that_fails_is_named():
    with pytest.raises(InputError, match=r"the transform fails on a picture \(ZeroDivisionError"):
        as_batch(picture(), lambda image: 1 / 0)


def test_tensors_stay_as_they_are():
    x = torch.zeros(2, 3, 8, 8)
    batch = as_batch(x, Preprocess())
    assert batch.tensor is x
    assert batch.geometries is None
    assert batch.pictures is None


def test_an_unknown_transform_has_no_geometry():
    assert as_batch(picture(), lambda image: torch.zeros(3, 8, 8)).geometries is None


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"\(2, 8, 8, 3\)"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros(8, np.uint8), r"\(8,\)"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(InputError, match=message + ".* is no picture: give uint8"):
        as_batch(array, Preprocess())


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"a\.png does not exist"):
        read_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png cannot be read: .*cannot identify"):
        read_image(tmp_path / "b.png")
    picture(300, 300).save(tmp_path / "c.png")
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"c\.png cannot be read"):
        read_image(tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as opened, pytest.raises(DataError, match="cannot be decoded"):
        as_batch(opened, Preprocess())
    with pytest.raises(InputError, match="cannot read an image from dict"):
        read_image({})


def test_pictures_need_a_transform(tmp_path):
    picture().save(tmp_path / "a.png")
    with pytest.raises(InputError, match="pictures need a transform, and a bare model has none"):
        explain.cam(nn.Conv2d(3, 4, 3), tmp_path / "a.png")


@pytest.mark.parametrize(
    "transform",
    [
        lambda image: np.zeros((3, 8, 8)),
        lambda image: torch.zeros(8, 8),
        lambda image: torch.zeros(3, 8, 8).byte(),
    ],
)
def test_transforms_that_return_no_image(transform):
    with pytest.raises(InputError, match="the transform returned"):
        as_batch(picture(), transform)


def test_transforms_that_keep_the_images_size():
    pictures = [picture(30, 20), picture(20, 30)]
    with pytest.raises(InputError, match="different sizes"):
        as_batch(pictures, transforms.ToTensor())
    with pytest.raises(InputError, match="different sizes"):
        list(stream(pictures, transforms.ToTensor()))


@pytest.mark.parametrize("start", [0, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_streams_come_in_order(start, batch_size):
    images = [torch.full((1, 2, 2), float(number)) for number in range(5)]
    before = torch.get_rng_state()
    got = list(stream(images, None, batch_size=batch_size, start=start))
    assert torch.equal(torch.get_rng_state(), before)
    assert [number for indices, _ in got for number in indices] == list(range(start, 5))
    assert [float(value) for _, tensor in got for value in tensor[:, 0, 0, 0]] == list(range(start, 5))
    assert all(len(indices) == len(tensor) for indices, tensor in got)


def test_streams_name_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="the model has no transform"):
        list(stream([picture()], None))
    with pytest.raises(DataError, match=r"missing\.png does not exist"):
        list(stream([tmp_path / "missing.png"], Preprocess((8, 8))))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_give_the_same_and_name_errors_in_one_line(tmp_path):
    pictures = [picture(seed=number) for number in range(3)]
    alone = [tensor for _, tensor in stream(pictures, Preprocess((8, 8)), batch_size=2)]
    helped = [tensor for _, tensor in stream(pictures, Preprocess((8, 8)), batch_size=2, workers=1)]
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
    with pytest.raises(DataError) as caught:
        list(stream([tmp_path / "missing.png"], Preprocess((8, 8)), workers=1))
    assert str(caught.value) == f"image {tmp_path / 'missing.png'} does not exist"


def test_suspicion():
    assert "unnormalised (values 0 to 255)" in suspicion(torch.tensor([0.0, 255.0]))
    assert "unnormalised (values 0 to 1)" in suspicion(torch.tensor([0.0, 1.0]))
    assert suspicion(torch.tensor([-2.0, 2.0])) is None
    assert suspicion(torch.tensor([0.5, 3.0])) is None


def test_pictures_are_shown_in_their_own_frame(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    maps = explain.cam(Subject(net, Preprocess((16, 24)), ("a", "b")), [picture(), picture(31, 77)])
    assert maps.frame == "original"
    assert maps.input_size == (16, 24)
    assert maps.geometries[1].original == (77, 31)
    target = maps.save(tmp_path / "deep" / "out.png", 1)
    assert Path(target).stat().st_size > 0
    assert maps._repr_html_().count("<img") == 2
