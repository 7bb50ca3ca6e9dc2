"""Where the map is, how it lies, and what the head does to it: layouts, folding, tokens, odd networks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import Conv2d, Linear

import explain
from explain.errors import ModelError
from explain.nets import anatomy
from explain.nets.layout import Layout, Seen, layout_of


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- layouts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "image", "kind", "grid", "prefix"),
    [
        ((2, 64, 7, 7), (224, 224), "nchw", (7, 7), 0),
        ((2, 7, 7, 7), (224, 224), "nchw", (7, 7), 0),
        ((2, 7, 7, 768), (224, 224), "nhwc", (7, 7), 0),
        ((2, 7, 14, 384), (224, 448), "nhwc", (7, 14), 0),
        ((2, 384, 14, 7), (448, 224), "nchw", (14, 7), 0),
        ((2, 3, 4, 8), (96, 128), "nhwc", (3, 4), 0),
        ((2, 8, 3, 4), (96, 128), "nchw", (3, 4), 0),
        ((2, 16, 4, 26), (32, 100), "nchw", (4, 26), 0),  # strides that differ: no axis but the last two will do
        ((2, 196, 192), (224, 224), "tokens", (14, 14), 0),
        ((2, 197, 192), (224, 224), "tokens", (14, 14), 1),
        ((2, 198, 192), (224, 224), "tokens", (14, 14), 2),
        ((2, 261, 384), (224, 224), "tokens", (16, 16), 5),
        ((2, 25, 64), (96, 64), "tokens", (6, 4), 1),
        ((2, 141, 64), (224, 160), "tokens", (14, 10), 1),
        ((2, 1213, 64), (128, 1024), "tokens", (12, 101), 1),  # a spectrogram
    ],
)
def test_layouts(shape, image, kind, grid, prefix):
    found = layout_of(shape, image)
    channels = shape[1] if kind == "nchw" else shape[-1]
    assert found == Layout(kind, grid, channels, prefix)
    value = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    feature_map = found.to_map(value)
    assert feature_map.shape == (shape[0], channels, *grid)
    back = found.from_map(feature_map, value)
    assert torch.equal(back, value)
    y, x = grid[0] - 1, 1
    literal = {
        "nchw": lambda: value[1, :, y, x],
        "nhwc": lambda: value[1, y, x],
        "tokens": lambda: value[1, prefix + y * grid[1] + x],
    }[kind]()
    assert torch.equal(feature_map[1, :, y, x], literal)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((2, 512), (224, 224)),
        ((2, 512, 1, 1), (224, 224)),
        ((2, 512, 7, 1), (224, 224)),
        ((2, 32, 1), (64, 64)),  # pooled channels: 32 is no grid of 5 x 6
        ((2, 46, 16), (64, 64)),
        ((2, 3, 64), (224, 224)),
        ((2, 210, 64), (224, 224)),
        ((2, 4, 8, 8, 8), (64, 64)),
    ],
)
def test_what_is_no_map(shape, image):
    assert layout_of(shape, image) is None
    assert layout_of(shape, image, batch=3) is None


def test_other_batches_are_no_maps_of_the_images():
    assert layout_of((8, 49, 96), (56, 56), batch=2) is None  # windows of Swin
    assert layout_of((50, 2, 64), (224, 224), batch=2) is None  # tokens first


def test_a_forward_pass_settles_what_shapes_leave_open():
    seen = Seen((224, 224), 2)
    assert seen.note((2, 192, 14, 14)).grid == (14, 14)
    assert seen.note((2, 197, 192)) == Layout("tokens", (14, 14), 192, 1)
    for shape in [(2, 3, 197, 64), (2, 197, 3, 64), (2, 3, 197, 197), (2, 3, 64, 197)]:  # queries, attention
        assert seen.note(shape) is None
    assert seen.note((2, 65, 32)) is None  # 65 pooled or merged tokens are no 8 x 8 grid of this network
    assert seen.note((2, 49, 384)) == Layout("tokens", (7, 7), 384)  # patches merged two by two
    assert seen.note((2, 384, 7, 7)).kind == "nchw"
    small = Seen((128, 128), 2)
    small.note((2, 192, 8, 8))
    small.note((2, 65, 192))
    assert small.note((2, 3, 65, 64)) is None  # as square as the image, and no map
    few = Seen((32, 32), 1)
    few.note((1, 8, 2, 2))
    assert few.note((1, 9, 8)) == Layout("tokens", (2, 2), 8, 5)  # registers: not a grid of 3 x 3


# --- folding ------------------------------------------------------------------------------------------------


class Pooled(nn.Module):
    """A trunk, and what is done to its map."""

    def __init__(self, head, channels=6, **parts):
        super().__init__()
        self.trunk, self.head = Conv2d(3, channels, 3, 2), head
        for name, part in parts.items():
            setattr(self, name, part)
        self.fc = Linear(channels, 4)

    def forward(self, x):
        return self.head(self, self.trunk(x))


def made(head, **parts):
    torch.manual_seed(0)
    model = Pooled(head, **parts).eval()
    with torch.no_grad():
        for part in parts.values():
            for parameter in part.parameters():
                parameter.copy_(noise(*parameter.shape, seed=5))
    return model


X = noise(3, 3, 16, 16)
MEAN = lambda f: f.mean((2, 3))  # noqa: E731

FOLDED = {
    "LayerNorm": made(lambda m, f: m.fc(m.norm(MEAN(f))), norm=nn.LayerNorm(6, eps=1e-3)),
    "LayerNorm without weights": made(lambda m, f: m.fc(F.layer_norm(MEAN(f), (6,)))),
    "LayerNorm on 1 x 1": made(
        lambda m, f: m.fc(m.norm(F.adaptive_avg_pool2d(f, 1).permute(0, 2, 3, 1)).flatten(1)), norm=nn.LayerNorm(6)
    ),
    "GroupNorm": made(lambda m, f: m.fc(m.norm(MEAN(f))), norm=nn.GroupNorm(2, 6)),
    "GroupNorm on 1 x 1": made(
        lambda m, f: m.fc(m.norm(F.adaptive_avg_pool2d(f, 1)).flatten(1)), norm=nn.GroupNorm(3, 6)
    ),
    "RMSNorm": made(lambda m, f: m.fc(m.norm(MEAN(f))), norm=nn.RMSNorm(6)),
    "two norms": made(
        lambda m, f: m.fc(m.second(m.norm(MEAN(f)))), norm=nn.LayerNorm(6), second=nn.LayerNorm(6, bias=False)
    ),
}


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("images", [X, X[:1]])
def test_norms_between_pooling_and_linear_are_folded(name, images):
    model = FOLDED[name]
    maps = explain.cam(model, images, [0, 1, 2, 3])
    assert maps.exact
    assert maps.residual < 1e-6
    logits = model(images).detach()
    deviation = (maps.values.mean((2, 3)) + maps.constants - logits).abs().amax(1) / logits.abs().amax(1)
    assert float(deviation.max()) < 1e-6
    parts = anatomy(model, images=images)
    assert parts.probe.folded
    assert "own statistics" in parts.reason


def test_folding_is_the_formula_of_the_reference():
    """``M_c(p) = sum_k W_ck gamma_k (A_k(p) - mean_j A_j(p)) / sigma``, ``const_c = sum_k W_ck beta_k + b_c``."""
    model = FOLDED["LayerNorm"]
    maps = explain.cam(model, X, [2, 0])
    feature_map = model.trunk(X).detach().double()
    weight, bias = model.fc.weight.detach().double(), model.fc.bias.detach().double()
    gamma, beta = model.norm.weight.detach().double(), model.norm.bias.detach().double()
    for i in range(3):  # each image has statistics of its own
        pooled = feature_map[i].mean((1, 2))
        sigma = math.sqrt(float(((pooled - pooled.mean()) ** 2).mean()) + 1e-3)
        for k, c in enumerate([2, 0]):
            plane = torch.zeros(7, 7, dtype=torch.float64)
            for y in range(7):
                for x in range(7):
                    centred = feature_map[i, :, y, x] - feature_map[i, :, y, x].mean()
                    plane[y, x] = sum(float(weight[c, j] * gamma[j] * centred[j]) for j in range(6)) / sigma
            torch.testing.assert_close(maps.values[i, k].double(), plane, rtol=1e-5, atol=1e-6)
            constant = sum(float(weight[c, j] * beta[j]) for j in range(6)) + float(bias[c])
            assert float(maps.constants[i, k]) == pytest.approx(constant, rel=1e-5)


def test_chunks_of_folded_maps_equal_one_batch():
    model = FOLDED["LayerNorm"]
    whole, parts = explain.cam(model, X, "top2"), explain.cam(model, X, "top2", batch_size=1)
    torch.testing.assert_close(parts.values, whole.values)
    torch.testing.assert_close(parts.constants, whole.constants)


def test_gradient_methods_do_not_fold():
    """A LayerNorm's own derivative is Grad-CAM's; folding is for class activation maps."""
    model = FOLDED["LayerNorm"]
    maps = explain.attribute(model, X, "gradcam", [1])
    a = model.trunk(X).detach().requires_grad_()
    (g,) = torch.autograd.grad(model.head(model, a)[:, 1].sum(), a)
    expected = (g.mean((2, 3), keepdim=True) * a.detach()).sum(1, keepdim=True).relu()
    torch.testing.assert_close(maps.values, expected, rtol=1e-4, atol=1e-7)
    assert not maps.exact


@pytest.mark.parametrize(
    "head",
    [
        lambda m, f: m.fc(m.norm(MEAN(f)).relu()),
        lambda m, f: m.fc(m.norm(f.amax((2, 3)))),
        lambda m, f: m.fc(m.norm(MEAN(f))).softmax(1),
        lambda m, f: m.fc(m.norm(MEAN(f.permute(0, 2, 3, 1).permute(0, 3, 1, 2) ** 2))),
    ],
)
def test_heads_that_folding_does_not_make_affine(head):
    model = made(head, norm=nn.LayerNorm(6))
    parts = anatomy(model, images=X)
    if parts.exact:  # the square is then the map
        assert parts.layer != "trunk"
    else:
        assert not parts.probe.folded
        with pytest.raises(ModelError, match="no exact class activation map"):
            explain.cam(model, X)


# --- tokens -------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = Linear(width, 3 * width), Linear(width, width)
        self.q_norm = nn.Identity()
        self.mlp = nn.Sequential(Linear(width, 2 * width), nn.GELU(), Linear(2 * width, width))

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.q_norm(k), v)
        x = x + self.proj(mixed.transpose(1, 2).reshape(b, n, c))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A small vision transformer as timm writes it."""

    def __init__(self, read, prefix=1, size=(24, 16), patch=4, width=8, classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.patch = Conv2d(3, width, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, prefix, width)) if prefix else None
        count = size[0] // patch * (size[1] // patch)
        self.position = nn.Parameter(torch.randn(1, prefix + count, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.fc_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc, self.both, self.read = Linear(width, classes), Linear(2 * width, classes), read
        self.eval()

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        if self.prefix is not None:
            tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1)
        return self.read(self, self.blocks(tokens + self.position))


IMAGES = noise(2, 3, 24, 16)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(
    "read",
    [
        lambda m, t: m.fc(m.norm(t)[:, t.shape[1] - 24 :].mean(1)),
        lambda m, t: m.fc(m.fc_norm(t[:, t.shape[1] - 24 :].mean(1))),
    ],
    ids=["norm, mean", "mean, norm"],
)
def test_mean_pooled_tokens_are_exact(prefix, read):
    model = Transformer(read, prefix)
    maps = explain.cam(model, IMAGES, [0, 1, 2, 3])
    assert maps.layer in ("norm", "blocks")
    assert maps.values.shape == (2, 4, 6, 4)
    assert maps.residual < 1e-5
    logits = model(IMAGES).detach()
    torch.testing.assert_close(maps.values.mean((2, 3)) + maps.constants, logits, rtol=1e-4, atol=1e-5)
    for size in (1, 2):
        torch.testing.assert_close(explain.cam(model, IMAGES, [0, 1, 2, 3], batch_size=size).values, maps.values)


def class_token(m, t):
    return m.fc(m.norm(t)[:, 0])


def check_token_gradients(model, maps, layer, prefix, classes):
    """Grad-CAM without its ReLU by plain autograd on a hook's output."""
    kept = {}

    def keep(module, args, output):
        kept["value"] = output.detach().requires_grad_()
        return kept["value"].clone()

    handle = model.get_submodule(layer).register_forward_hook(keep)
    logits = model(IMAGES)
    handle.remove()
    for k, c in enumerate(classes):
        (g,) = torch.autograd.grad(logits[:, c].sum(), kept["value"], retain_graph=True)
        a, g = (value.detach()[:, prefix:].transpose(1, 2).unflatten(2, (6, 4)) for value in (kept["value"], g))
        expected = (g.mean((2, 3), keepdim=True) * a).sum(1)
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(maps.values[:, k], expected, rtol=1e-4, atol=1e-6)


def signed(a, g):
    return torch.einsum("bkc,bchw->bkhw", g.mean((3, 4)), a)


@pytest.mark.parametrize("prefix", [1, 3])
def test_a_class_token_is_explained_before_the_last_attention(prefix):
    model = Transformer(class_token, prefix)
    parts = anatomy(model, images=IMAGES)
    assert (parts.layer, parts.grid, parts.channels) == ("blocks.1.norm1", (6, 4), 8)
    assert not parts.exact
    assert "it reads the class token" in parts.reason
    with pytest.raises(ModelError, match="class token"):
        explain.cam(model, IMAGES)
    maps = explain.attribute(model, IMAGES, signed, [0, 3])
    named = explain.attribute(model, IMAGES, signed, [0, 3], layer="blocks.1.norm1")
    assert maps.layer == named.layer == "blocks.1.norm1"
    torch.testing.assert_close(maps.values, named.values, rtol=1e-4, atol=1e-6)
    check_token_gradients(model, maps, "blocks.1.norm1", prefix, [0, 3])
    assert explain.attribute(model, IMAGES, "auto", 0).method == "gradcam"


def test_patch_tokens_count_there_and_not_at_the_blocks_output():
    model = Transformer(class_token)

    def changed(layer):
        def change(module, args, output):
            output = output.clone()
            output[:, 5] += 1
            return output

        handle = model.get_submodule(layer).register_forward_hook(change)
        logits = model(IMAGES).detach()
        handle.remove()
        return float((logits - model(IMAGES).detach()).abs().max())

    assert changed("blocks.1.norm1") > 1e-4
    assert changed("blocks.1") == 0
    maps = explain.attribute(model, IMAGES, "hirescam", 0, layer="blocks.1")
    assert torch.equal(maps.values, torch.zeros_like(maps.values))


def test_a_head_of_zeros_does_not_hide_the_tokens():
    model = Transformer(class_token)
    nn.init.zeros_(model.fc.weight)
    maps = explain.attribute(model, IMAGES, "gradcam", 0)
    assert maps.layer == "blocks.1.norm1"
    assert torch.equal(maps.values, torch.zeros(2, 1, 6, 4))


def first_and_mean(t):
    return torch.cat([t[:, 0], t[:, 1:].mean(1)], 1)


def test_a_head_that_reads_class_token_and_patch_mean():
    model = Transformer(lambda m, t: m.both(first_and_mean(m.norm(t))))
    parts = anatomy(model, images=IMAGES)
    assert not parts.exact
    assert "it reads the class token" in parts.reason
    assert parts.grid == (6, 4)
    maps = explain.attribute(model, IMAGES, signed, [1, 2])
    assert maps.layer == parts.layer


@pytest.mark.parametrize(
    ("layer", "shape"), [("blocks.0.q_norm", r"\(2, 2, 25, 4\)"), ("blocks.0.mlp.0", None), ("patch", None)]
)
def test_named_layers_of_a_transformer(layer, shape):
    model = Transformer(class_token)
    if shape is not None:
        for method in ("gradcam", "scorecam"):
            with pytest.raises(ModelError, match=f"gives a tensor of shape {shape}.*no map"):
                explain.attribute(model, IMAGES, method, 0, layer=layer)
        return
    maps = explain.attribute(model, IMAGES, signed, [0, 3], layer=layer)
    assert maps.values.shape == (2, 2, 6, 4)
    if layer != "patch":
        check_token_gradients(model, maps, layer, 1, [0, 3])


def test_attention_pooling():
    class Attended(Transformer):
        def __init__(self):
            super().__init__(lambda m, t: m.fc(m.attended(m.norm(t))), prefix=0)
            self.score = Linear(8, 1)

        def attended(self, t):
            return (t * self.score(t).softmax(1)).sum(1)

    parts = anatomy(Attended(), images=IMAGES)
    assert (parts.layer, parts.grid, parts.exact) == ("norm", (6, 4), False)
    assert "not affine" in parts.reason


def test_a_map_that_is_made_and_not_read_is_passed_over():
    """Hugging Face's Swin also returns its last tokens as a map; its logits come from the tokens."""

    class Aside(Transformer):
        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            tokens = self.norm(self.blocks(tokens + self.position))
            self.aside = tokens.transpose(1, 2).reshape(len(x), -1, 6, 4).contiguous()
            return self.fc(tokens.mean(1))

    model = Aside(None, prefix=0)
    maps = explain.cam(model, IMAGES, "top4")
    assert (maps.layer, maps.exact) == ("norm", True)
    assert maps.values.shape == (2, 4, 6, 4)


def test_what_is_computed_beside_the_logits_does_not_count():
    """SigLIP also pools by attention, and classifies by the mean."""

    class Beside(Transformer):
        def __init__(self):
            super().__init__(None, prefix=0)
            self.pool = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            tokens = self.norm(self.blocks(self.patch(x).flatten(2).transpose(1, 2) + self.position))
            self.pooled = self.pool(self.position[:, :1].repeat(len(x), 1, 1), tokens, tokens)[0]
            return self.fc(tokens.mean(1))

    maps = explain.cam(Beside().eval(), IMAGES, "top4")
    assert (maps.layer, maps.exact) == ("norm", True)


def test_tokens_that_are_no_grid_are_refused():
    class Latents(Transformer):
        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)[:, :19]
            return self.fc(self.norm(self.blocks(tokens))[:, 0])

    found = anatomy(Latents(class_token), images=IMAGES)
    assert found.layer == "patch"  # the last grid that there is
    with pytest.raises(ModelError, match=r"layer 'norm' gives a tensor of shape \(2, 19, 8\)"):
        explain.attribute(Latents(class_token), IMAGES, "gradcam", 0, layer="norm")


