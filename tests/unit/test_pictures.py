from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from explain.errors import DataError, InputError
from explain.pictures import (
    as_img_tag,
    as_picture,
    box_of,
    colorize,
    compare,
    draw_boxes,
    grid,
    overlay,
    panel,
    saliency_overlay,
    saliency_picture,
    shared_scale,
)
from explain.types import Geometry, Saliency


def light(colors):
    return colors.astype(float) @ [0.2126, 0.7152, 0.0722]


def saliency(values, **fields):
    k = values.shape[1]
    shape = (len(values), k)
    return Saliency(
        values=values,
        classes=torch.arange(k).expand(shape),
        scores=torch.ones(shape),
        probabilities=torch.full(shape, 0.5),
        constants=torch.zeros(shape),
        exact=True,
        residual=1e-7,
        method="cam",
        layer="layer4",
        input_size=(64, 96),
        **fields,
    )


def peak():
    values = torch.full((1, 2, 4, 6), -1.0)
    values[0, 0, 1:3, 2:4] = 5.0
    return values


def photo(width=120, height=80, color=(200, 200, 200)):
    return Image.new("RGB", (width, height), color)


def test_colours_get_lighter_along_the_scale_in_both_directions():
    values = np.linspace(-1, 1, 201)[None]
    lightness = light(colorize(values)[0])
    assert (np.diff(lightness[100:]) >= -1).all()
    assert (np.diff(lightness[:101]) <= 1).all()
    assert lightness[100] < 5  # zero is dark


def test_signs_have_different_hues_on_one_scale():
    colors = colorize(np.array([[-0.5, 0.5, 1.0]])).astype(int)
    assert colors[0, 0, 2] > colors[0, 0, 0]  # against: blue
    assert colors[0, 1, 0] > colors[0, 1, 2]  # for: warm
    assert light(colors)[0, 2] > light(colors)[0, 1]


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0, np.nan, np.inf])
def test_a_flat_map_gives_one_colour(value):
    colors = colorize(torch.full((3, 4), value))
    assert colors.shape == (3, 4, 3)
    assert colors.dtype == np.uint8
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) == 1


def test_a_given_scale_is_kept():
    assert np.array_equal(colorize(np.array([[1.0, 2.0]]), 0.0, 2.0)[0, 1], colorize(np.array([[0.0, 1.0]]))[0, 1])


def test_a_map_without_two_dimensions_is_refused():
    with pytest.raises(InputError, match="two dimensions"):
        colorize(np.zeros((1, 2, 3)))


def test_overlay_mixes_and_leaves_alone_what_the_map_does_not_cover():
    values = np.zeros((80, 120), dtype=np.float32)
    values[:, :60] = np.nan
    pixels = np.asarray(overlay(photo(), values, alpha=0.5))
    assert (pixels[:, :60] == 200).all()
    assert (pixels[:, 60:, 0] == 100).all()
    assert overlay(photo(), torch.rand(3, 3)).size == (120, 80)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [((slice(3, 4), slice(4, 5)), (4, 3, 5, 4)), ((slice(1, 3), slice(2, 6)), (2, 1, 6, 3))],
)
def test_box_of_is_half_open(cell, expected):
    values = np.zeros((5, 7), dtype=np.float32)
    values[cell] = 2.0
    assert box_of(values) == expected
    assert box_of(torch.from_numpy(values)) == expected


def test_the_threshold_is_strict_and_relative():
    values = np.array([[1.0, 0.2, 0.0], [0.0, 0.0, 0.0]])
    assert box_of(values) == (0, 0, 1, 1)
    assert box_of(values, 0.1) == (0, 0, 2, 1)
    assert box_of(values * 1e-30) == (0, 0, 1, 1)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_map_without_a_positive_maximum_has_no_box(value):
    assert box_of(np.full((4, 4), value)) is None


def test_draw_boxes_marks_the_first_and_last_pixel_and_keeps_the_original():
    before = photo(40, 40, (0, 0, 0))
    drawn = np.asarray(draw_boxes(before, [(10, 5, 20, 15)], [(255, 0, 0)]))
    assert (drawn[5, 10] == (255, 0, 0)).all()
    assert (drawn[14, 19] == (255, 0, 0)).all()
    assert not (drawn[15, 20] == (255, 0, 0)).all()
    assert not np.asarray(before).any()


def test_boxes_have_labels():
    boxes = [(10, 5, 90, 70)]
    plain, labelled = draw_boxes(photo(), boxes), draw_boxes(photo(), boxes, labels=["two\nlines"])
    assert np.any(np.asarray(plain) != np.asarray(labelled))


def test_grid_has_a_place_for_each_picture():
    sheet = grid([photo(30, 20)] * 5, columns=3, labels=["<b>", "long " * 40, "", "قطة", "x"])
    assert sheet.width > 3 * 30
    assert sheet.height > 2 * 20
    with pytest.raises(InputError):
        grid([], 2)


