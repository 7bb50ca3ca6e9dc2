from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import AdaptiveAvgPool2d, Conv2d, Flatten, Linear, ReLU, Sequential

import explain
from explain.errors import InputError
from explain.maps import Cells, resize_maps
from explain.nets.inputs import Batch
from explain.saliency.augment import View, augmented, merge_maps, views
from explain.types import Geometry


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Sequential(Conv2d(3, 5, 3, 2), ReLU(), Conv2d(5, 6, 3), AdaptiveAvgPool2d(1), Flatten(), Linear(6, 4)).eval()


def ramps(batch, height, width):
    """Pictures whose value is the position: channel 0 the row, channel 1 the column, of pixel centres, 0…1."""
    rows = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    columns = ((torch.arange(width) + 0.5) / width)[None].expand(height, width)
    return torch.stack([rows, columns])[None].expand(batch, 2, height, width)


def seen_maps(images, kind, **options):
    return [list(part) for part in zip(*views(images, kind, **options), strict=True)]


# --- views ------------------------------------------------------------------------------------------------


def test_flips():
    images = noise(2, 3, 5, 7)
    (plain, first), (mirrored, second) = views(images, "flip")
    assert plain == View() and mirrored == View(flipped=True)
    assert torch.equal(first, images)
    assert torch.equal(second, images.flip(3))


def test_scales_are_sizes():
    images = noise(1, 3, 20, 30)
    sizes = [tuple(pictures.shape[2:]) for _, pictures in views(images, "scales", scales=(1, 0.5, 1.5))]
    assert sizes == [(20, 30), (10, 15), (30, 45)]
    assert all(view == View() for view, _ in views(images, "scales"))


@pytest.mark.parametrize("size", [(28, 28), (21, 35), (224, 224)])
def test_ten_crops_are_torchvisions(size):
    from torchvision.transforms.functional import resize, ten_crop

    images = noise(1, 2, *size)
    height, width = (side + 2 * round(side * 16 / 224) for side in size)
    assert size != (224, 224) or (height, width) == (256, 256)
    theirs = ten_crop(resize(images, [height, width], antialias=False), list(size))
    ours = [pictures for _, pictures in views(images, "tencrop")]
    assert len(ours) == 10
    for crop in theirs:
        assert any(torch.allclose(crop, other, atol=1e-6) for other in ours)
    assert tuple(ours[0].shape) == tuple(images.shape)


# --- back into the frame of the input -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flip", "scales", "tencrop"])
def test_pictures_come_back_to_where_they_were(kind):
    """Pictures of positions, taken for maps, give positions; but for the constant rim of half a cell."""
    images = ramps(2, 56, 84)
    merged = merge_maps(*seen_maps(images, kind), grid=(56, 84))
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(merged[inner], images[inner], atol=5e-3, rtol=0)  # a quarter of a pixel


def test_a_crop_in_a_corner_is_laid_there():
    view = View((0.5, 0.25), (0.5, 0.5))
    whole = torch.zeros(1, 1, 4, 4)
    merged = merge_maps([View(), view], [whole, torch.tensor([[[[2.0, 4.0], [6.0, 8.0]]]])])
    expected = torch.zeros(4, 4)
    expected[2:, 1:3] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # means with the zeros of the whole view
    torch.testing.assert_close(merged[0, 0], expected)
    mirrored = merge_maps(
        [View(), dataclasses.replace(view, flipped=True)], [whole, torch.tensor([[[[4.0, 2.0], [8.0, 6.0]]]])]
    )
    torch.testing.assert_close(mirrored, merged)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 15), st.integers(1, 15), st.integers(0, 1000))
def test_a_single_view_is_resized(height, width, rows, columns, seed):
    values = noise(2, 3, height, width, seed=seed)
    merged = merge_maps([View()], [values], grid=(rows, columns))
    torch.testing.assert_close(merged, resize_maps(values, (rows, columns)), atol=1e-5, rtol=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(-5, 5), st.sampled_from(["flip", "scales", "tencrop"]))
def test_flat_maps_stay_flat(height, width, value, kind):
    seen = [view for view, _ in views(torch.zeros(1, 1, 32, 32), kind)]
    merged = merge_maps(seen, [torch.full((1, 2, height, width), value)] * len(seen))
    torch.testing.assert_close(merged, torch.full_like(merged, value), atol=1e-5, rtol=1e-5)


def test_the_grid_is_that_of_the_finest_map():
    seen = [View(), View((0.0, 0.0), (0.875, 0.5))]
    assert merge_maps(seen, [torch.zeros(1, 1, 7, 7)] * 2).shape == (1, 1, 8, 14)
    assert merge_maps(seen, [torch.zeros(1, 1, 7, 7)] * 2, grid=(3, 2)).shape == (1, 1, 3, 2)


