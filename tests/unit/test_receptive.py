"""Where cells look: traced centres against the pixels that really reach a cell, and maps laid accordingly."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_maps import saliency
from oracles.receptive import aligned, averaging, window
from PIL import Image
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

import explain
from explain.errors import InputError
from explain.localization.boxes import image_maps
from explain.maps import Cells, resize_aligned, resize_maps
from explain.nets.receptive import Centres
from explain.types import Geometry


class Following(TorchFunctionMode):
    def __init__(self, images):
        super().__init__()
        self.centres = Centres()
        self.centres.start(images)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.centres.note(func, args, kwargs, result)
        return result


def cells_of(function, images, grid=None):
    with torch.no_grad(), Following(images) as mode:
        output = function(images)
    return mode.centres.of(output, grid), output


# --- small nets of all kinds --------------------------------------------------------------------------------


pair = st.tuples(st.integers(1, 4), st.integers(1, 4))
step = st.tuples(st.integers(1, 3), st.integers(1, 3))


def mean_conv(kernel, **options):
    net = nn.Conv2d(1, 1, kernel, bias=False, **options).double()
    nn.init.constant_(net.weight, 1 / net.weight.numel())
    return net


@st.composite
def layers(draw):
    kind = draw(st.sampled_from(["conv", "conv", "same", "avg", "pad", "slice", "join", "last"]))
    kernel, stride = draw(pair), draw(step)
    if kind == "conv":
        padding, dilation = draw(st.tuples(*[st.integers(0, 3)] * 2)), draw(st.tuples(*[st.integers(1, 2)] * 2))
        return mean_conv(kernel, stride=stride, padding=padding, dilation=dilation)
    if kind == "same":
        return mean_conv(kernel, padding=draw(st.sampled_from(["same", "valid"])), dilation=draw(st.integers(1, 2)))
    if kind == "avg":
        padding = tuple(min(k // 2, p) for k, p in zip(kernel, draw(step), strict=True))
        chosen = draw(st.sampled_from([None, stride]))
        return lambda x: F.avg_pool2d(x, kernel, chosen, padding)
    if kind == "pad":
        left, right, top, bottom = draw(st.tuples(*[st.integers(-1, 2)] * 4))
        return lambda x: F.pad(x, (left, right, top, bottom))
    if kind == "slice":
        return lambda x: x[..., kernel[0] - 1 :: stride[0], kernel[1] - 1 :: stride[1]]
    if kind == "last":  # channels last, and back
        return lambda x: x.permute(0, 2, 3, 1)[:, 1 :: stride[0], :: stride[1]].transpose(1, 3).swapaxes(2, 3)
    # Two paths of one stride: a wide one, and a narrow one that looks off the wide one's middle, or beyond its edge.
    wide, shift = mean_conv((5, 7), stride=stride, padding=(2, 3)), kernel[0]
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return lambda x: (F.conv2d(F.pad(x, (shift, -shift, 3, -3)), one, stride=stride) + wide(x)) / 2


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(deadline=None, max_examples=120)
@given(st.lists(layers(), min_size=1, max_size=4), st.tuples(st.integers(30, 50), st.integers(30, 50)), st.randoms())
def test_traced_centres_are_the_middles_of_what_cells_see(parts, size, random):
    images = torch.ones(1, 1, *size, dtype=torch.float64)
    try:
        cells, output = cells_of(nn_sequence(parts), images)
    except RuntimeError:  # a map became smaller than a kernel
        assume(False)
    # Mean filters give 1 where no padding was seen: those windows are whole.
    whole = torch.nonzero((output[0, 0] - 1).abs() < 1e-9).tolist()
    assume(whole)
    cell = random.choice(whole)
    top, left, bottom, right = window(nn_sequence(parts), images.shape, cell)
    rows, columns = cells.centres(output.shape[2:])
    assert (float(rows[cell[0]]), float(columns[cell[1]])) == ((top + bottom) / 2, (left + right) / 2)


def nn_sequence(parts):
    def run(images):
        for part in parts:
            images = part(images)
        return images

    return run


def ramp(height, width):
    """An image whose two channels are its pixel centres: y and x."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([y, x])[None].double()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.interpolate(x, (33, 47), mode="bilinear"),
        lambda x: F.interpolate(x, scale_factor=(2.0, 1.5), mode="bilinear", align_corners=False),
        lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
        lambda x: F.interpolate(x, (33, 47), mode="bilinear", align_corners=True),
        lambda x: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)(F.avg_pool2d(x, 3)),
        lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
        lambda x: nn.AdaptiveAvgPool2d(1)(x),
        lambda x: F.pixel_unshuffle(x, 2).unflatten(1, (2, 4)).mean(2),
        lambda x: F.conv_transpose2d(
            x,
            torch.tensor([[0.5, 1, 0.5]], dtype=x.dtype).T.mul(torch.tensor([[0.5, 1, 0.5]])).expand(2, 1, 3, 3),
            stride=2,
            padding=1,
            groups=2,
        ),
        lambda x: F.max_pool2d(x, 3, 2, 1) - 1,  # the largest of a ramp is the last of three
        lambda x: F.max_pool2d(x, 4, return_indices=True)[0] - 1.5,
        lambda x: F.max_pool2d(x, kernel_size=3, stride=2, dilation=2, ceil_mode=True) - 2,
        lambda x: nn.LPPool2d(1, 3, stride=2)(x) / 9,
        lambda x: torch.cat([part.flip(0) for part in x.chunk(2, 1)], 1),
        lambda x: (
            x[:, 0, 3:][:, None].repeat(1, 2, 1, 1) * torch.tensor([1.0, 0])[:, None, None]
            + x[:, 1, 3:].unsqueeze(1) * torch.tensor([0.0, 1])[:, None, None]
        ),
    ],
)
def test_functions_move_the_coordinates_that_they_are_given(function):
    """A picture of coordinates goes through; away from the border, what comes out is where its cells are."""
    images = ramp(20, 30)
    cells, output = cells_of(function, images)
    rows, columns = cells.centres(output.shape[2:])
    inner = tuple(slice(min(2, n // 3), n - min(3, n // 3)) for n in output.shape[2:])
    torch.testing.assert_close(output[0, 0][inner], rows[:, None].expand(output.shape[2:])[inner], atol=1e-6, rtol=0)
    torch.testing.assert_close(output[0, 1][inner], columns.expand(output.shape[2:])[inner], atol=1e-6, rtol=0)


def test_pixel_shuffle_tiles_the_cells_it_came_from():
    cells, _ = cells_of(
        lambda x: F.pixel_shuffle(F.conv2d(x, torch.ones(4, 1, 4, 4), stride=4), 2), torch.ones(1, 1, 8, 8)
    )
    assert cells == Cells((1.0, 1.0), (2.0, 2.0))


# --- what no rule knows --------------------------------------------------------------------------------------


def stem(x, kernel=4):
    return F.conv2d(x, torch.ones(6, x.shape[1], kernel, kernel), stride=4)


def test_a_gate_does_not_move_the_cells():
    for gate in (
        lambda y: F.adaptive_avg_pool2d(y, 1) * y,
        lambda y: y * torch.sigmoid(y.mean((2, 3)))[:, :, None, None],
        lambda y: torch.add(y, y.flatten(1).max()),
        lambda y: y.clone().mul_(2).add_(F.adaptive_avg_pool2d(y, 1)),
    ):
        cells, _ = cells_of(lambda x, gate=gate: gate(stem(x)), torch.ones(2, 3, 16, 24))
        assert cells == Cells((2.0, 2.0), (4.0, 4.0))


def test_tokens_keep_the_cells_of_their_grid():
    def tokens(x):
        y = stem(x).flatten(2).transpose(1, 2)
        y = torch.cat([torch.zeros(len(y), 1, y.shape[2]), y], 1)
        return y + F.scaled_dot_product_attention(y, y, y)

    cells, output = cells_of(tokens, torch.ones(2, 3, 16, 24), (4, 6))
    assert output.shape == (2, 25, 6)
    assert cells == Cells((2.0, 2.0), (4.0, 4.0))
    coarser, _ = cells_of(tokens, torch.ones(2, 3, 16, 24), (2, 3))
    assert coarser == Cells((4.0, 4.0), (8.0, 8.0))
    back = cells_of(lambda x: tokens(x)[:, 1:].reshape(2, 4, 6, 6).permute(0, 3, 1, 2), torch.ones(2, 3, 16, 24))
    assert back[0] == cells


def test_windows_and_back():
    """Shifted windows of a channels-last map, padded to whole windows (Swin), as attention in between sees them."""

    def windows(x):
        y = F.conv2d(x, torch.ones(6, 3, 3, 3), stride=2, padding=1).permute(0, 2, 3, 1)
        z = torch.roll(F.pad(y, (0, 0, 0, 2, 0, 1)), (-1, -1), (1, 2))
        b, h, w, c = z.shape
        z = z.view(b, h // 3, 3, w // 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 9, c)
        z = (z @ z.transpose(1, 2)).softmax(-1) @ z
        z = z.view(b, h // 3, w // 3, 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        z = torch.roll(z, (1, 1), (1, 2))[:, : y.shape[1], : y.shape[2], :].contiguous()
        return y + z

    cells, output = cells_of(windows, torch.ones(2, 3, 16, 20))
    assert output.shape == (2, 8, 10, 6)
    assert cells == Cells((0.5, 0.5), (2.0, 2.0))


def test_a_map_that_was_resized_to_fit_takes_the_cells_of_the_other():
    def decoder(x):
        fine, coarse = F.conv2d(x, torch.ones(1, 1, 3, 3), stride=2, padding=1), F.avg_pool2d(x, 9, 9)
        return torch.cat([F.interpolate(coarse, fine.shape[2:]), fine], 1)

    assert cells_of(decoder, torch.ones(1, 1, 32, 32))[0] == Cells((0.5, 0.5), (2.0, 2.0))


def test_what_is_not_known():
    images = torch.ones(2, 3, 8, 8)
    assert cells_of(lambda x: torch.ones(2, 3, 4, 4) + 1, images)[0] is None
    assert cells_of(lambda x: F.conv2d(torch.ones(2, 3, 4, 4), torch.ones(1, 3, 1, 1)), images)[0] is None
    # Windows in the batch: convolved, it is not known which part of the image a cell sees.
    assert (
        cells_of(
            lambda x: F.avg_pool2d(x.reshape(2, 3, 2, 4, 8).permute(0, 2, 1, 3, 4).reshape(4, 3, 4, 8), 2), images
        )[0]
        is None
    )
    assert cells_of(lambda x: x * 2, torch.ones(2, 3))[0] is None
    centres = Centres()
    centres.note(torch.relu, (images,), None, torch.relu(images))
    assert centres.of(images) is None


def test_a_tensor_can_stand_for_another():
    images, leaf = torch.ones(1, 1, 8, 8), torch.ones(1, 1, 4, 4)
    with torch.no_grad(), Following(images) as mode:
        mode.centres.same(leaf, F.avg_pool2d(images, 2))
        output = F.avg_pool2d(leaf, 2)
    assert mode.centres.of(output) == Cells((2.0, 2.0), (4.0, 4.0))
    mode.centres.same(output, torch.ones(1))
    assert mode.centres.of(output) == Cells((2.0, 2.0), (4.0, 4.0))


def test_no_tensor_is_kept_alive():
    images = torch.ones(1, 3, 8, 8)
    with torch.no_grad(), Following(images) as mode:
        output = torch.relu(images.mul(2)).add(1)
    gc.collect()
    assert len(mode.centres._places) == 2  # the images and the output
    del output
    assert len(mode.centres._places) == 1
    mode.centres.start(torch.ones(1, 3, 4, 4))
    assert mode.centres.of(images) is None


# --- torchvision ---------------------------------------------------------------------------------------------


ZOO = {"mobilenet_v2": "features", "squeezenet1_1": "features", "swin_t": "features"}
SLOW = {
    "resnet18": "layer4",
    "densenet121": "features",
    "googlenet": "inception5b",
    "convnext_tiny": "features",
    "vgg11": "features",
    "shufflenet_v2_x1_0": "conv5",
    "efficientnet_b0": "features",
    "inception_v3": "Mixed_7c",
}
WIDTH = {
    **{"densenet121": 2400, "convnext_tiny": 2200, "googlenet": 1100, "efficientnet_b0": 1100, "inception_v3": 1600},
    **{"mobilenet_v2": 544, "swin_t": 192, "squeezenet1_1": 416},
}


def map_of(net, layer, images):
    """Return the output of a layer; what comes after it is not run."""
    found = []

    class Seen(Exception):
        pass

    def see(module, args, output):
        found.append(output)
        raise Seen

    with net.get_submodule(layer).register_forward_hook(see), pytest.raises(Seen):
        net(images)
    return found[0]


@pytest.mark.parametrize(
    ("name", "layer"),
    [*ZOO.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())],
)
def test_torchvision_cells_look_where_the_pixels_come_from(name, layer):
    build, nhwc = getattr(models, name), name.startswith("swin")
    options = {"init_weights": False} if name in ("googlenet", "inception_v3", "vgg11") else {}
    net = build(weights=None, **options).eval()
    linear = averaging(net)
    net = net.to("meta")
    long = WIDTH.get(name, 640)
    for axis, size in enumerate([(long, 80), (80, long)]):
        cells, output = cells_of(lambda x: map_of(net, layer, x), torch.empty(1, 3, *size, device="meta"))
        grid = output.shape[1:3] if nhwc else output.shape[2:]
        cell = (grid[0] // 2, grid[1] // 2)
        to_map = lambda x: map_of(linear, layer, x).permute(0, 3, 1, 2) if nhwc else map_of(linear, layer, x)  # noqa: E731
        edges = window(to_map, (1, 3, *size), cell)
        low, high = edges[axis], edges[axis + 2]
        assert 0 < low < high < long, "the window must lie inside the input to be measured"
        assert float(cells.centres(grid)[axis][cell[axis]]) == (low + high) / 2


@pytest.mark.parametrize(("size", "shift"), [(224, -15.5), (225, 0.0), (256, -15.5), (257, 0.0)])
def test_mobilenet_is_shifted_by_half_a_cell_at_even_sizes(size, shift):
    """Alsallakh et al. 2021, section 3: a size of 32 n + 1 pads every stride-2 layer on both sides."""
    with torch.device("meta"):
        net = models.mobilenet_v2(weights=None).eval()
    cells, output = cells_of(net.features, torch.empty(1, 3, size, size, device="meta"))
    grid = tuple(output.shape[2:])
    assert cells == Cells((0.5, 0.5), (32.0, 32.0))
    assert cells.shift(grid, (size, size)) == (shift, shift)


# --- maps laid where their cells look --------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(*[st.integers(1, 5)] * 2),
    st.tuples(*[st.integers(1, 20)] * 2),
    st.tuples(*[st.integers(8, 30)] * 2),
    st.tuples(*[st.floats(-5, 12)] * 2),
    st.tuples(*[st.floats(0.5, 9)] * 2),
)
def test_resizing_is_literal(grid, size, input_size, offset, stride):
    plane = np.random.default_rng(0).standard_normal(grid).astype(np.float32)
    found = resize_aligned(torch.from_numpy(plane)[None, None], size, Cells(offset, stride), input_size)
    assert found.shape == (1, 1, *size)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0, 0].numpy(), aligned(plane, size, offset, stride, input_size), atol=2e-5)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(9, 40)] * 2))
