"""FullGrad: input gradients and the gradients of every bias (Srinivas and Fleuret 2019, "Full-Gradient ...").

A network of linear layers and ReLU is, around an input, ``f(x) = x . df/dx + sum_b b . df/db`` (their proposition
1), where b runs over the biases of all layers at all positions. Layers that are not linear have *implicit* biases
(section 3.1): what is left of their output z(y) at their input y once its linear part is taken away,
``z(y) - (dz/dy) y``. For a BatchNorm in eval mode that is ``beta - gamma mean / std``; for ReLU and max pooling it
is zero; for GELU, SiLU, Hardswish, ReLU6, LayerNorm it is not. With them the sum is the logit itself.

The biases are found by a ``TorchFunctionMode`` while the scores are computed, so functional calls are seen as
modules are, no hook is set on the model, and other threads are not watched. Gradients are asked for at graph
edges, which in-place operations (ReLU) do not move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from explain.errors import InputError, ModelError
from explain.maps import normalize_maps, resize_maps
from explain.nets.modes import eval_mode, naming_errors

__all__ = ["Rescale", "full_gradient_sum", "fullgrad"]

Rescale = Literal["channel", "layer"]

_CONVOLUTIONS = frozenset({f"conv{n}d" for n in "123"} | {f"conv_transpose{n}d" for n in "123"})
_NORMS = frozenset({"layer_norm", "group_norm", "instance_norm", "rms_norm"})
_ELEMENTWISE = frozenset({
    "gelu", "silu", "mish", "elu", "selu", "celu", "softplus", "logsigmoid", "log_sigmoid", "hardswish",
    "hardsigmoid", "hardtanh", "relu6", "sigmoid", "tanh", "clamp", "softsign", "tanhshrink", "softshrink",
    "hardshrink",
})  # fmt: skip
_SUMS = frozenset({"add", "__add", "__radd", "__iadd", "sub", "__sub", "__isub", "rsub", "__rsub"})


def fullgrad(
    model: nn.Module, images: Tensor, scores: Callable[[Tensor], Tensor], *, rescale: Rescale = "layer"
) -> Tensor:
    """Return FullGrad maps: ``psi(x * df/dx) + sum over layers and channels of psi(b * df/db)`` (eq. 8).

    ``psi`` takes the absolute value, scales to 0…1 (min-max) and upsamples to the input (bilinear,
    ``align_corners=False``). Biases without positions (those of fully connected layers, of 1 x 1 maps) have no
    place in the map; they count in `full_gradient_sum` only. A flat map is scaled to zero.

    Parameters
    ----------
    model
        The network that ``scores`` runs; put into eval mode meanwhile. It comes back as it was.
    images
        ``(b, ci, H, W)``.
    scores
        Images ``(b, ci, H, W)`` in, the scores ``(b, k)`` of the classes asked for out, with a graph.
    rescale
        What is scaled to 0…1. ``"layer"``: all channels of a layer together, as the authors' program does.
        ``"channel"``: each channel on its own, as eq. 8 can also be read and grad-cam does; a bias is one number per
        channel, so it drops out there, and weak channels count as much as strong ones.

    Returns
    -------
    Tensor
        ``(b, k, H, W)``, not negative, in the images' precision and at least float32.

    Raises
    ------
    ModelError
        The scores do not depend on the images, or the network fails on them.
    InputError
        Images that are no ``(b, c, H, W)``, an unknown ``rescale``.
    """
    if rescale not in ("channel", "layer"):
        raise InputError(f"unknown rescale {rescale!r}: use 'channel' or 'layer'")

    def merged(terms: Iterator[Tensor]) -> Tensor:
        total = torch.zeros((), device=images.device)
        for term in terms:
            if term.ndim == 4 and term.shape[2] * term.shape[3] > 1:
                total = total + resize_maps(_psi(term, rescale), (int(images.shape[2]), int(images.shape[3])))
        return total[:, 0]  # (b, H, W): the input itself always has positions

    return _for_each_class(model, images, scores, merged)


def full_gradient_sum(model: nn.Module, images: Tensor, scores: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``x . df/dx + sum_b b . df/db`` ``(b, k)`` over all biases, explicit and implicit.

    It equals ``scores(images)`` for networks made of linear and convolution layers, normalisation, pooling,
    sums and element-wise non-linearities (proposition 1); products of two activations (attention,
    squeeze-and-excitation) add terms that no bias carries. Arguments and errors are those of `fullgrad`.
    """

    def summed(terms: Iterator[Tensor]) -> Tensor:
        return torch.stack([term.flatten(1).sum(1) for term in terms]).sum(0)

    return _for_each_class(model, images, scores, summed)