# --- whole results ---------------------------------------------------------------------------------------------


def explainer(net, asked=None, classes="top2"):
    def explain_views(batch, chosen):
        if asked is not None:
            asked.append((batch, chosen))
        return explain.cam(net, batch.tensor, classes if chosen is None else chosen)

    return explain_views


def test_the_mean_of_flips_is_exact(net):
    images = noise(3, 3, 21, 25)
    found = augmented(Batch(images, None, None), "flip", explainer(net))
    logits = torch.stack([net(images), net(images.flip(3))]).mean(0).detach()
    assert torch.equal(found.classes, net(images).topk(2).indices)
    torch.testing.assert_close(found.scores, logits.gather(1, found.classes))
    torch.testing.assert_close(found.values.mean((2, 3)) + found.constants, found.scores)
    assert found.exact and found.residual < 1e-5
    one, other = explain.cam(net, images, found.classes), explain.cam(net, images.flip(3), found.classes)
    torch.testing.assert_close(found.values, (one.values + other.values.flip(3)) / 2)
    torch.testing.assert_close(found.probabilities, (one.probabilities + other.probabilities) / 2)
    assert not torch.allclose(one.values, found.values, atol=1e-3)


def test_a_mirrored_image_has_the_mirrored_map(net):
    images = noise(1, 3, 21, 25)
    for kind in ("flip", "tencrop"):
        found = augmented(Batch(images, None, None), kind, explainer(net, classes=[1]))
        other = augmented(Batch(images.flip(3), None, None), kind, explainer(net, classes=[1]))
        torch.testing.assert_close(found.values, other.values.flip(3))


@pytest.mark.parametrize(("kind", "calls"), [("flip", 2), ("scales", 3), ("tencrop", 10)])
def test_classes_are_those_of_the_first_view(net, kind, calls):
    images, asked = noise(2, 3, 28, 28), []
    found = augmented(Batch(images, None, None), kind, explainer(net, asked))
    assert len(asked) == calls
    assert asked[0][1] is None
    assert all(torch.equal(chosen, found.classes) for _, chosen in asked[1:])
    scores = torch.stack([net(batch.tensor).detach().gather(1, found.classes) for batch, _ in asked]).mean(0)
    torch.testing.assert_close(found.scores, scores)
    assert found.exact == (kind == "flip")
    assert found.input_size == (28, 28)


def test_results_are_in_the_frame_of_the_images(net):
    images = noise(1, 3, 28, 28)
    geometries = (Geometry((56, 84), (28, 28), (2.0, 3.0)),)
    asked = []
    found = augmented(Batch(images, geometries, ("picture",)), "tencrop", explainer(net, asked))
    assert found.geometries == geometries and found.images == ("picture",)
    assert all(batch.geometries is None for batch, _ in asked)
    base = explain.cam(net, images)
    assert found.values.shape[2] > base.values.shape[2]  # 7/8 of the image on as many cells


def test_cells_of_flips_are_symmetric(net):
    images = noise(1, 3, 28, 28)

    def explain_views(batch, chosen):
        return dataclasses.replace(explain.cam(net, batch.tensor, [0]), cells=Cells((1.0, 2.0), (2.0, 2.0)))

    found = augmented(Batch(images, None, None), "flip", explain_views)
    columns = found.values.shape[3]
    assert found.cells.offset[0] == 1.0
    first, last = found.cells.offset[1], found.cells.offset[1] + 2.0 * (columns - 1)
    assert first == pytest.approx(28 - last)
    assert augmented(Batch(images, None, None), "scales", explain_views).cells is None


def test_functions_of_the_output_are_asked_for_each_view(net):
    asked = []

    def explain_views(batch, chosen):
        asked.append(chosen)
        found = explain.cam(net, batch.tensor, [0])
        return dataclasses.replace(found, classes=torch.full_like(found.classes, -1))

    augmented(Batch(noise(1, 3, 28, 28), None, None), "flip", explain_views)
    assert asked == [None, None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: views(torch.zeros(1, 3, 8, 8), "flips"), "unknown augmentation 'flips'; near: flip"),
        (lambda: views(torch.zeros(3, 8, 8), "flip"), "images of shape"),
        (lambda: views(torch.zeros(1, 3, 8, 8), "scales", scales=()), "scales="),
        (lambda: views(torch.zeros(1, 3, 8, 8), "scales", scales=(1, 0.01)), "scales="),
        (lambda: merge_maps([View()], []), "0 maps for 1 views"),
        (lambda: merge_maps([View(), View()], [torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 2, 2)]), "same images"),
        (lambda: merge_maps([View((0, 0), (0.5, 0.5))], [torch.zeros(1, 1, 2, 2)]), "shown by no view"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