def test_cells_that_tile_the_input_give_the_plain_resizing(grid, size, input_size):
    values = torch.randn(2, 3, *grid, generator=torch.Generator().manual_seed(0))
    found = resize_aligned(values, size, Cells.tiling(grid, input_size), input_size)
    torch.testing.assert_close(found, resize_maps(values, size), atol=4e-6, rtol=0)


def test_a_map_comes_out_the_same_alone_and_in_a_batch():
    values, cells = torch.randn(5, 2, 7, 7), Cells((0.5, 3.5), (32.0, 30.0))
    together = resize_aligned(values, (97, 61), cells, (224, 224))
    alone = torch.cat([resize_aligned(values[i : i + 1], (97, 61), cells, (224, 224)) for i in range(5)])
    assert torch.equal(together, alone)


def placed(grid=(4, 4), input_size=(32, 32), offset=0.5, stride=8.0, align="grid", **options):
    values = torch.randn(1, 2, *grid, generator=torch.Generator().manual_seed(1)).numpy()
    maps = saliency(values, size=input_size, **options)
    return replace(maps, cells=Cells((offset, offset), (stride, stride)), align=align)


def test_saliency_is_resized_as_it_says():
    maps = placed()
    assert torch.equal(maps.resized((32, 32)).values, resize_maps(maps.values, (32, 32)))
    looked = maps.resized((32, 32), "receptive-field")
    # Where a cell looks stands its value: pixel 8 i has its centre at 8 i + 0.5.
    assert torch.equal(looked.values[..., ::8, ::8], maps.values)
    assert torch.equal(placed(align="receptive-field").resized((32, 32)).values, looked.values)
    assert torch.equal(placed(align="receptive-field").resized((32, 32), "grid").values, maps.resized((32, 32)).values)
    # Laid once: another resizing moves nothing.
    assert looked.cells == Cells.tiling((32, 32), (32, 32))
    assert torch.equal(looked.resized((32, 32), "receptive-field").values, looked.values)


