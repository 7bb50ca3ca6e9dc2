"""What a network returns, and the tensor in it that is explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from explain.errors import InputError, ModelError, near

__all__ = ["OutputSpec", "logits_of", "pick"]

OutputSpec = str | int | Callable[[Any], Any] | None
"""Which part of the output: a key or attribute, a place in a tuple, a function of it; None: the logits."""

_USUAL = ("logits", "out", "logits_per_image")


def pick(output: Any, which: OutputSpec = None) -> Any:
    """Return the part of a model's output that ``which`` names; for None the tensor that holds the scores.

    That is the output itself if it is a tensor, an entry or attribute ``logits``, ``out`` (torchvision's segmentation
    models) or ``logits_per_image`` (CLIP), or the first tensor of a tuple; anything else is returned as it is.

    Raises
    ------
    InputError
        The output has no such part; those it has are listed.
    """
    if which is None:
        return _usual(output)
    if callable(which):
        return which(output)
    if isinstance(which, int):
        if not isinstance(output, Sequence) or not -len(output) <= which < len(output):
            raise InputError(f"output={which}: the model returns {_described(output)}")
        return output[which]
    if isinstance(output, Mapping) and which in output:
        return output[which]
    if isinstance(getattr(output, which, None), Tensor):
        return getattr(output, which)
    raise InputError(f"output={which!r}: the model returns {_described(output)}{near(which, _parts(output))}")


def _usual(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output
    for name in _USUAL:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    return output


def logits_of(output: Any, which: OutputSpec = None) -> Tensor:
    """Return the logits ``(b, classes)`` in a model's output, or one number per image ``(b,)``; see `pick`.

    Raises
    ------
    ModelError
        There are none; the message names what there is.
    """
    found = pick(output, which)
    if not isinstance(found, Tensor):
        raise ModelError(
            f"the model returns {_described(output)}, not a tensor of logits (batch, classes): say which part holds"
            " them with output=..., or give classes= as a function of the output"
        )
    if found.ndim not in (1, 2):
        raise ModelError(
            f"the model returns a tensor of shape {tuple(found.shape)}, not logits (batch, classes): use"
            " explain.attribute with layer=, and classes= as a function of the output that returns one number per image"
            " (see explain.saliency.targets)"
        )
    return found


def _parts(output: Any) -> list[str]:
    if isinstance(output, Mapping):
        return [str(key) for key in output]
    return [name for name in vars(output) if not name.startswith("_")] if hasattr(output, "__dict__") else []


def _described(output: Any) -> str:
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {len(output)}"
    parts = _parts(output)
    return f"{type(output).__name__}{' with ' + ', '.join(parts[:8]) if parts else ''}"