class ChannelsLast(nn.Module):
    """A stage with channels last, as timm's Swin returns it."""

    def __init__(self, head):
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.mix, self.norm = Conv2d(3, 8, 4, 4), Linear(8, 8), nn.LayerNorm(8)
        self.fc, self.head = Linear(8, 4), head
        self.eval()

    def forward(self, x):
        x = self.patch(x).permute(0, 2, 3, 1)
        return self.head(self, self.norm(x + self.mix(x).tanh()))


def test_channels_last():
    model = ChannelsLast(lambda m, x: m.fc(x.mean((1, 2))))
    maps = explain.cam(model, IMAGES, [0, 1, 2, 3])
    assert maps.layer == "norm"
    by_position = F.linear(kept_norm(model), model.fc.weight)
    torch.testing.assert_close(maps.values, by_position.permute(0, 3, 1, 2).detach(), rtol=1e-4, atol=1e-6)
    named = explain.attribute(model, IMAGES, signed, [0, 1, 2, 3], layer="norm")
    torch.testing.assert_close(named.values * 24, maps.values, rtol=1e-4, atol=1e-6)


def kept_norm(model):
    x = model.patch(IMAGES).permute(0, 2, 3, 1)
    return model.norm(x + model.mix(x).tanh())


# --- odd networks -------------------------------------------------------------------------------------------


