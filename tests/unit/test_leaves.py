"""Modules that the recorder does not look into: it foretells that they give a map, and misses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _len_torch_function_stack
from torchvision import models

from explain.nets import record
from explain.nets.leaves import gives_map, is_spatial
from explain.nets.record import recording
from explain.nets.trace import trace

sizes = st.integers(1, 9)
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=300, deadline=None)
@given(
    sizes, sizes, st.sampled_from(["conv", "max", "average"]), pairs, pairs, st.tuples(*[st.integers(0, 2)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2), st.booleans(),
)  # fmt: skip
def test_windows_are_foretold(
    height: int, width: int, kind: str, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    dilation: tuple[int, int], ceil: bool,
) -> None:  # fmt: skip
    value = torch.randn(2, 3, height, width)
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))  # type: ignore[assignment]
    module: nn.Module
    if kind == "conv":
        module = nn.Conv2d(3, 2, kernel, stride, padding, dilation)
    elif kind == "max":
        module = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
    else:
        module = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil)
    try:
        found = module(value)
    except RuntimeError:  # the window is larger than the input: nothing to foretell
        return
    foretold = gives_map(module, (value,))
    # Rounding up may give one more row than is foretold: then the module is looked into, as any other.
    assert foretold == is_spatial(found) or (ceil and not foretold) or not is_spatial(value)
    assert not foretold or is_spatial(found)


def test_sizes_may_be_lists() -> None:
    module = nn.MaxPool2d([3, 2], [2], [1, 0])  # type: ignore[arg-type]
    assert gives_map(module, (torch.randn(2, 3, 5, 4),)) and not gives_map(module, (torch.randn(2, 3, 5, 3),))


@pytest.mark.parametrize(
    "module",
    [nn.ReLU(inplace=True), nn.SiLU(), nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.LayerNorm([5, 4]), nn.Linear(4, 2)],
)
def test_modules_that_keep_the_shape_give_maps(module: nn.Module) -> None:
    value = torch.randn(2, 3, 5, 4)
    assert gives_map(module, (value,)) and is_spatial(module(value))


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda *_: None)
    return module


class Own(nn.ReLU):
    """A subclass, which may do anything."""


def replaced() -> nn.Module:
    module = nn.ReLU()
    module.forward = lambda input: input.mean((2, 3))  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    ("module", "value"),
    [
        (hooked(nn.ReLU()), torch.randn(2, 3, 5, 4)),
        (Own(), torch.randn(2, 3, 5, 4)),
        (replaced(), torch.randn(2, 3, 5, 4)),
        (nn.ReLU(), torch.randn(2, 3)),
        (nn.ReLU(), torch.randn(2, 3, 1, 4)),
        (nn.Linear(4, 1), torch.randn(2, 3, 5, 4)),
        (nn.MaxPool2d(2, return_indices=True), torch.randn(2, 3, 8, 8)),
        (nn.Conv2d(3, 2, (5, 4)), torch.randn(2, 3, 5, 4)),
        (nn.Conv2d(3, 2, 2, padding="valid"), torch.randn(2, 3, 5, 4)),
        (nn.AdaptiveAvgPool2d(2), torch.randn(2, 3, 5, 4)),
    ],
)
def test_others_are_looked_into(module: nn.Module, value: Tensor) -> None:
    assert not gives_map(module, (value,))


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "densenet121", "squeezenet1_1", "convnext_tiny", "swin_t"]
)
def test_nothing_is_missed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, images = models.get_model(name, weights=None).eval(), torch.randn(2, 3, 64, 64)
    found = trace(model, images)
    monkeypatch.setattr(record, "gives_map", lambda *_: False)
    expected = trace(model, images)
    assert torch.equal(found.map, expected.map) and torch.equal(found.logits, expected.logits)
    kept = ("layer", "owners", "candidates", "call", "at")
    assert [getattr(found, key) for key in kept] == [getattr(expected, key) for key in kept]
    assert [call.function for call in found.head.calls] == [call.function for call in expected.head.calls]


class Noting(TorchFunctionMode):
    """A mode of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def failing(kind: type[BaseException]) -> Callable[..., Tensor]:
    def run(*_: object) -> Tensor:
        raise kind("stopped")

    return run


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_a_module_leaves_no_mode_behind(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    monkeypatch.setattr(nn.Conv2d, "forward", failing(kind))
    with Noting() as outer:
        with pytest.raises(kind), recording(model):
            model(torch.randn(1, 3, 9, 9))
        assert _get_current_function_mode() is outer
    assert _len_torch_function_stack() == 0


def test_functions_of_the_user_are_seen_by_a_mode_of_the_user() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with Noting() as mode:
        trace(model, torch.randn(1, 3, 9, 9))
    assert "conv2d" in mode.seen and "relu" in mode.seen


# --- blocks that are not looked into ------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block, of which a network has several."""

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.conv, self.norm, self.kind = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), kind
        self.kept: Any = None

    def forward(self, x: Tensor) -> Any:
        found = x + self.norm(self.conv(x)).relu()
        self.kept = found.mean((2, 3))
        return {"pooled": self.kept, "pair": (found, found)}.get(self.kind, found)