def test_tensors_without_pictures_show_the_maps_alone():
    picture = saliency_picture(saliency(peak()))
    with_photo = saliency_picture(saliency(peak(), images=(photo(),)))
    assert picture.mode == "RGB"
    assert with_photo.width > picture.width


def test_the_box_can_be_left_out():
    maps = saliency(peak(), images=(photo(),), names=("a cat " * 30, "<dog>"))
    assert np.any(np.asarray(maps.picture()) != np.asarray(maps.picture(boxes=False)))


def test_a_crop_shows_the_map_only_where_the_network_looked():
    crop = Geometry((80, 120), (32, 32), (1.25, 1.25), (20.0, 40.0))  # 40 x 40 pixels at (40, 20)
    maps = saliency(torch.zeros(1, 1, 4, 4), images=(photo(),), geometries=(crop,))
    pixels = np.asarray(maps.picture(boxes=False))
    untouched = (pixels == 200).all(axis=2).sum()
    squash = Geometry((80, 120), (32, 32), (2.5, 3.75))
    full = np.asarray(replace(maps, geometries=(squash,)).picture(boxes=False))
    panel = (full == 200).all(axis=2).sum()  # the photo's own panel
    assert untouched == pytest.approx(panel * (2 - 40 * 40 / (80 * 120)), rel=0.02)


def test_a_crop_that_reaches_beyond_the_image():
    beyond = Geometry((80, 120), (100, 100), (2.0, 2.0), (-60.0, -40.0))
    assert saliency(peak(), images=(photo(),), geometries=(beyond,)).picture().width > 0


@pytest.mark.parametrize("value", [0.0, -3.0, 3.0])
def test_flat_maps_have_a_picture(value):
    assert saliency(torch.full((2, 1, 3, 3), value)).picture(1).width > 0


def test_an_index_beyond_the_result_is_refused():
    with pytest.raises(InputError, match=r"no image 3: the result has 1 image"):
        saliency(peak()).picture(3)


def test_save_and_notebook(tmp_path):
    maps = saliency(peak(), images=(photo(),))
    assert maps.save(tmp_path / "new" / "out.png").stat().st_size > 0
    assert maps._repr_html_().count("<img ") == 1


def test_img_tag_carries_the_picture_and_escapes_its_text():
    tag = as_img_tag(photo(), alt='a "quote" <b>')
    assert re.fullmatch(r'<img src="data:image/webp;base64,[\w+/=]+" width="120" height="80" alt="[^"<>]*" .*>', tag)


def test_an_overlay_has_the_photos_proportions_and_no_frame():
    photo = Image.new("RGB", (300, 200), (40, 40, 40))
    geometry = Geometry((200, 300), (64, 96), (200 / 64, 300 / 96))
    result = saliency(peak(), images=(photo,), geometries=(geometry,))
    picture = saliency_overlay(result, 0, 0, longest=150)
    assert picture.size == (150, 100)
    bright = light(np.asarray(picture))
    assert np.unravel_index(bright.argmax(), bright.shape)[0] in range(20, 80)
    with pytest.raises(InputError, match="tensors have no photo"):
        saliency_overlay(saliency(peak()), 0, 0)


def test_a_preprocessed_tensor_is_shown_in_the_photos_colours():
    pixels = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    made = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    shown = torch.from_numpy(np.array(as_picture(made, mean, std))).permute(2, 0, 1)
    assert (shown - pixels * 255).abs().max() <= 0.51
    spread = np.array(as_picture(made))  # without mean and std: from the least to the largest value
    assert (spread.min(), spread.max()) == (0, 255)
    order = made.permute(1, 2, 0).flatten().argsort()
    assert (np.diff(spread.reshape(-1)[order].astype(int)) >= 0).all()
    with pytest.raises(InputError, match="belong together"):
        as_picture(made, mean)
    with pytest.raises(InputError, match="2 and 3 values for 3 channels"):
        as_picture(made, mean[:2], std)


@pytest.mark.parametrize("value", [0.0, -3.0, float("nan"), float("inf")])
def test_a_flat_tensor_has_a_picture(value):
    assert as_picture(torch.full((3, 4, 5), value)).size == (5, 4)


def test_pictures_from_all_that_images_are_given_as(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    turned = Image.fromarray(array)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    for given in (array, torch.from_numpy(array).permute(2, 0, 1), Image.fromarray(array), tmp_path / "a.png"):
        assert np.array_equal(np.asarray(as_picture(given)), array)
    assert as_picture(tmp_path / "turned.png").size == (6, 9)
    grey = np.asarray(as_picture(torch.rand(1, 6, 9)))
    assert (grey[..., 0] == grey[..., 2]).all()
    assert np.asarray(as_picture(torch.rand(5, 6, 9))).shape == (6, 9, 3)
    assert as_picture(array[..., 0]).mode == "RGB"
    for wrong in (array.astype(float), torch.rand(2, 3, 4, 4), 3):
        with pytest.raises(InputError, match="no picture"):
            as_picture(wrong)
    with pytest.raises(DataError, match="does not exist"):
        as_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match="cannot be read"):
        overlay(tmp_path / "text.png", torch.rand(3, 3))


