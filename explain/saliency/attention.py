"""Attention rollout and LeGrad: maps of vision transformers from their attention.

**Rollout** multiplies the attention of all layers; it needs no class and no gradient.

**LeGrad** (Bousselham et al. 2024, "LeGrad: An Explainability Method for Vision Transformers via Feature Formation
Sensitivity"): each layer l has scores s_l of its own, for which its output tokens, averaged, go through what follows
the last layer (norm and classifier). The gradient of s_l with respect to the layer's attention, ReLU, mean over heads
and queries, tells which tokens the layer would have to look at more; layers are averaged. What follows the last layer
is recorded by one forward pass without graph and replayed on the averaged tokens: in the replay all tokens are their
mean, so that it does not matter whether the network pools by a class token or by a mean. A second pass, with a graph
that reaches no further than one layer, gives the gradients.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from explain.errors import InputError, ModelError
from explain.nets.calls import map_tree, tree_leaves
from explain.nets.modes import eval_mode
from explain.saliency.attending import AttentionMode, check_attention, recorded_attention

__all__ = ["HeadFusion", "legrad", "recorded_attention", "rollout"]

HeadFusion = Literal["mean", "max", "min"]


def rollout(
    attentions: Sequence[Tensor], *, prefix: int, grid: tuple[int, int], head_fusion: HeadFusion = "mean"
) -> Tensor:
    """Return attention rollout (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", eq. 1).

    With the residual connection ``A_l = (attention_l + I) / 2``, rows normalised, ``R = A_L … A_1``. The map is the
    row of the first token (the class token) at the image's tokens; without a class token (``prefix=0``, pooling
    by the mean) it is the mean of all rows. It is the same for all classes.

    Parameters
    ----------
    attentions
        Of each layer in order: ``(b, heads, n, n)``, or already fused ``(b, n, n)``.
    prefix
        Tokens before those of the image: class token, distillation token, registers.
    grid
        (height, width) of the image's tokens.
    head_fusion
        How heads are fused: ``"mean"`` (the paper), ``"max"``, ``"min"``.

    Returns
    -------
    Tensor
        ``(b, h, w)``, at least float32, not negative; without graph.

    Raises
    ------
    ModelError
        Attention in windows or of a pooling query, or tokens that are not ``prefix`` and the grid.
    InputError
        Unknown ``head_fusion``.
    """
    if head_fusion not in ("mean", "max", "min"):
        raise InputError(f"unknown head_fusion {head_fusion!r}: use 'mean', 'max' or 'min'")
    tokens = check_attention(attentions)
    if prefix < 0 or prefix + grid[0] * grid[1] != tokens:
        raise ModelError(
            f"{tokens} tokens are not {prefix} and a grid of {grid[0]} x {grid[1]}: give the network's own prefix and"
            " grid"
        )
    with torch.no_grad():
        flow = torch.eye(tokens, dtype=torch.float32, device=attentions[0].device)
        for attention in attentions:
            fused = _fused(attention, head_fusion)
            mixed = (fused + torch.eye(tokens, dtype=fused.dtype, device=fused.device)) / 2
            mixed = mixed / mixed.sum(-1, keepdim=True)
            flow = mixed @ flow.to(mixed)
        row = flow[:, 0] if prefix else flow.mean(1)
        return row[:, prefix:].reshape(-1, *grid)


def _fused(attention: Tensor, how: HeadFusion) -> Tensor:
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    if attention.ndim == 3:
        return attention
    if how == "mean":
        return attention.mean(1)
    return attention.amax(1) if how == "max" else attention.amin(1)


def legrad(model: nn.Module, run: Callable[[], Tensor], *, prefix: int = 0, last: int | None = None) -> Tensor:
    """Return LeGrad of every image token: ``mean over l, heads, queries of ReLU(d s_l / d attention_l)``.

    The averaged tokens include the class token, as in the authors' program and in torch-cam. No value of the
    attention is multiplied in.

    Parameters
    ----------
    model
        The transformer that ``run`` calls; in eval mode meanwhile. It comes back as it was. Its layers are those
        members of a ``ModuleList`` or ``Sequential`` that hold one attention each.
    run
        Runs the model on a fixed batch of images and returns the scores ``(b, k)`` of the classes asked for;
        called twice, with and without gradients, so it must set neither.
    prefix
        Tokens before those of the image (class token, distillation token, registers): their columns are dropped.
    last
        Average the last so many layers only; all where None.

    Returns
    -------
    Tensor
        ``(b, k, n - prefix)``, at least float32, not negative; without graph.

    Raises
    ------
    ModelError
        No such layers, attention in windows or of a pooling query, scores that do not come from the last layer.
    InputError
        ``last`` or ``prefix`` out of range.
    """
    with eval_mode(model), torch.inference_mode(False):
        with torch.no_grad():
            walk = _Walk(model)
            with walk.watching():
                scores = run()
        if scores.ndim != 2:
            raise ModelError(f"scores of shape {tuple(scores.shape)}: LeGrad needs (b, k)")
        tokens = check_attention(walk.attentions, len(scores))
        if not 0 <= prefix < tokens:
            raise InputError(f"prefix={prefix} for {tokens} tokens: some must be left for the image")
        blocks = walk.blocks()
        if last is not None and not 1 <= last <= len(blocks):
            raise InputError(f"last={last} for {len(blocks)} layers: give 1 to {len(blocks)}")
        tail = walk.tail(blocks[-1], scores)
        walk.forget()
        layers: list[Tensor] = []
        with torch.enable_grad(), _layer_gradients(model, blocks, last or len(blocks), tail, layers):
            run()
        return torch.stack(layers).mean(0)[..., prefix:]


@contextmanager
def _layer_gradients(
    model: nn.Module, blocks: list[str], last: int, tail: Callable[[Tensor], Tensor], found: list[Tensor]
) -> Iterator[None]:
    """Add ``(b, k, n)`` of each of the last blocks to ``found`` while the model runs; the graph ends at each block."""
    thread = threading.get_ident()
    seen: list[Tensor] = []
    passed = 0

    def left(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal passed
        if threading.get_ident() != thread:
            return None
        tokens, rest = _first(output)
        passed += 1
        if passed > len(blocks) - last:
            found.append(_of_layer(tail(_all_mean(tokens)), seen[-1]))
        seen.clear()
        return tokens.detach() if rest is None else (tokens.detach(), *rest)

    with ExitStack() as stack:
        for name in blocks:
            stack.callback(model.get_submodule(name).register_forward_hook(left).remove)
        stack.enter_context(AttentionMode(seen.append))
        yield


def _of_layer(scores: Tensor, attention: Tensor) -> Tensor:
    rows = []
    for place in range(scores.shape[1]):
        (gradient,) = torch.autograd.grad(scores[:, place].sum(), attention, retain_graph=place + 1 < scores.shape[1])
        rows.append(gradient.to(torch.promote_types(gradient.dtype, torch.float32)).relu().mean((1, 2)))
    return torch.stack(rows, 1).detach()


def _all_mean(tokens: Tensor) -> Tensor:
    """Return tokens ``(b, n, d)`` that all are their mean."""
    return tokens.mean(1, keepdim=True).expand_as(tokens).contiguous()


def _first(output: Any) -> tuple[Tensor, tuple[Any, ...] | None]:
    """Return a block's tokens and, where it returns a tuple, what else it returns."""
    if isinstance(output, tuple):
        return output[0], output[1:]
    return output, None


