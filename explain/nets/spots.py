"""Find the last layer whose output is a grid of the image that the scores depend on.

Needed where the head does not simply pool the last map: transformers answer from a class token, and after the last
attention the image's own tokens no longer count. Which tokens count is asked of the graph, not of the numbers (a
freshly made vision transformer has a head of zeros): not-a-number is sent backwards from the scores, and reaches
exactly what the scores were computed from.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explain.nets.layout import Layout, Seen
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import OutputSpec, pick
from explain.nets.traced import Spot

__all__ = ["last_grid"]


@dataclass(frozen=True, eq=False)
class _Layer:
    """A module's output that is a map or a row of image tokens, and the maps that it was computed from."""

    spot: Spot
    layout: Layout
    value: Tensor
    inputs: tuple[tuple[Layout, Tensor], ...]


def last_grid(
    model: nn.Module, images: Tensor, run: Callable[[Tensor], Any] | None = None, output: OutputSpec = None
) -> tuple[Spot, Layout] | None:
    """Return the last module whose output is a map, or a row of image tokens, that tells the scores of the image.

    Where channels come last or in a row of tokens, all that the scores read of the module's own input must pass
    through its output: of attention this is the normalisation before it, not the values, beside which queries and
    keys read the image too. A row of tokens must be as wide as most are, which a projection to queries, keys and
    values at once is not. Of modules that return the same tensor it is the outermost. None where there is no such
    module.

    Parameters
    ----------
    images
        ``(b, c, h, w)``; one image will do.
    run
        How the network is called; ``model(images)`` where None.
    """
    with eval_mode(model), torch.inference_mode(False), torch.enable_grad(), naming_errors(images):
        seen: list[_Layer] = []
        with _noting(model, images, seen):
            scores = pick((run or model)(images.detach().clone().requires_grad_().clone()), output)
        if not isinstance(scores, Tensor) or not scores.requires_grad or not seen:
            return None
        nan = torch.full_like(scores, float("nan"))
        found = torch.autograd.grad(scores, [one.value for one in seen], nan, retain_graph=True, allow_unused=True)
        reached = [one for one, part in zip(seen, found, strict=True) if _any_nan(one.layout, part)]
        wide = [one for one in reached if _as_wide_as_most(one, seen)]
        for one in reversed(wide):
            if _only_way(one, scores, nan):
                return one.spot, one.layout
    return (reached[-1].spot, reached[-1].layout) if reached else None


def _noting(model: nn.Module, images: Tensor, seen: list[_Layer]) -> ExitStack:
    """Note the modules that return a map or tokens, while the block runs."""
    calls: Counter[str] = Counter()
    thread = threading.get_ident()
    so_far = Seen((images.shape[2], images.shape[3]), len(images))

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, value: Any) -> None:
            if threading.get_ident() != thread:
                return
            calls[name] += 1
            if isinstance(value, Tensor) and value.requires_grad:
                layout = so_far.note(value.shape)
                if layout is not None:
                    read = [one for one in args if isinstance(one, Tensor) and one is not value and one.requires_grad]
                    inputs = [(so_far.layout(one.shape), one) for one in read]
                    maps = tuple((place, one) for place, one in inputs if place is not None)
                    seen.append(_Layer(Spot(name, calls[name]), layout, value, maps))

        return note

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(hook(name)).remove)
        return stack.pop_all()


def _any_nan(layout: Layout, gradient: Tensor | None) -> bool:
    return gradient is not None and bool(layout.to_map(gradient).isnan().any())


def _as_wide_as_most(one: _Layer, seen: list[_Layer]) -> bool:
    """Tell whether a row of tokens has as many channels as most of its grid."""
    if one.layout.kind != "tokens":
        return True
    alike = [other.layout for other in seen if other.layout.kind == "tokens" and other.layout.grid == one.layout.grid]
    return one.layout.channels == Counter(layout.channels for layout in alike).most_common(1)[0][0]


def _only_way(one: _Layer, scores: Tensor, nan: Tensor) -> bool:
    """Tell whether the scores see nothing of the module's inputs but through its output."""
    if one.layout.kind == "nchw" or not one.inputs:
        return True
    handle = one.value.register_hook(torch.zeros_like)
    try:
        found = torch.autograd.grad(
            scores, [value for _, value in one.inputs], nan, retain_graph=True, allow_unused=True
        )
    finally:
        handle.remove()
    return not any(_any_nan(layout, part) for (layout, _), part in zip(one.inputs, found, strict=True))
