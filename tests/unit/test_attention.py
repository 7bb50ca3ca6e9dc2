from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.attention import Transformer, legrad_map, rollout_eq1
from torch import nn
from torchvision.models import VisionTransformer

from explain.errors import InputError, ModelError
from explain.saliency.attending import check_attention
from explain.saliency.attention import legrad, recorded_attention, rollout


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def vit(layers=3, classes=5, size=32):
    """torchvision's transformer; its head is zero at first, and maps of it would be too."""
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=size, patch_size=8, num_layers=layers, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=classes
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


@pytest.fixture(scope="module")
def net():
    return vit()


IMAGES = noise(2, 3, 32, 32)


def tokens_of(model, images):
    """The tokens that the first layer gets."""
    found = []
    hook = model.encoder.layers[0].register_forward_pre_hook(lambda module, args: found.append(args[0]))
    with torch.no_grad():
        model(images)
    hook.remove()
    return found[0]


def literal(model):
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    return Transformer(state, len(model.encoder.layers), 2)


# --- what is recorded, against a transformer in numpy ---------------------------------------------------------


def test_attention_of_torchvisions_vit_is_recorded(net):
    with torch.no_grad(), recorded_attention() as maps:
        logits = net(IMAGES)
    torch.testing.assert_close(logits, net(IMAGES))
    assert [tuple(a.shape) for a in maps] == [(2, 2, 17, 17)] * 3
    tokens = tokens_of(net, IMAGES)
    for b in range(2):
        theirs, scores = literal(net).run(tokens[b].numpy())
        np.testing.assert_allclose(scores, logits[b].numpy(), rtol=1e-9)
        for layer in range(3):
            np.testing.assert_allclose(maps[layer][b].numpy(), theirs[layer], rtol=1e-9)


def test_derivatives_reach_the_recorded_attention(net):
    with recorded_attention() as maps:
        logits = net(IMAGES)
    gradients = torch.autograd.grad(logits[:, 1].sum(), maps)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


def test_derivatives_exist_for_a_frozen_network():
    model = vit(2)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with recorded_attention() as maps:
        logits = model(IMAGES)
    gradients = torch.autograd.grad(logits[:, 1].sum(), maps)
    with recorded_attention() as theirs:
        logits = vit(2)(IMAGES)
    for ours, expected in zip(gradients, torch.autograd.grad(logits[:, 1].sum(), theirs), strict=True):
        torch.testing.assert_close(ours, expected)


def test_what_is_kept_can_be_chosen(net):
    with torch.no_grad(), recorded_attention(lambda a: a.mean(1)) as fused, recorded_attention() as maps:
        net(IMAGES)
    assert [tuple(a.shape) for a in fused] == [(2, 17, 17)] * 3
    torch.testing.assert_close(rollout(fused, prefix=1, grid=(4, 4)), rollout(maps, prefix=1, grid=(4, 4)))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 8), (5, 8)])
@pytest.mark.parametrize("masked", [None, "bool", "float", "heads"])
def test_multihead_attention_gives_what_it_gave(need_weights, batch_first, shape, masked):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 4, batch_first=batch_first, bias=masked is None).double().eval()
    x = noise(*shape)
    tokens = 5 if batch_first or len(shape) == 2 else 2
    batch = x.numel() // 8 // tokens
    mask = {
        None: None,
        "bool": torch.ones(tokens, tokens, dtype=torch.bool).triu(1),
        "float": noise(tokens, tokens, seed=1),
        "heads": noise(batch * 4, tokens, tokens, seed=1),
    }[masked]
    expected, weights = layer(x, x, x, need_weights=True, attn_mask=mask, average_attn_weights=False)
    with recorded_attention() as maps:
        output, given = layer(x, x, x, need_weights=need_weights, attn_mask=mask)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(maps[0], weights if len(shape) == 3 else weights[None])
    assert (given is None) != need_weights
    if need_weights:
        torch.testing.assert_close(given, weights.mean(-3))


def test_a_boolean_mask_of_the_function_says_what_is_not_attended_to():
    """The module turns boolean masks into numbers before it calls the function."""
    layer, x = nn.MultiheadAttention(8, 2).double().eval(), noise(5, 2, 8)
    parts = (
        layer.in_proj_weight,
        layer.in_proj_bias,
        None,
        None,
        False,
        0.0,
        layer.out_proj.weight,
        layer.out_proj.bias,
    )
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected, _ = F.multi_head_attention_forward(x, x, x, 8, 2, *parts, attn_mask=mask)
    with recorded_attention() as maps:
        output, _ = F.multi_head_attention_forward(x, x, x, 8, 2, *parts, attn_mask=mask)
    torch.testing.assert_close(output, expected)
    assert not maps[0][..., mask].any()