def test_an_overlay_lies_on_a_tensor_too():
    image = torch.rand(3, 8, 12)
    over = overlay(image, torch.rand(2, 3), alpha=0)
    assert np.array_equal(np.asarray(over), np.asarray(as_picture(image)))


def test_a_panel_has_title_and_bar_and_its_size_is_that_of_the_picture():
    bare, titled = panel(photo()), panel(photo(), "long " * 40, " 1.23", (-1.0, 4.0), [(10, 10, 50, 40)])
    assert bare.size == titled.size
    assert bare.width == 120
    bar = np.asarray(titled).astype(int)[26 + 80 + 6 + 3]
    zero = round(120 * 1 / 5)
    assert light(bar)[zero - 2 : zero + 2].max() < 20  # zero is dark
    assert light(bar)[-1] > 200  # the end of the scale is bright
    assert light(bar)[0] > light(bar)[zero]
    assert bar[0, 2] > bar[0, 0]  # against: blue


def test_compare_has_a_row_for_each_result_and_a_column_for_each_class():
    one = saliency(peak(), images=(photo(),))
    fewer = replace(saliency(peak()[:, :1]), method="gradcam", exact=False, residual=float("nan"), images=(photo(),))
    single, both = compare([one]), compare([one, fewer])
    assert both.width == single.width
    assert both.height == 2 * single.height
    top = np.asarray(both)[: single.height]
    assert np.array_equal(top, np.asarray(single))
    assert np.array_equal(np.asarray(single), np.asarray(one.picture()))
    third = both.width // 3
    below = np.asarray(both)[single.height : 2 * single.height - 24]
    assert (below[:, : third - 10] == 255).all()  # the photo is shown once
    assert (below[:, 2 * third + 10 :] == 255).all()  # no second class
    assert not (below[:, third : 2 * third] == 255).all()
    for wrong in ([], [one, saliency(torch.zeros(2, 1, 3, 3))]):
        with pytest.raises(InputError, match="same images"):
            compare(wrong)


def test_maps_of_tensors_lie_over_the_tensor_that_is_given():
    maps = saliency(peak())
    image = torch.rand(3, 64, 96)
    over, alone = saliency_picture(maps, image=image), saliency_picture(maps)
    assert over.width > alone.width
    assert saliency_overlay(maps, 0, 1, image=image).size == (96, 64)
    assert compare([maps, maps], image=image).width == over.width


def test_maps_on_a_shared_scale_can_be_compared_by_their_colours():
    values = peak()
    values[0, 1, 1:3, 2:4] = 2.5  # half of the first
    values[0, 1, 0, 0] = float("nan")
    maps, image = saliency(values), torch.zeros(3, 64, 96)
    assert shared_scale(maps, 0) == (-1.0, 5.0)
    assert shared_scale(saliency(torch.full((1, 1, 2, 2), 3.0)), 0) == (0.0, 3.0)
    assert shared_scale(saliency(torch.full((1, 1, 2, 2), float("nan"))), 0) == (0.0, 0.0)
    own, shared = (
        [light(np.asarray(saliency_overlay(maps, 0, rank, image=image, scale=scale))).max() for rank in (0, 1)]
        for scale in (None, shared_scale(maps, 0))
    )
    assert own[0] == own[1]
    assert shared[0] == own[0]
    assert shared[1] < 0.8 * shared[0]


def test_known_boxes_are_drawn_instead_of_found_ones():
    maps = saliency(peak(), images=(photo(),))
    found = [box_of(maps.resized((80, 120)).values[0, k]) for k in range(2)]
    assert np.array_equal(np.asarray(saliency_picture(maps, boxes=found)), np.asarray(saliency_picture(maps)))
    assert np.array_equal(
        np.asarray(saliency_picture(maps, boxes=[None, None])), np.asarray(saliency_picture(maps, boxes=False))
    )


def test_a_result_that_is_not_exact_says_so_without_a_residual(monkeypatch):
    import explain.pictures as pictures

    notes = []
    monkeypatch.setattr(pictures, "stacked", lambda parts: notes.append(parts[0][0]))
    saliency_picture(replace(saliency(peak()), exact=False, residual=float("nan"), method="gradcam"))
    saliency_picture(saliency(peak()))
    assert notes == ["gradcam at layer4: not exact", "cam at layer4: exact, residual 1.0e-07"]
