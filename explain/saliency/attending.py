"""The attention probabilities of a forward pass, recorded.

`recorded_attention` sees the attention probabilities of a forward pass however they are computed: by
``nn.MultiheadAttention`` (also with ``need_weights=False`` and on its fast path), by
``F.scaled_dot_product_attention``, or by an explicit softmax. The first two never form the probabilities, so a
``TorchFunctionMode`` computes them explicitly in their place; nothing is set on the model, and other threads are not
watched. The recorded tensors are those the output is computed from, so derivatives with respect to them exist.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from explain.errors import ModelError

__all__ = ["AttentionMode", "check_attention", "recorded_attention"]

Keep = Callable[[Tensor], Tensor]

_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)
_SDPA_ARGS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


# --- recording --------------------------------------------------------------------------------------------


@contextmanager
def recorded_attention(keep: Keep | None = None) -> Iterator[list[Tensor]]:
    """Record the attention probabilities of the forward passes that this thread makes inside the block.

    ``with recorded_attention() as maps: model(images)``. The list fills in order of execution with one
    ``(b, heads, n, n)`` per attention layer, as the model computes it (with its graph, where it has one).

    Parameters
    ----------
    keep
        What to keep of each, for instance ``lambda a: a.mean(1)``; the probabilities themselves where None.

    Raises
    ------
    ModelError
        In the block: attention with options that cannot be computed explicitly here (padding masks, dropout).
    """
    found: list[Tensor] = []

    def note(attention: Tensor) -> None:
        found.append(attention if keep is None else keep(attention))

    with AttentionMode(note):
        yield found


class AttentionMode(TorchFunctionMode):
    """Computes attention explicitly and shows the probabilities to ``note``."""

    def __init__(self, note: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is F.multi_head_attention_forward:
            bound = _MULTI_HEAD.bind(*args, **kwargs)
            bound.apply_defaults()
            return self._multi_head(bound.arguments)
        if name == "scaled_dot_product_attention":
            return self._dot_product(**dict(zip(_SDPA_ARGS, args, strict=False)), **kwargs)
        if name in ("_native_multi_head_attention", "_transformer_encoder_layer_fwd"):
            raise ModelError(f"attention runs in the fused kernel {name}, which shows no probabilities")
        result = func(*args, **kwargs)
        if name == "softmax" and isinstance(result, Tensor) and _is_attention(result, args, kwargs):
            self._noted(result)
        return result

    def _noted(self, attention: Tensor) -> None:
        if torch.is_grad_enabled() and not attention.requires_grad:
            attention.requires_grad_()  # frozen weights and plain images: derivatives start here
        self._note(attention)

    def _dot_product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """``F.scaled_dot_product_attention``, as its documentation defines it."""
        if query.ndim < 4:  # no heads: one
            query, key, value = (part.unsqueeze(-3) for part in (query, key, value))
            mask = attn_mask.unsqueeze(-3) if attn_mask is not None and attn_mask.ndim == 3 else attn_mask
            return self._dot_product(query, key, value, mask, dropout_p, is_causal, scale).squeeze(-3)
        if enable_gqa:
            key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        return self._attend(query, key, value, attn_mask, dropout_p, scale)[0]

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float | None
    ) -> tuple[Tensor, Tensor]:
        """Return the mixed values ``(b, heads, n, d)`` and the probabilities they are computed from."""
        if dropout:
            raise ModelError("attention drops out at random: put the model into eval mode")
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        # Half precision is summed in float32, as the fused kernels do.
        attention = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
        self._noted(attention)
        return attention @ value, attention

    def _multi_head(self, given: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """``F.multi_head_attention_forward``: tokens ``(n, b, d)`` or ``(n, d)`` in and out."""
        odd = ("bias_k", "bias_v", "key_padding_mask", "static_k", "static_v")
        used = [name for name in odd if given[name] is not None]
        if used or given["add_zero_attn"]:
            raise ModelError(f"attention with {', '.join(used) or 'add_zero_attn'} cannot be recorded")
        batched = given["query"].ndim == 3
        tokens = [given[name] if batched else given[name].unsqueeze(1) for name in ("query", "key", "value")]
        heads = given["num_heads"]
        query, key, value = (
            F.linear(part, weight, bias).unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)
            for part, weight, bias in zip(tokens, *_projections(given), strict=True)
        )
        mask = given["attn_mask"]
        if mask is not None:
            mask = ~mask if mask.dtype == torch.bool else mask  # here True means "not attended to"
            mask = mask.unflatten(0, (-1, heads)) if mask.ndim == 3 else mask
        dropout = given["dropout_p"] if given["training"] else 0.0
        mixed, weights = self._attend(query, key, value, mask, dropout, None)
        output = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
        weights = weights.mean(1) if given["average_attn_weights"] else weights
        if not batched:
            output, weights = output.squeeze(1), weights.squeeze(0)
        return output, weights if given["need_weights"] else None


def _projections(given: dict[str, Any]) -> tuple[list[Tensor], list[Tensor | None]]:
    if given["use_separate_proj_weight"]:
        weights = [given["q_proj_weight"], given["k_proj_weight"], given["v_proj_weight"]]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    biases = given["in_proj_bias"]
    return weights, [None] * 3 if biases is None else list(biases.chunk(3))


def _is_attention(result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a softmax is one over keys: over the last axis of ``(…, heads, n, n)``."""
    axis = args[1] if len(args) > 1 else kwargs.get("dim")
    return result.ndim >= 4 and axis in (-1, result.ndim - 1) and result.shape[-1] == result.shape[-2] > 1


def check_attention(attentions: Sequence[Tensor], batch: int | None = None) -> int:
    """Return the number of tokens ``n`` that all recorded maps ``(b, heads, n, n)`` or ``(b, n, n)`` share.

    ``batch``: how many images there were, where the caller knows.

    Raises
    ------
    ModelError
        There are no maps, or they are windowed, pooled, or of different sizes.
    """
    if not attentions:
        raise ModelError("no attention was seen in the forward pass: rollout and LeGrad need a vision transformer")
    shapes = {tuple(attention.shape) for attention in attentions}
    shown = ", ".join(str(shape) for shape in sorted(shapes, key=str)[:4])
    batches = {shape[0] for shape in shapes} | ({batch} if batch is not None else set())
    if any(len(shape) > 4 for shape in shapes) or len(batches) > 1 or len({shape[-1] for shape in shapes}) > 1:
        raise ModelError(
            f"attention maps of {shown}: this looks like attention in windows (Swin, MaxViT), where tokens do not see"
            " the whole image; use a gradient method, such as 'gradcam'"
        )
    if any(shape[-1] != shape[-2] for shape in shapes):
        raise ModelError(
            f"attention maps of {shown}: a pooling query attends to the tokens; rollout and LeGrad need attention"
            " among the tokens themselves"
        )
    return int(attentions[0].shape[-1])