def test_auxiliary_heads_are_passed_over():
    class Aux(Pooled):
        def forward(self, x):
            early = self.trunk(x)
            aux = self.aux(early.mean((2, 3)))
            return {"logits": self.fc(self.last(early).mean((2, 3))), "aux": aux}

    torch.manual_seed(0)
    model = Aux(None, aux=Linear(6, 4), last=Conv2d(6, 6, 3)).eval()
    assert explain.cam(model, X).layer == "last"
    other = explain.cam(model, X, [0, 1], output="aux")  # asked for the other head, its own map is found
    assert other.layer == "trunk"
    expected = torch.einsum("kc,bchw->bkhw", model.aux.weight[:2], model.trunk(X)).detach()
    torch.testing.assert_close(other.values, expected, rtol=1e-4, atol=1e-6)


def test_shared_modules_called_twice():
    class Twice(Pooled):
        def forward(self, x):
            x = self.act(self.trunk(x))
            return self.fc(self.act(self.more(x) - 0.1).mean((2, 3)))

    torch.manual_seed(0)
    model = Twice(None, act=nn.ReLU(), more=Conv2d(6, 6, 3)).eval()
    default = explain.attribute(model, X, signed, [0, 1])
    named = explain.attribute(model, X, signed, [0, 1], layer="act")
    assert default.layer == named.layer == "act"
    torch.testing.assert_close(default.values, named.values, rtol=1e-4, atol=1e-7)
    assert named.values.shape == (3, 2, 5, 5)  # the last call
    assert explain.attribute(model, X, "scorecam", [0, 1], layer="act").values.shape == (3, 2, 5, 5)
    assert explain.attribute(model, X, "ablationcam", [0, 1], layer="act").values.shape == (3, 2, 5, 5)


