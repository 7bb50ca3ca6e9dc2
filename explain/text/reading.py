"""From sentence pairs to the values of a layer's units: one number per unit and pair.

=====================  =================================================================================================
the layer's output     a unit's value
=====================  =================================================================================================
vectors ``(b, u)``     as it is: neurons of an MLP, pooled states
a recurrent layer      its last state, of the last layer and both directions; where it reads premise and hypothesis
(LSTM, GRU, RNN)       one after the other, units 0 … n-1 are the premise's and n … 2n-1 the hypothesis'
tokens ``(b, t, u)``   of the first token, or the largest over the tokens (``tokens="first"`` or ``"max"``)
=====================  =================================================================================================

The network is in eval mode. It never sees a padded pair, unless ``tokenize`` pads a single one: padding changes what a
backward LSTM or an unmasked pooling gives. Pairs of equal shapes go through it 32 at a time, the last ones filled up:
the bits of a matrix product depend on how many rows it has, so the number of rows is always the same, and a pair's bits
depend neither on how many pairs are asked for at once nor on which others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.data.pairs import LABELS
from explain.distributed import ALONE, World
from explain.errors import InputError, ModelError
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.outputs import logits_of
from explain.nets.tap import check_layer, listening
from explain.text.models import Batch, SentencePairModel

__all__ = ["ROWS", "Reading", "Texts", "Tokens", "class_weights", "default_layer", "predict", "read_units"]

ROWS = 32
"""Pairs in every forward pass."""
HELD = 1 << 13
"""Pairs whose tensors are held at one time."""

Tokens = Literal["first", "max"]
Texts = Sequence[tuple[str, str]]
"""(premise, hypothesis) of each pair."""
Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Reading:
    """What one pass over the pairs gives."""

    values: Floats
    """float32 ``(N, U)``: of each unit on each pair."""
    logits: Floats
    """float32 ``(N, 3)``, in the order of `LABELS`."""


def read_units(
    model: SentencePairModel,
    texts: Texts,
    layer: str,
    *,
    tokens: Tokens = "first",
    batch_size: int = HELD,
    world: World = ALONE,
    progress: Progress = lambda done, total: None,
) -> Reading:
    """Return the values of a layer's units and the logits on every pair.

    ``batch_size``: pairs that are held at one time; the bits do not depend on it.

    Raises
    ------
    ModelError
        An unknown layer, an output that has no units, values that are not numbers, or other classes than three.
    InputError
        ``tokens`` is unknown.
    """
    if tokens not in get_args(Tokens):
        raise InputError(f"unknown tokens {tokens!r}: use 'first' or 'max'")
    check_layer(model.module, layer)
    found: list[tuple[list[int], Tensor, Tensor]] = []  # numbers, values, logits
    for numbers, batch in _blocks(model, texts, world, progress, batch_size):
        outputs: list[tuple[str, Any]] = []
        logits = _run(model, batch, [layer], _keeping(outputs))
        values = _values(model.module, layer, [value for _, value in outputs], tokens)
        found.append((numbers, values[: len(numbers)].cpu(), logits[: len(numbers)].cpu()))
    parts = [part for own in world.gather(found) for part in own]
    order = [number for numbers, _, _ in parts for number in numbers]
    values, logits = torch.cat([part[1] for part in parts]), torch.cat([part[2] for part in parts])
    place = np.argsort(np.array(order, np.int64))
    reading = Reading(values.numpy()[place], logits.numpy()[place])
    wrong = np.flatnonzero(np.isnan(reading.values).any(0))
    if len(wrong):
        raise ModelError(f"unit {wrong[0]} of layer {layer!r} gives NaN: check the weights and the precision")
    return reading


def predict(model: SentencePairModel, texts: Texts) -> NDArray[np.int64]:
    """Return int64 ``(N,)``: the predicted class of each pair, a place in `LABELS`; the first of equal ones."""
    answers = np.zeros(len(texts), np.int64)
    for numbers, batch in _blocks(model, texts, ALONE, lambda done, total: None):
        logits = _run(model, batch, [], _keeping([]))
        answers[numbers] = logits[: len(numbers)].argmax(1).cpu().numpy()
    return answers


def default_layer(model: SentencePairModel, texts: Texts) -> str:
    """Return the model's own default layer, else the one whose output the last linear layer reads.

    Raises
    ------
    ModelError
        None is known.
    """
    if model.layer is not None:
        return model.layer
    _, batch = next(_blocks(model, texts[:1], ALONE, lambda done, total: None))
    head, inputs, outputs = _last_linear(model, batch)
    if head is not None:
        for name, value in outputs:  # the first one: dropout, which changes nothing here, comes after it
            if value.shape == inputs.shape and torch.equal(value, inputs):
                return name
    raise ModelError(f"{model.name} has no last linear layer to three classes that reads a layer: name a layer")


def class_weights(model: SentencePairModel, texts: Texts, layer: str, *, tokens: Tokens = "first") -> Floats | None:
    """Return float32 ``(3, U)``: the weights of a layer's units in the last linear layer, by class of `LABELS`.

    None where the last linear layer does not read just these units.
    """
    _, batch = next(_blocks(model, texts[:1], ALONE, lambda done, total: None))
    kept: list[tuple[str, Any]] = []
    _run(model, batch, [layer], _keeping(kept))
    values = _values(model.module, layer, [value for _, value in kept], tokens)
    head, inputs, _ = _last_linear(model, batch)
    if head is None or inputs.shape != values.shape or not torch.equal(inputs.float(), values):
        return None
    return head.weight.detach().float().cpu().numpy()[model.order]


# --- batches ----------------------------------------------------------------------------------------------------


def _blocks(
    model: SentencePairModel, texts: Texts, world: World, progress: Progress, batch_size: int = HELD
) -> Iterator[tuple[list[int], Batch]]:
    """Yield this process's blocks: the pairs' numbers, and a batch of `ROWS` rows that begins with them."""
    own = world.share(len(texts), batch_size)
    done = 0
    for begin in range(own.start, own.stop, batch_size):
        groups: dict[Any, list[tuple[int, Batch]]] = {}
        for number in range(begin, min(begin + batch_size, own.stop)):
            batch = _tokenized(model, texts[number])
            groups.setdefault(tuple(part.shape for part in _parts(batch)), []).append((number, batch))
        for rows in groups.values():
            for start in range(0, len(rows), ROWS):
                block = rows[start : start + ROWS]
                filled = [batch for _, batch in block] + [block[-1][1]] * (ROWS - len(block))
                yield [number for number, _ in block], _placed(model, _stacked(filled))
                done += len(block)
                progress(done, len(own))


def _tokenized(model: SentencePairModel, text: tuple[str, str]) -> Batch:
    try:
        batch = model.tokenize([text[0]], [text[1]])
    except Exception as error:  # the user's own code
        raise ModelError(
            f"tokenize of {model.name} failed on {text[0]!r}, {text[1]!r} ({type(error).__name__}: {error})"
        ) from error
    parts = _parts(batch)
    if not parts or any(not isinstance(part, Tensor) or part.ndim == 0 or len(part) != 1 for part in parts):
        shown = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
        raise ModelError(f"tokenize of {model.name} gives {shown} for one pair: tensors whose first axis is the pairs")
    return batch


def _parts(batch: Batch) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    return list(batch.values()) if isinstance(batch, Mapping) else list(batch)


def _rebuilt(batch: Batch, parts: list[Tensor]) -> Batch:
    if isinstance(batch, Tensor):
        return parts[0]
    return dict(zip(batch, parts, strict=True)) if isinstance(batch, Mapping) else tuple(parts)


def _stacked(batches: list[Batch]) -> Batch:
    columns = zip(*(_parts(batch) for batch in batches), strict=True)
    return _rebuilt(batches[0], [torch.cat(column) for column in columns])


def _placed(model: SentencePairModel, batch: Batch) -> Batch:
    device = model.subject.device
    return _rebuilt(batch, [part.to(device) for part in _parts(batch)])


# --- the network ------------------------------------------------------------------------------------------------


def _run(model: SentencePairModel, batch: Batch, layers: Sequence[str], listen: Callable[[str, Any], None]) -> Tensor:
    """Return the logits ``(b, 3)`` in the order of `LABELS`; what the layers give is told to ``listen``."""
    module = model.module
    listened = listening(module, layers, listen)
    with eval_mode(module), torch.no_grad(), naming_errors(_parts(batch)[0]), listened:
        if isinstance(batch, Tensor):
            output = module(batch)
        else:
            output = module(**batch) if isinstance(batch, Mapping) else module(*batch)
    logits = logits_of(output)
    if logits.ndim != 2 or logits.shape[1] != len(LABELS):
        raise ModelError(
            f"{model.name} gives {tuple(logits.shape)} for {ROWS} pairs: the data have {len(LABELS)} classes"
            f" ({', '.join(LABELS)}), so it must give ({ROWS}, {len(LABELS)})"
        )
    return logits[:, model.order].float()


def _keeping(found: list[tuple[str, Any]]) -> Callable[[str, Any], None]:
    """Return a listener that adds what layers give; copies, as the network may go on with them in place."""

    def listen(name: str, value: Any) -> None:
        found.append((name, value.detach().clone() if isinstance(value, Tensor) else value))

    return listen


def _values(module: nn.Module, layer: str, outputs: list[Any], tokens: Tokens) -> Tensor:
    """Return float32 ``(b, u)`` of what a layer gave in one forward pass."""
    if not outputs:
        raise ModelError(f"layer {layer!r} was not reached by the forward pass")
    if ":" not in layer and isinstance(module.get_submodule(layer), nn.RNNBase):
        return torch.cat([_last_state(module.get_submodule(layer), one) for one in outputs], 1).float()
    value = outputs[-1]
    if not isinstance(value, Tensor):
        raise ModelError(f"layer {layer!r} returns {type(value).__name__}, not a tensor: take a layer inside it")
    if value.ndim == 3:
        value = value[:, 0] if tokens == "first" else value.amax(1)
    if value.ndim != 2 or len(value) != ROWS or not value.is_floating_point():
        raise ModelError(
            f"layer {layer!r} gives {tuple(value.shape)} {value.dtype} for {ROWS} pairs: units need vectors (b, units)"
            " or tokens (b, t, units)"
        )
    return value.float()


def _last_state(module: nn.Module, output: Any) -> Tensor:
    """Return the last state ``(b, directions * hidden)`` of a recurrent module's last layer."""
    state = output[1][0] if isinstance(output[1], tuple) else output[1]
    directions = 2 if module.bidirectional else 1
    last: Tensor = state[-directions:]
    return last.transpose(0, 1).flatten(1)


def _last_linear(model: SentencePairModel, batch: Batch) -> tuple[nn.Linear | None, Tensor, list[tuple[str, Tensor]]]:
    """Return the last linear layer to the classes that is run, its input, and the vectors that came before it."""
    module = model.module
    names = [name for name, _ in module.named_modules() if name]
    seen: list[tuple[str, Any]] = []
    given: list[tuple[nn.Linear, Tensor]] = []
    heads = [one for one in module.modules() if isinstance(one, nn.Linear) and one.out_features == len(LABELS)]
    hooks = [
        one.register_forward_pre_hook(lambda linear, inputs: given.append((linear, inputs[0].detach().clone())))
        for one in heads
    ]
    try:
        _run(model, batch, names, _keeping(seen))
    finally:
        for hook in hooks:
            hook.remove()
    vectors = [(name, value) for name, value in seen if isinstance(value, Tensor) and value.ndim == 2]
    return (*given[-1], vectors) if given else (None, torch.zeros(0), vectors)