class _Descent:
    """Tells which tensors come from the images, by the graph; what comes from parameters alone does not."""

    def __init__(self, images: Tensor) -> None:
        self._known = {get_gradient_edge(images).node}  # nodes that are known to come from the images

    def __call__(self, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.grad_fn is None:
            return False
        waiting, seen = [value.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node in self._known:
                self._known.add(value.grad_fn)
                return True
            if node not in seen:
                seen.add(node)
                waiting += [before for before, _ in node.next_functions if before is not None]
        return False


@dataclass(frozen=True)
class _Bias:
    """The bias of one call: where its output is in the graph, and what was added there."""

    edge: GradientEdge
    value: Tensor
    """Broadcasts to the output."""
    channels_last: bool
    """The output is ``(b, h, w, c)``, as linear layers and LayerNorm of ConvNeXt and Swin have it."""


class _Biases(TorchFunctionMode):
    """Notes the bias of every call that leads from the images to the scores."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.found: list[_Bias] = []
        self._of_images = _Descent(images)
        self._last: tuple[Any, bool] = (None, False)  # the output noted last, and its layout

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        if not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
        # Before the call, for it may work in place.
        bias = self._bias(name, func, args, kwargs) if torch.is_grad_enabled() else None
        result = func(*args, **kwargs)
        if bias is not None and self._of_images(result):
            channels_last = self._channels_last(name, args)
            self.found.append(_Bias(get_gradient_edge(result), bias.detach(), channels_last))
            self._last = (result, channels_last)
        return result

    def _bias(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        if name in _SUMS:
            return _added_constant(name, args, kwargs, self._of_images)
        return _bias_of(name, func, args, kwargs)

    def _channels_last(self, name: str, args: tuple[Any, ...]) -> bool:
        if name in ("layer_norm", "rms_norm"):
            return len(args) > 1 and len(args[1]) == 1
        follows = name in _ELEMENTWISE and args[0] is self._last[0]
        return name == "linear" or (follows and self._last[1])


def _bias_of(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return what the call adds to a linear function of its first argument, broadcastable to its output."""
    value = args[0] if args else None
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return None
    if name in _CONVOLUTIONS or name == "linear":
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        dims = int(name[-2]) if name != "linear" else 0
        return None if bias is None else bias.reshape(-1, *[1] * dims)
    if name == "batch_norm":
        return _batch_norm_bias(*args, **kwargs)
    if name in _NORMS or name in _ELEMENTWISE:
        return _implicit_bias(func, value, args, kwargs, elementwise=name in _ELEMENTWISE)
    return None


def _batch_norm_bias(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return ``beta - gamma mean / std`` with the channel in the second place (arguments of ``F.batch_norm``)."""
    if training or running_mean is None or running_var is None:
        raise ModelError(
            "a BatchNorm works on the statistics of the batch: FullGrad needs running statistics (eval mode)"
        )
    shift = -running_mean / torch.sqrt(running_var + eps)
    shift = shift if weight is None else shift * weight
    shift = shift if bias is None else shift + bias
    return shift.to(input).reshape(-1, *[1] * (input.ndim - 2))


def _implicit_bias(
    func: Any, value: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], *, elementwise: bool
) -> Tensor:
    """Return ``z(y) - (dz/dy) y`` of a call at its first argument y."""
    if not value.requires_grad:
        return torch.zeros_like(value)  # does not come from the images
    rest = {key: (False if key == "inplace" else item) for key, item in kwargs.items()}
    point = value.detach().requires_grad_()
    output: Tensor = func(point.clone(), *args[1:], **rest)  # a clone, for forms that work in place
    if elementwise:
        (slope,) = torch.autograd.grad(output.sum(), point)
        return output - slope * point
    # The derivative along y is that of the backward pass, which is linear in what it is given. Forward-mode
    # derivatives would do the same, but compile a table at their first use, with a warning.
    seed = torch.zeros_like(output, requires_grad=True)
    (backward,) = torch.autograd.grad(output, point, seed, create_graph=True)
    (along,) = torch.autograd.grad(backward, seed, point)
    return output - along


def _added_constant(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], of_images: Callable[[Any], bool]
) -> Tensor | None:
    """Return the operand of a sum or difference that does not come from the images, with its sign."""
    first, second = args[0], args[1] if len(args) > 1 else kwargs.get("other")
    if name.startswith(("rsub", "__rsub")):
        first, second = second, first
    constant: Any = None
    if of_images(first) and not of_images(second):
        constant = second * (-kwargs.get("alpha", 1) if "sub" in name else kwargs.get("alpha", 1))
    elif of_images(second) and not of_images(first):
        constant = first
    return None if constant is None else torch.as_tensor(constant, dtype=args[0].dtype, device=args[0].device)


def _for_each_class(
    model: nn.Module,
    images: Tensor,
    scores: Callable[[Tensor], Tensor],
    reduce: Callable[[Iterator[Tensor]], Tensor],
) -> Tensor:
    """Stack ``reduce(terms)`` of each class; terms: ``x . df/dx`` first, then ``b . df/db`` of each bias."""
    if images.ndim != 4:
        raise InputError(f"images of shape {tuple(images.shape)}: give (b, c, H, W)")
    with eval_mode(model), torch.inference_mode(False), torch.enable_grad():
        # One step away from the leaf, which has no place of its own in the graph.
        leaf = images.detach().clone().requires_grad_()
        with naming_errors(images), _Biases(leaf) as biases:
            found = scores(leaf.view_as(leaf))
        if found.ndim != 2 or not found.requires_grad:
            raise ModelError(f"scores of shape {tuple(found.shape)}: FullGrad needs (b, k), with a graph to the images")
        results = []
        for place in range(found.shape[1]):
            gradients = torch.autograd.grad(
                found[:, place].sum(),
                [leaf, *(bias.edge for bias in biases.found)],
                retain_graph=place + 1 < found.shape[1],
                allow_unused=True,
            )
            if gradients[0] is None:
                raise ModelError("the scores do not depend on the images: FullGrad has nothing to explain")
            with torch.no_grad():
                results.append(reduce(_products(leaf, biases.found, gradients)))
    return torch.stack(results, 1)


def _products(images: Tensor, biases: list[_Bias], gradients: tuple[Tensor | None, ...]) -> Iterator[Tensor]:
    values = [(images.detach(), False), *((bias.value, bias.channels_last) for bias in biases)]
    for (value, channels_last), gradient in zip(values, gradients, strict=True):
        if gradient is not None:  # what does not reach the scores (an auxiliary head) has none
            term = (value * gradient).to(torch.promote_types(gradient.dtype, torch.float32))
            yield term.movedim(-1, 1) if channels_last and term.ndim == 4 else term


def _psi(term: Tensor, rescale: Rescale) -> Tensor:
    """Return ``rescale(|term|)`` summed over channels ``(b, 1, h, w)``; upsampling is linear and comes after."""
    size = term.abs()
    if rescale == "layer":
        return normalize_maps(size.flatten(1, 2)[:, None], "minmax")[:, 0].reshape(size.shape).sum(1, keepdim=True)
    return normalize_maps(size, "minmax").sum(1, keepdim=True)