@pytest.mark.parametrize("method", [signed, "ablationcam"])
def test_one_image_and_many_agree(method):
    for model, images in ((Transformer(class_token), IMAGES), (FOLDED["LayerNorm"], X)):
        whole = explain.attribute(model, images, method, [0, 2])
        single = [explain.attribute(model, images[i : i + 1], method, [0, 2]).values for i in range(len(images))]
        torch.testing.assert_close(torch.cat(single), whole.values, rtol=1e-3, atol=1e-5)


def test_frozen_parameters():
    for model, images in ((Transformer(class_token), IMAGES), (FOLDED["LayerNorm"], X)):
        expected = explain.attribute(model, images, signed, [0, 2]).values
        model.requires_grad_(False)
        with torch.inference_mode():
            assert torch.equal(explain.attribute(model, images, signed, [0, 2]).values, expected)
        assert not any(parameter.requires_grad for parameter in model.parameters())
        model.requires_grad_(True)


def test_maps_of_several_stages_stay_at_the_last():
    class Pyramid(Pooled):
        def forward(self, x):
            early = self.trunk(x)
            return self.both(torch.cat([early.mean((2, 3)), self.last(early).mean((2, 3))], 1))

    torch.manual_seed(0)
    model = Pyramid(None, last=Conv2d(6, 6, 3), both=Linear(12, 4)).eval()
    parts = anatomy(model, images=X)
    assert (parts.layer, parts.exact) == ("last", False)
    assert "earlier maps" in parts.reason
    maps = explain.attribute(model, X, signed, [0, 1])
    named = explain.attribute(model, X, signed, [0, 1], layer="last")
    torch.testing.assert_close(maps.values, named.values, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (lambda m, f: m.fc(F.dropout(MEAN(f), 0.5, True)), "gives other logits when it is run again"),
        (lambda m, f: written_from_outside(m.fc(MEAN(f))), "gives other logits when it is run again"),
    ],
)
def test_heads_that_cannot_be_run_again_are_refused(head, message):
    model = made(head)
    with pytest.raises(ModelError, match=message):
        explain.attribute(model, X, "gradcam", 0)