def test_multihead_attention_with_keys_and_values_of_their_own_size():
    layer = nn.MultiheadAttention(8, 2, kdim=6, vdim=3, batch_first=True).double().eval()
    query, key, value = noise(2, 4, 8), noise(2, 7, 6), noise(2, 7, 3)
    expected, weights = layer(query, key, value, average_attn_weights=False)
    with recorded_attention() as maps:
        output, _ = layer(query, key, value)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(maps[0], weights)


def test_the_fast_path_of_an_encoder_layer_is_recorded():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True).double().eval()
    x = noise(2, 5, 8)
    with torch.no_grad():
        expected = layer(x)  # in the fused kernel
        with recorded_attention() as maps:
            output = layer(x)
    torch.testing.assert_close(output, expected)
    assert [tuple(a.shape) for a in maps] == [(2, 2, 5, 5)]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([(2, 4, 5, 3), (2, 5, 3), (5, 3)]),
    st.sampled_from([None, "causal", "bool", "float", "batch"]),
    st.sampled_from([None, 0.3]),
    st.booleans(),
)
def test_scaled_dot_product_attention_gives_what_it_gave(shape, masked, scale, grouped):
    query, key, value = (noise(*shape, seed=seed) for seed in range(3))
    if grouped and len(shape) == 4:
        key, value = key[:, ::2], value[:, ::2]
    mask = {
        "bool": (noise(5, 5, seed=3) > 0) | torch.eye(5, dtype=torch.bool),
        "float": noise(5, 5, seed=3),
        "batch": noise(*shape[:-3], *([1] if len(shape) == 4 else []), 5, 5, seed=3)
        if len(shape) == 4
        else noise(*shape[:-2], 5, 5, seed=3),
    }.get(masked)
    options = {
        "attn_mask": mask,
        "is_causal": masked == "causal",
        "scale": scale,
        "enable_gqa": key.shape != query.shape,
    }
    expected = F.scaled_dot_product_attention(query, key, value, **options)
    with recorded_attention() as maps:
        output = F.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones_like(maps[0][..., 0]))


def test_only_a_softmax_over_keys_is_attention():
    x = noise(2, 3, 5, 5)
    with recorded_attention() as maps:
        x.softmax(1), x[:, 0].softmax(-1), x[..., :4].softmax(-1), F.softmax(x, dim=2)
        assert not maps
        shown = [x.softmax(-1), torch.softmax(x, 3), F.softmax(x, dim=-1), F.softmax(x, dim=-1, dtype=torch.float64)]
    assert len(maps) == 4 and all(a is b for a, b in zip(maps, shown, strict=True))


def test_half_precision():
    query, key, value = (noise(1, 2, 6, 8, seed=seed, dtype=torch.bfloat16) for seed in range(3))
    with recorded_attention() as maps:
        output = F.scaled_dot_product_attention(query, key, value)
    assert output.dtype == maps[0].dtype == torch.bfloat16
    expected = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(output, expected, rtol=0.02, atol=0.02)
    assert rollout(maps, prefix=0, grid=(2, 3)).dtype == torch.float32


@pytest.mark.parametrize("kind", ["timm", "timm eager", "sdpa", "eager"])
def test_attention_of_other_libraries_is_recorded(kind):
    torch.manual_seed(0)
    images = noise(2, 3, 32, 32, dtype=torch.float32)
    if kind.startswith("timm"):
        timm = pytest.importorskip("timm")
        model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3, num_classes=5).eval()
        for block in model.blocks:
            block.attn.fused_attn = kind == "timm"
    else:
        transformers = pytest.importorskip("transformers")
        config = transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=32,
            patch_size=8, num_labels=5, attn_implementation=kind,
        )  # fmt: skip
        model = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)

    def run():
        output = model(images)
        return getattr(output, "logits", output)[:, :2]

    with torch.no_grad(), recorded_attention() as maps:
        logits = run()
        torch.testing.assert_close(logits, run(), rtol=1e-4, atol=1e-4)
        maps = maps[:3]
    heads = 3 if kind.startswith("timm") else 2
    assert [tuple(a.shape) for a in maps] == [(2, heads, 17, 17)] * 3
    assert rollout(maps, prefix=1, grid=(4, 4)).shape == (2, 4, 4)
    found = legrad(model, run, prefix=1)
    assert found.shape == (2, 2, 16) and float(found.min()) >= 0 and bool((found.amax(2) > 0).all())