class _Walk:
    """One forward pass: in which modules attention happened, and what was called after the last one."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._thread = threading.get_ident()
        self._stack: list[str] = []
        self._at: list[tuple[str, ...]] = []  # the modules around each attention, the outermost first
        self._inside: Counter[str] = Counter()
        self._calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._exits: dict[str, tuple[int, Any]] = {}
        self.attentions: list[Tensor] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, module in self._model.named_modules():
                stack.callback(module.register_forward_pre_hook(self._entering(name)).remove)
                stack.callback(module.register_forward_hook(self._leaving(name)).remove)
            stack.enter_context(_Tape(self))
            yield

    def _entering(self, name: str) -> Callable[..., None]:
        def entered(module: nn.Module, args: Any) -> None:
            if threading.get_ident() == self._thread:
                self._stack.append(name)

        return entered

    def _leaving(self, name: str) -> Callable[..., None]:
        def left(module: nn.Module, args: Any, output: Any) -> None:
            if threading.get_ident() == self._thread:
                self._stack.pop()
                self._exits[name] = (len(self._calls), output)

        return left

    def saw(self, attention: Tensor) -> None:
        """Note an attention; only what comes after the last one can be the tail."""
        self.attentions.append(attention.new_empty(()).expand(attention.shape))  # its shape, not its memory
        self._at.append(tuple(self._stack))
        self._inside.update(self._stack)
        self._calls.clear()
        self._exits.clear()

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Note a call."""
        if self._at:
            self._calls.append((func, args, kwargs, result))

    def blocks(self) -> list[str]:
        """Return the names of the layers: the outermost members of lists of modules with one attention each."""
        found = []
        for around in self._at:
            members = [name for name in around if self._inside[name] == 1 and self._is_member(name)]
            if not members:
                raise ModelError(
                    f"attention in {around[-1] or 'the model'!r} belongs to no layer of its own: LeGrad needs"
                    " layers with one attention each in a ModuleList or Sequential; use 'rollout' or a gradient method"
                )
            found.append(members[0])
        return found

    def _is_member(self, name: str) -> bool:
        parent, _, own = name.rpartition(".")
        return bool(own) and isinstance(self._model.get_submodule(parent), (nn.ModuleList, nn.Sequential))

    def tail(self, block: str, scores: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what leads from the output of ``block`` ``(b, n, d)`` to the scores ``(b, k)``."""
        start, output = self._exits[block]
        tokens, _ = _first(output)
        if not isinstance(tokens, Tensor) or tokens.shape[:2] != (len(scores), self.attentions[-1].shape[-1]):
            raise ModelError(f"layer {block!r} does not return tokens (b, n, d): LeGrad cannot average them")
        calls = self._calls[start:]

        def replayed(value: Tensor) -> Tensor:
            known: dict[int, Any] = {id(tokens): value}

            def fill(leaf: Any) -> Any:
                return known.get(id(leaf), leaf)

            for func, args, kwargs, result in calls:
                if any(id(leaf) in known for leaf in tree_leaves((args, kwargs))):
                    again = func(*map_tree(args, fill), **map_tree(kwargs, fill))
                    known.update(zip(map(id, tree_leaves(result)), tree_leaves(again), strict=True))
            if id(scores) not in known:
                raise ModelError(f"the scores do not come from the output of layer {block!r}, the last with attention")
            found: Tensor = known[id(scores)]
            return found

        return replayed

    def forget(self) -> None:
        """Drop what was noted and is not needed by the tail."""
        self._calls, self._exits = [], {}


class _Tape(AttentionMode):
    """Tells a `_Walk` of every call and every attention."""

    def __init__(self, walk: _Walk) -> None:
        super().__init__(walk.saw)
        self._walk = walk

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, (Tensor, tuple, list)):
            self._walk.called(func, args, kwargs or {}, result)
        return result