def written_from_outside(logits):
    logits.detach().numpy()[:] = logits.detach().numpy() * 2 + 1  # torch sees nothing of this
    return logits


@pytest.mark.parametrize(
    "head",
    [
        lambda m, f: assigned(m.fc(MEAN(f))),
        lambda m, f: torch.stack([m.fc(row.mean((1, 2)).relu()) for row in f]),
        lambda m, f: m.fc(F.adaptive_avg_pool2d(f, 1).flatten(1).mul_(2).relu()),
        lambda m, f: m.fc(halves(MEAN(f))),
    ],
    ids=["setitem", "image by image", "in place", "in place on a view"],
)
def test_ways_to_write_a_head(head):
    model = made(head)
    maps = explain.attribute(model, X, signed, [0, 1, 2, 3])
    a = model.trunk(X).detach().requires_grad_()
    logits = head(model, a.clone())
    for c in range(4):
        (g,) = torch.autograd.grad(logits[:, c].sum(), a, retain_graph=True)
        expected = (g.mean((2, 3), keepdim=True) * a.detach()).sum(1)
        torch.testing.assert_close(maps.values[:, c], expected, rtol=1e-4, atol=1e-7)


def assigned(logits):
    logits[:, 0] = 0
    logits[:, 1] *= 3
    return logits


