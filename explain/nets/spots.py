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
from typing import Any

import torch
from torch import Tensor, nn

from explain.nets.layout import Layout, layout_of
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import OutputSpec, pick
from explain.nets.record import Spot

__all__ = ["grid_layers", "last_grid"]


def grid_layers(
    model: nn.Module, images: Tensor, run: Callable[[Tensor], Any] | None = None, output: OutputSpec = None
) -> list[tuple[Spot, Layout]]:
    """Return the modules whose output is a map or a row of image tokens that the scores depend on, in order.

    Parameters
    ----------
    images
        ``(1, c, h, w)``: one image.
    run
        How the network is called; ``model(images)`` where None.
    """
    seen: list[tuple[Spot, Layout, Tensor]] = []
    calls: Counter[str] = Counter()
    thread = threading.get_ident()
    size = (images.shape[2], images.shape[3])

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, value: Any) -> None:
            if threading.get_ident() != thread:
                return
            calls[name] += 1
            if isinstance(value, Tensor) and value.requires_grad:
                grids = [layout.grid for _, layout, _ in seen if layout.kind != "tokens"]
                layout = layout_of(value.shape, size, grids, batch=len(images))
                if layout is not None:
                    seen.append((Spot(name, calls[name]), layout, value))

        return note

    with eval_mode(model), torch.inference_mode(False), torch.enable_grad(), naming_errors(images):
        with ExitStack() as stack:
            for name, module in model.named_modules():
                if name:
                    stack.callback(module.register_forward_hook(hook(name)).remove)
            leaf = images.detach().clone().requires_grad_()
            scores = pick((run or model)(leaf), output)
        if not isinstance(scores, Tensor) or not scores.requires_grad or not seen:
            return []
        nan = torch.full_like(scores, float("nan"))
        found = torch.autograd.grad(scores, [value for _, _, value in seen], nan, allow_unused=True)
    return [
        (spot, layout)
        for (spot, layout, _), gradient in zip(seen, found, strict=True)
        if gradient is not None and bool(layout.to_map(gradient).isnan().any())
    ]


def last_grid(
    model: nn.Module, images: Tensor, run: Callable[[Tensor], Any] | None = None, output: OutputSpec = None
) -> tuple[Spot, Layout] | None:
    """Return the last of `grid_layers`, or None; of modules that return the same tensor, the innermost."""
    found = grid_layers(model, images, run, output)
    return found[-1] if found else None