def test_cells_follow_a_plain_resizing():
    rows, columns = Cells((0.5, 0.5), (8.0, 8.0)).centres((4, 4))
    maps = placed()
    ramps = torch.stack([rows[:, None].expand(4, 4), columns.expand(4, 4)])[None].float()
    resized = replace(maps, values=ramps).resized((12, 20))
    found = resized.cells.centres((12, 20))
    torch.testing.assert_close(resized.values[0, 0, 2:-2, 0].double(), found[0][2:-2], atol=1e-5, rtol=0)
    torch.testing.assert_close(resized.values[0, 1, 0, 3:-3].double(), found[1][3:-3], atol=1e-5, rtol=0)


def test_boxes_lie_where_cells_look():
    values = np.zeros((1, 1, 4, 4))
    values[0, 0, 1, 2] = 1
    maps = replace(saliency(values, size=(32, 32)), cells=Cells((0.5, 0.5), (8.0, 8.0)))
    ((tiled,),) = explain.locate(maps, 0.5)
    ((looked,),) = explain.locate(maps, 0.5, align="receptive-field")
    middle = lambda box: ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)  # noqa: E731
    assert middle(tiled.xyxy[0].tolist()) == (20, 12)
    assert middle(looked.xyxy[0].tolist()) == (16.5, 8.5)
    ((said,),) = explain.locate(replace(maps, align="receptive-field"), 0.5)
    assert said.xyxy.tolist() == looked.xyxy.tolist()
    # In a crop of the middle 64 x 64 of 100 x 80, shown at 32 x 32: two image pixels per input pixel.
    geometry = Geometry((100, 80), (32, 32), (2.0, 2.0), (18.0, 8.0))
    ((crop,),) = explain.locate(replace(maps, geometries=(geometry,)), 0.5, align="receptive-field")
    assert middle(crop.xyxy[0].tolist()) == pytest.approx((8 + 33, 18 + 17), abs=0.51)
    full = image_maps(maps.values[0], geometry, (32, 32), maps.cells)
    assert torch.equal(full, resize_aligned(maps.values, (64, 64), maps.cells, (32, 32))[0])