def halves(pooled):
    pooled[:, :3].mul_(5)
    return pooled.relu()


# --- other people's networks --------------------------------------------------------------------------------


def filled(model):
    """Random statistics, and no head of zeros or nearly so."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear) and float(module.weight.abs().max()) < 0.2:
                nn.init.normal_(module.weight, std=0.05)
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2)
                module.running_mean.normal_()
    return model.eval()


TIMM = [
    ("vit_tiny_patch16_224", {"img_size": (96, 64)}, (96, 64), "blocks.11.norm1", (6, 4), "class token"),
    ("vit_tiny_patch16_224", {"img_size": 64, "global_pool": "avg"}, (64, 64), "norm", (4, 4), None),
    ("vit_tiny_patch16_224", {"img_size": 64, "global_pool": "map"}, (64, 64), "norm", (4, 4), "not affine"),
    ("deit_tiny_distilled_patch16_224", {"img_size": 64}, (64, 64), "blocks.11.norm1", (4, 4), "class token"),
    ("swin_tiny_patch4_window7_224", {"img_size": 64, "depths": (1, 1, 1, 1)}, (64, 64), "norm", (2, 2), None),
    ("convnext_atto", {}, (64, 64), "norm_pre", (2, 2), None),
    ("resnet18", {}, (64, 96), "layer4", (2, 3), None),
    ("mobilenetv3_small_050", {}, (64, 64), "blocks", (2, 2), "not affine"),
]


@pytest.mark.parametrize(("name", "settings", "size", "layer", "grid", "reason"), TIMM)
def test_timm(name, settings, size, layer, grid, reason):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    check_found(filled(timm.create_model(name, num_classes=10, **settings)), size, layer, grid, reason)


def check_found(model, size, layer, grid, reason):
    images = noise(2, 3, *size)
    logits = model(images)
    logits = getattr(logits, "logits", logits).detach()
    maps = explain.attribute(model, images, "auto", "top2")
    assert (maps.layer, tuple(maps.values.shape[2:])) == (layer, grid)
    torch.testing.assert_close(maps.scores, logits.topk(2).values, rtol=1e-4, atol=1e-5)
    assert maps.exact == (reason is None)
    if reason is None:
        deviation = (maps.values.mean((2, 3)) + maps.constants - maps.scores).abs().max()
        assert float(deviation / logits.abs().max()) < 1e-5
        return
    assert reason in anatomy(model, images=images).reason
    default, named = (explain.attribute(model, images, signed, [0, 1], layer=at) for at in (None, layer))
    assert float(named.values.abs().max()) > 0
    torch.testing.assert_close(default.values, named.values, rtol=1e-3, atol=1e-4 * float(named.values.abs().max()))


VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
    "num_labels": 5,
}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 5}
SWIN = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1],
    "num_heads": [1, 2, 2],
    "window_size": 4,
    "num_labels": 5,
}
HUGGING_FACE = [
    ("ViT", {**VIT, "intermediate_size": 32}, "vit.layers.1.layernorm_before", (8, 8), "class token"),
    ("Dinov2", VIT, "dinov2.layernorm", (8, 8), "class token"),
    ("Dinov2WithRegisters", VIT, "dinov2_with_registers.layernorm", (8, 8), "class token"),
    ("Beit", {**VIT, "intermediate_size": 32}, "beit.layernorm", (8, 8), None),
    ("Swin", SWIN, "swin.layernorm", (4, 4), None),
    ("Swinv2", SWIN, "swinv2.layernorm", (4, 4), None),
    ("ConvNext", STAGES, "convnext.encoder.stages.3", (2, 2), None),
    ("ResNet", {**STAGES, "embedding_size": 8}, "resnet.encoder.stages.3", (2, 2), None),
]


@pytest.mark.parametrize(("name", "settings", "layer", "grid", "reason"), HUGGING_FACE)
def test_hugging_face(name, settings, layer, grid, reason):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings)
    model = filled(getattr(transformers, f"{name}ForImageClassification")(config))
    if layer not in dict(model.named_modules()):
        layer = layer.replace(".layers.", ".encoder.layer.")  # before transformers 5
    check_found(model, (64, 64), layer, grid, reason)