# --- rollout ------------------------------------------------------------------------------------------------


def test_rollout_is_equation_1(net):
    with torch.no_grad(), recorded_attention() as maps:
        net(IMAGES)
    ours = rollout(maps, prefix=1, grid=(4, 4))
    for b in range(2):
        theirs = rollout_eq1([a[b].numpy() for a in maps])
        np.testing.assert_allclose(ours[b].numpy(), theirs[0, 1:].reshape(4, 4), rtol=1e-10)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(0, 2), st.sampled_from(["mean", "max", "min"]))
def test_rollout_shares_out_one(seed, layers, prefix, fusion):
    """Rows stay distributions: what the image's tokens do not get, the tokens before them do."""
    n = prefix + 6
    maps = [noise(2, 3, n, n, seed=seed + layer).softmax(-1) for layer in range(layers)]
    found = rollout(maps, prefix=prefix, grid=(2, 3), head_fusion=fusion)
    assert found.shape == (2, 2, 3) and float(found.min()) >= 0
    total = found.sum((1, 2))
    assert bool((total <= 1 + 1e-9).all())
    if prefix == 0:
        torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))
    if fusion == "mean" and prefix == 0:
        flows = np.stack([rollout_eq1([a[b].numpy() for a in maps]).mean(0) for b in range(2)])
        np.testing.assert_allclose(found.flatten(1).numpy(), flows, rtol=1e-9)


def test_attention_to_one_token_rolls_out_there():
    attention = torch.zeros(1, 1, 5, 5)
    attention[..., 3] = 1
    (found,) = rollout([attention, attention], prefix=1, grid=(2, 2))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [0.75, 0.0]]))  # 1/4 stays with the class token


# --- LeGrad -------------------------------------------------------------------------------------------------


def test_legrad_is_the_papers():
    model, images = vit(2, size=16), IMAGES[..., :16, :16]
    ours = legrad(model, lambda: model(images)[:, [3, 0]], prefix=1)
    assert ours.shape == (2, 2, 4) and not ours.requires_grad
    tokens = tokens_of(model, images)
    for b, k, which in ((0, 0, 3), (1, 1, 0)):
        theirs = legrad_map(literal(model), tokens[b].numpy(), which)
        np.testing.assert_allclose(ours[b, k].numpy(), theirs[1:], rtol=1e-5, atol=1e-9)
        assert theirs[1:].max() > 0


def test_legrad_of_the_last_layers(net):
    def run():
        return net(IMAGES)[:, :2]

    whole = legrad(net, run)
    assert whole.shape == (2, 2, 17)
    torch.testing.assert_close(legrad(net, run, prefix=1), whole[..., 1:])
    torch.testing.assert_close(legrad(net, run, last=3), whole)
    one, two = legrad(net, run, last=1), legrad(net, run, last=2)
    assert not torch.allclose(one, two) and not torch.allclose(two, whole)


def test_legrad_is_scaled_by_the_scores_scale_alone(net):
    plain = legrad(net, lambda: net(IMAGES)[:, :2])
    for scale in (1e-10, 1e10):
        found = legrad(net, lambda s=scale: net(IMAGES)[:, :2] * s)
        torch.testing.assert_close(found / scale, plain)


def test_the_graph_reaches_no_further_than_one_layer(net):
    """Memory is that of one layer's graph, however deep the network is."""
    linked = []
    hook = net.encoder.layers[2].register_forward_pre_hook(
        lambda module, args: linked.append(args[0].requires_grad) if torch.is_grad_enabled() else None
    )
    legrad(net, lambda: net(IMAGES)[:, :1])
    hook.remove()
    assert linked == [False]


class Pooled(nn.Module):
    """A transformer that pools by the mean of its tokens; blocks return tuples where ``pair``."""

    def __init__(self, pair=False, heads=2):
        super().__init__()
        self.pair = pair
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.blocks = nn.ModuleList(Block(heads, pair) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)[0] if self.pair else block(x)
        return self.head(self.norm(x).mean(1))


class SelfAttention(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, heads, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    def __init__(self, heads, pair):
        super().__init__()
        self.pair = pair
        self.attention = SelfAttention(heads)
        self.dropout = nn.Dropout(0.5)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU())

    def forward(self, x):
        x = x + self.dropout(self.attention(x))
        x = x + self.mlp(x)
        return (x, None) if self.pair else x