class Net(nn.Module):
    """Blocks, then pooling; the head may read what a block kept, or a block may be the pooling itself."""

    def __init__(self, last: str = "", *, reads: bool = False) -> None:
        super().__init__()
        self.stem, self.blocks, self.reads = nn.Conv2d(3, 4, 3), nn.ModuleList([Block(), Block(), Block(last)]), reads
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = x[0] if isinstance(x, tuple) else x
        pooled = x.mean((2, 3)) if x.ndim == 4 else x
        return self.fc(pooled + self.blocks[1].kept if self.reads else pooled)  # type: ignore[operator]


def counted(net: nn.Module) -> list[int]:
    passes: list[int] = []
    net.register_forward_hook(lambda *_: passes.append(1))
    return passes


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "convnext_tiny", "swin_t", "googlenet"])
def test_blocks_are_passed_over(name: str) -> None:
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    model, images = models.get_model(name, weights=None, **options).eval(), torch.randn(2, 3, 64, 64)
    passes = counted(model)
    found = trace(model, images, blocks=True)
    assert len(passes) == 1
    expected = trace(model, images)
    assert torch.equal(found.map, expected.map) and torch.equal(found.logits, expected.logits)
    assert (found.layer, found.call, found.owners[-1:]) == (expected.layer, expected.call, expected.owners[-1:])
    assert [call.function for call in found.head.calls] == [call.function for call in expected.head.calls]
    assert len(found.candidates) < len(expected.candidates)


@pytest.mark.parametrize(("last", "reads"), [("pooled", False), ("pair", False), ("", True)])
def test_a_block_that_is_none_is_looked_into_after_all(last: str, reads: bool) -> None:
    torch.manual_seed(0)
    net, images = Net(last, reads=reads).eval(), torch.randn(3, 3, 9, 9)
    passes = counted(net)
    found, expected = trace(net, images, blocks=True), trace(net, images)
    assert len(passes) == 3  # two and one
    assert torch.equal(found.map, expected.map) and found.layer == expected.layer
    assert [call.function for call in found.head.calls] == [call.function for call in expected.head.calls]
    assert found.head.reads_more == expected.head.reads_more == reads


def test_scores_that_leave_a_block_by_a_side_door() -> None:
    class Deep(nn.Module):
        """Each block scores for itself, and the network returns what the last one kept."""

        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(nn.Conv2d(3, 4, 3), Block(), Block())

        def forward(self, x: Tensor) -> Any:
            self.blocks(x)
            return self.blocks[2].kept

    torch.manual_seed(0)
    net, images = Deep().eval(), torch.randn(3, 3, 9, 9)
    found, expected = trace(net, images, blocks=True), trace(net, images)
    assert torch.equal(found.map, expected.map) and found.layer == expected.layer
    assert torch.equal(found.logits, expected.logits) and len(found.head.calls) == len(expected.head.calls)


def test_what_is_written_into_a_buffer_comes_from_the_images() -> None:
    class Written(Net):
        def forward(self, x: Tensor) -> Tensor:
            first = self.stem(x)
            kept = torch.zeros(len(x), 4)
            kept[:, 0] = first.mean((1, 2, 3))  # computed before the last map, read after it
            features = self.blocks[2](self.blocks[1](first)).mean((2, 3))
            scores: Tensor = self.fc(features + kept)
            return scores

    torch.manual_seed(0)
    net, images = Written().eval(), torch.randn(3, 3, 9, 9)
    for blocks in (True, False):
        assert trace(net, images, blocks=blocks).head.reads_more


def test_constants_of_the_forward_pass_are_no_strangers() -> None:
    class Cosine(Net):
        def forward(self, x: Tensor) -> Tensor:
            scale = torch.ones(5) * 3
            features = self.blocks[2](self.blocks[1](self.stem(x))).mean((2, 3))
            return scale * nn.functional.linear(features, nn.functional.normalize(self.fc.weight))

    net = Cosine().eval()
    passes = counted(net)
    trace(net, torch.randn(2, 3, 9, 9), blocks=True)
    assert len(passes) == 1


class Rectified(nn.Module):
    """A block that calls a module which is called elsewhere too."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 3, padding=1), relu

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.relu(self.conv(x))
        return found


def test_a_shared_module_inside_a_block_is_counted() -> None:
    relu = nn.ReLU()
    body = [nn.Conv2d(3, 4, 3), Rectified(relu), Rectified(relu), nn.Conv2d(4, 4, 3), relu]
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    images = torch.randn(2, 3, 9, 9)
    found = trace(net, images, blocks=True)
    assert found.spot == trace(net, images).spot and found.call == 3