def test_what_cannot_be_laid():
    maps = saliency(np.eye(2)[None, None])
    assert maps.resized((4, 4)).cells is None
    with pytest.raises(InputError, match="not known where the cells"):
        maps.resized((4, 4), "receptive-field")
    with pytest.raises(InputError, match="unknown alignment 'corner'"):
        maps.resized((4, 4), "corner")
    for size in ((0, 4), (4,)):
        with pytest.raises(InputError, match="cannot resize"):
            resize_aligned(maps.values, size, Cells.tiling((2, 2), (2, 2)), (2, 2))


def test_pictures_follow():
    """A map with one bright cell: the brightest pixels of the overlay lie where that cell looks."""
    from explain.pictures import saliency_overlay

    values = np.zeros((1, 1, 4, 4))
    values[0, 0, 1, 2] = 1
    maps = replace(
        saliency(values, size=(32, 32)),
        cells=Cells((0.5, 0.5), (8.0, 8.0)),
        geometries=(Geometry((64, 64), (32, 32), (2.0, 2.0)),),
        images=(Image.new("RGB", (64, 64)),),
    )

    def brightest(align):
        picture = np.asarray(saliency_overlay(replace(maps, align=align), 0, 0)).sum(-1, dtype=np.int64)
        return tuple(axis.mean() + 0.5 for axis in np.nonzero(picture == picture.max()))

    assert brightest("grid") == (24, 40)
    assert brightest("receptive-field") == (17, 33)


@pytest.mark.parametrize("call", [explain.cam, lambda *a, **k: explain.attribute(*a[:2], "gradcam", **k)])
def test_maps_are_laid_where_their_cells_look_when_asked(call):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
    net = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    images = torch.randn(2, 3, 32, 32)
    maps = call(net, images, align="receptive-field")
    assert maps.align == "receptive-field"
    assert maps.cells == Cells((0.5, 0.5), (4.0, 4.0))
    plain = call(net, images)
    assert plain.cells is None
    assert torch.equal(maps.values, plain.values)
    laid = resize_aligned(plain.values, (32, 32), maps.cells, (32, 32))
    assert torch.equal(maps.resized((32, 32)).values, laid)
    assert not torch.allclose(laid, plain.resized((32, 32)).values)
    grid = explain.nets.anatomy(net, (3, 32, 32)).grid
    assert grid == (8, 8)
    assert (grid.offset, grid.stride) == ((0.5, 0.5), (4.0, 4.0))
    with pytest.raises(InputError, match="unknown alignment 'tiles'"):
        call(net, images, align="tiles")
