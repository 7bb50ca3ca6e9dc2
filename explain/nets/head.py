"""The head of a network as recorded calls: map in, logits out, at any batch size and precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from explain.nets.calls import BatchSize, Call, Held, Slot, map_tree, tree_leaves
from explain.nets.layout import Layout
from explain.nets.norms import Frozen, freeze

__all__ = ["Head"]


@dataclass(frozen=True)
class Head:
    """Map in, logits out: the calls recorded after a map.

    Takes ``(n, c, h, w)`` of any dtype and device; the model's parameters are cast to match (so the head can be
    probed in float64) and are read when called, never copied. Row ``i`` belongs to the ``i``-th image of the recorded
    batch, or to image ``rows[i]`` (see `of`); heads that read nothing but the map take any number of rows.
    """

    calls: tuple[Call, ...]
    output: int
    layout: Layout | None = None
    """None: the map as it is, channels first."""
    original: Tensor | None = None
    """The layer's output as recorded, where the layout has tokens before those of the image."""
    batch: int = 0
    """How many images were recorded."""
    rows: Tensor | None = None
    frozen: Mapping[int, Frozen] = field(default_factory=dict)
    """Statistics of normalising calls, by place in ``calls``; see `at_statistics_of`."""

    def of(self, rows: Tensor) -> Head:
        """Return the head for maps whose row ``i`` belongs to image ``rows[i]`` (int64 ``(n,)``)."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def without_last_linear(self) -> tuple[Head, Tensor] | None:
        """Return the head as far as the input of a linear layer that ends it, and that layer's weight, or None."""
        last = self.calls[-1] if self.calls else None
        if last is None or not _is_linear(last) or last.results != (self.output,):
            return None
        return replace(self, calls=self.calls[:-1], output=last.args[0].index), last.args[1]

    def narrowed(self, classes: Tensor) -> Head | None:
        """Return the head for ``classes`` (int64 ``(n,)``) alone, where a linear layer ends it, else None."""
        if self.without_last_linear() is None:
            return None
        last = self.calls[-1]
        weight, bias = last.args[1], last.args[2] if len(last.args) > 2 else last.kwargs.get("bias")
        rows = classes.to(weight.device)
        few = (last.args[0], weight[rows], None if bias is None else bias[rows])
        return replace(self, calls=(*self.calls[:-1], replace(last, args=few, kwargs={})))

    @property
    def trains(self) -> bool:
        """True where the head was recorded in training mode: dropout, or BatchNorm over the batch."""
        return any(_trains(call) for call in self.calls)

    def in_eval_mode(self) -> Head:
        """Return the head as in eval mode: dropout passes its input on, BatchNorm uses its running statistics."""
        return replace(self, calls=tuple(_in_eval_mode(call) if _trains(call) else call for call in self.calls))

    @property
    def reads_more(self) -> bool:
        """True where the head reads tensors beside the map that were computed from the images."""
        return any(isinstance(leaf, Held) for call in self.calls for leaf in tree_leaves((call.args, call.kwargs)))

    def at_statistics_of(self, feature_map: Tensor) -> Head | None:
        """Return the head with its normalisations' statistics held at those of ``feature_map``, or None without any.

        LayerNorm, GroupNorm and RMSNorm divide by statistics of their own input; held at the image's own, they are
        affine, and the head may be affine in the map's mean. Rows must stay those of ``feature_map``.
        """
        frozen: dict[int, Frozen] = {}

        def note(place: int, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found = freeze(call.function, args, kwargs)
            if found is not None:
                frozen[place] = found

        with torch.no_grad():
            self._run(feature_map, note)
        return replace(self, frozen=frozen) if frozen else None

    def __call__(self, feature_map: Tensor) -> Tensor:
        """Return the logits ``(n, classes)`` of a map ``(n, c, h, w)``."""
        return self._run(feature_map, None)

    def _run(self, feature_map: Tensor, note: Callable[..., None] | None) -> Tensor:
        rows = self.rows if self.rows is not None else torch.arange(len(feature_map))
        # The first call may work in place, which a leaf that requires grad would refuse.
        slots: dict[int, Any] = {0: self._native(feature_map, rows).clone()}

        def fill(value: Any) -> Any:
            return slots[value.index] if isinstance(value, Slot) else self._filled(value, feature_map, rows)

        for place, call in enumerate(self.calls):
            args, kwargs = map_tree(call.args, fill), map_tree(call.kwargs, fill)
            if note is not None:
                note(place, call, args, kwargs)
            held = self.frozen.get(place)
            result = held(args[0] if args else kwargs["input"]) if held else call.function(*args, **kwargs)
            results = (result,) if call.single else tuple(result) if result is not None else ()
            slots.update((n, value) for n, value in zip(call.results, results, strict=True) if n is not None)
        logits: Tensor = slots[self.output]
        return logits[:, None] if logits.ndim == 1 else logits  # one number per image

    def _native(self, feature_map: Tensor, rows: Tensor) -> Tensor:
        """Return a map in the layer's own layout, with each image's own tokens before it."""
        if self.layout is None:
            return feature_map
        before = self.original
        return self.layout.from_map(feature_map, before[rows.to(before.device)] if before is not None else feature_map)

    def _filled(self, value: Any, like: Tensor, rows: Tensor) -> Any:
        """Return a recorded argument as this run needs it."""
        if isinstance(value, BatchSize):
            return like.shape[0]
        if isinstance(value, Held):
            own = value.value.ndim > 0 and len(value.value) == self.batch
            return _placed(value.value[rows.to(value.value.device)] if own else value.value, like)
        if isinstance(value, Tensor):
            return _placed(value, like)
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return like.dtype  # the precision of a cast is not part of the head
        return value


def _placed(value: Tensor, like: Tensor) -> Tensor:
    moved = value.to(like.device)
    moved = moved.to(like.dtype) if value.is_floating_point() else moved
    return moved.clone() if moved.is_inference() else moved


def _is_linear(call: Call) -> bool:
    """Tell whether a call is ``linear(slot, weight, bias)`` with constant weights."""
    if getattr(call.function, "__name__", "") != "linear" or len(call.args) < 2:
        return False
    rest = [*call.args[1:], *call.kwargs.values()]
    return (
        isinstance(call.args[0], Slot)
        and isinstance(rest[0], Tensor)
        and not any(isinstance(value, (Slot, Held)) for value in rest)
    )


_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


def _trains(call: Call) -> bool:
    """Tell whether a call works as in training; the flag is the third argument of dropout, the sixth of BatchNorm."""
    name = getattr(call.function, "__name__", "").rstrip("_")
    if name not in _DROPOUTS and name != "batch_norm":
        return False
    place = 5 if name == "batch_norm" else 2
    return bool(call.kwargs.get("training", call.args[place] if len(call.args) > place else name != "batch_norm"))


def _in_eval_mode(call: Call) -> Call:
    if getattr(call.function, "__name__", "") != "batch_norm":
        return replace(call, function=torch.clone, args=call.args[:1] or (call.kwargs["input"],), kwargs={})
    args = (*call.args[:5], False, *call.args[6:]) if len(call.args) > 5 else call.args
    kwargs = {**call.kwargs, "training": False} if len(call.args) <= 5 else call.kwargs
    return replace(call, args=args, kwargs=kwargs)