def test_pooling_by_the_mean_and_blocks_that_return_tuples():
    torch.manual_seed(0)
    model = Pooled().double().eval()
    plain = legrad(model, lambda: model(IMAGES))
    assert plain.shape == (2, 3, 16) and float(plain.max()) > 0
    model.pair = model.blocks[0].pair = model.blocks[1].pair = True
    torch.testing.assert_close(legrad(model, lambda: model(IMAGES)), plain)
    for block in model.blocks:  # a list inside a layer is no list of layers
        block.attention = nn.Sequential(block.attention)
    torch.testing.assert_close(legrad(model, lambda: model(IMAGES)), plain)


def test_the_model_comes_back_as_it_was():
    torch.manual_seed(0)
    model = Pooled().train()
    model.blocks[0].eval()
    images = IMAGES.float()
    model(images).sum().backward()
    model.head.weight.requires_grad_(False)

    def state():
        return (
            [m.training for m in model.modules()],
            [(p.requires_grad, p.grad.tolist()) for p in model.parameters()],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
        )

    before = state()
    with torch.no_grad():
        first = legrad(model, lambda: model(images))
    with torch.inference_mode():
        second = legrad(model, lambda: model(images))
    torch.testing.assert_close(second, first)  # no dropout
    calls = 0

    def failing():
        nonlocal calls
        calls += 1
        output = model(images)
        if calls == 2:
            raise ValueError("on purpose")
        return output

    with pytest.raises(ValueError, match="on purpose"):
        legrad(model, failing)
    assert state() == before


def test_other_threads_are_not_watched(net):
    expected = legrad(net, lambda: net(IMAGES)[:, :1])
    found = [None] * 4

    def work(place):
        row = IMAGES[place % 2 :][:1]
        for _ in range(2):
            found[place] = legrad(net, lambda: net(row)[:, :1])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(torch.cat(found[:2]), expected)
    torch.testing.assert_close(torch.cat(found[2:]), expected)


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["swin_t", "maxvit_t"])
def test_attention_in_windows_is_refused(name):
    from torchvision import models

    if name == "swin_t":
        model = models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4], num_classes=3).eval()
    else:
        model = models.MaxVit((64, 64), 8, 2, [8, 8], [1, 1], 4, 0.0, num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), recorded_attention() as maps:
        model(images)
    with pytest.raises(ModelError, match="in windows"):
        rollout(maps, prefix=0, grid=(4, 4))
    with pytest.raises(ModelError, match="in windows"):
        legrad(model, lambda: model(images))


class Alone(nn.Module):
    """Attention that is no layer of its own."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0].mean(1)


def test_what_is_no_transformer_is_refused(net):
    conv = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    with pytest.raises(ModelError, match="no attention was seen"):
        legrad(conv, lambda: conv(IMAGES))
    alone, x = Alone(), torch.randn(2, 4, 3)
    with pytest.raises(ModelError, match="no layer of its own"):
        legrad(alone, lambda: alone(x))
    with pytest.raises(ModelError, match="do not come from the output of layer"):
        legrad(net, lambda: (net(IMAGES), IMAGES.mean((2, 3)))[1])
    with pytest.raises(ModelError, match=r"needs \(b, k\)"):
        legrad(net, lambda: net(IMAGES).sum())
    with pytest.raises(ModelError, match="pooling query"):
        check_attention([torch.rand(2, 3, 1, 5)])
    with pytest.raises(ModelError, match="no attention was seen"):
        rollout([], prefix=0, grid=(1, 1))
    with pytest.raises(ModelError, match="17 tokens are not 0 and a grid of 4 x 4"):
        rollout([torch.rand(1, 1, 17, 17)], prefix=0, grid=(4, 4))
    with pytest.raises(InputError, match="unknown head_fusion"):
        rollout([torch.rand(1, 1, 4, 4)], prefix=0, grid=(2, 2), head_fusion="median")
    for options in ({"last": 0}, {"last": 4}, {"prefix": 17}, {"prefix": -1}):
        with pytest.raises(InputError, match=next(iter(options))):
            legrad(net, lambda: net(IMAGES), **options)


def test_options_that_cannot_be_computed_explicitly_are_refused():
    x = noise(2, 5, 8)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True).double()
    with recorded_attention(), pytest.raises(ModelError, match="bias_k, bias_v"):
        layer(x, x, x)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, add_zero_attn=True).double()
    with recorded_attention(), pytest.raises(ModelError, match="add_zero_attn"):
        layer(x, x, x)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.5).double()
    with recorded_attention(), pytest.raises(ModelError, match="drops out at random"):
        layer(x, x, x)
