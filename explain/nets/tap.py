"""Watch named layers during a forward pass, and leave no trace.

Values are clones: later in-place operations (DenseNet's ``F.relu(..., inplace=True)``, ResNet's
``out += identity``) do not reach them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from explain.errors import ModelError, near
from explain.nets.modes import eval_mode
from explain.nets.record import recording

__all__ = ["Stop", "Tap", "call_order", "check_layer", "count_calls", "cut", "edited", "listening", "stop_at"]


class Tap:
    """Keep the outputs of named layers of ``model`` from the forward pass inside the block.

    ``with Tap(model, ["layer3", "layer4"]) as tap: model(x)``, then ``tap["layer4"]``: detached, cloned.
    A layer called several times gives its last output. Names that no module owns (``features:relu``: the
    function ``relu`` on the output of ``features``) are accepted. State belongs to this object and to the
    thread that made it; hooks are removed when the block ends, also by an exception.

    Raises
    ------
    ModelError
        A layer name that the model does not have, or the output of a layer is not a tensor.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], *, clone: bool = True) -> None:
        self._model = model
        self._layers = tuple(layers)
        self._clone = clone
        self._values: dict[str, Tensor] = {}
        self._stack = ExitStack()
        for layer in self._layers:
            check_layer(model, layer)

    def __enter__(self) -> Self:
        self._stack.enter_context(listening(self._model, self._layers, self._keep))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._values:
            raise ModelError(f"layer {layer!r} gave no output: it was not tapped, or not reached by the forward pass")
        return self._values[layer]

    def __contains__(self, layer: str) -> bool:
        return layer in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def _keep(self, layer: str, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise ModelError(f"layer {layer!r} returns {type(output).__name__}, not a tensor: tap a layer inside it")
        with torch._C.DisableTorchFunction():  # else a recording would take the copy for a map of the model's
            self._values[layer] = output.detach().clone() if self._clone else output.detach()


@contextmanager
def listening(model: nn.Module, layers: Sequence[str], listen: Callable[[str, Any], Any]) -> Iterator[None]:
    """Call ``listen(layer, output)`` for what the layers give in this thread, inside the block.

    What it returns takes the output's place, unless it is None.
    """
    functions = [layer for layer in layers if ":" in layer]
    thread = threading.get_ident()

    def returned(layer: str) -> Callable[..., Any]:  # hooks also see the forward passes of other threads
        return lambda module, args, output: listen(layer, output) if threading.get_ident() == thread else None

    with ExitStack() as stack:
        for layer in layers:
            check_layer(model, layer)
            if layer not in functions:
                stack.callback(model.get_submodule(layer).register_forward_hook(returned(layer)).remove)
        if functions:
            named = recording(model, lambda name, value: listen(name, value) if name in functions else None)
            stack.enter_context(named)
        yield


def check_layer(model: nn.Module, layer: str) -> None:
    """Check that ``layer`` names a module, or a function on a module's output (``features:relu``).

    Raises
    ------
    ModelError
        Unknown name; near names are listed.
    """
    names = [name for name, _ in model.named_modules() if name]
    base, _, function = layer.partition(":")
    if base not in names and not (base == "" and function):  # ":relu" is a function in the model's own forward
        raise ModelError(f"the model has no layer {layer!r}{near(layer, names) or _some(names)}")


def _some(names: list[str]) -> str:
    tops = list(dict.fromkeys(name.split(".")[0] for name in names))
    return f"; it has {', '.join(tops[:8])}{', …' if len(tops) > 8 else ''} and what is inside them"


class Stop(Exception):  # not an error: it ends a forward pass once the layer's output is known
    """Ends a forward pass at a layer; carries the output."""

    def __init__(self, value: Tensor) -> None:
        super().__init__("stopped at a layer")
        self.value = value


def stop_at(model: nn.Module, layer: str, images: Tensor, *, call: int = 1) -> Tensor:
    """Run ``model`` on ``images`` as far as ``layer`` and return that output itself (not a clone, not detached).

    ``call``: at which call of the layer to stop; a shared module (one ReLU used everywhere) is called several times.
    """
    calls = 0

    def reached(_: str, value: Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Stop(value)

    try:
        with listening(model, [layer], reached):
            model(images)
    except Stop as stop:
        return stop.value
    raise ModelError(f"call {call} of layer {layer!r} was not reached by the forward pass")


def cut(model: nn.Module, layers: Sequence[str], run: Callable[[], Any]) -> tuple[dict[str, Tensor], Any]:
    """Run the network without graph as far as the first of ``layers``, and with it from there on.

    Returns each layer's output as a tensor to take derivatives for, and what ``run`` returned. The network goes on
    with clones, so that what it does in place does not reach them. A layer called several times gives its last
    output. Parameters may be frozen. To be called without graph; see `Tap` for names and threads.

    Raises
    ------
    ModelError
        A layer that the model does not have, that was not reached, or that gives no floating point tensor.
    """
    kept: dict[str, Tensor] = {}

    def swap(layer: str, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise ModelError(f"layer {layer!r} returns {type(output).__name__}, not a tensor: take a layer inside it")
        with torch._C.DisableTorchFunction():
            value = output if output.requires_grad else output.detach().clone().requires_grad_()
            torch.set_grad_enabled(True)  # until the block ends in which the graph was off
            kept[layer] = value
            return value.clone()

    with torch.no_grad(), listening(model, layers, swap):
        output = run()
    missing = [layer for layer in layers if layer not in kept]
    if missing:
        raise ModelError(f"layer {missing[0]!r} was not reached by the forward pass")
    return {layer: kept[layer] for layer in layers}, output


@contextmanager
def edited(
    model: nn.Module, layer: str, change: Callable[[Tensor], Tensor], *, call: int | None = None
) -> Iterator[None]:
    """Inside the block the network goes on with ``change(output)`` of a layer in the place of its output.

    In this thread only; the graph goes through ``change``. Hooks are removed when the block ends, also by an exception.

    Parameters
    ----------
    call
        Which output of the layer is changed in each forward pass of ``model`` (shared modules are called several
        times); every one where None.

    Raises
    ------
    ModelError
        A layer name that the model does not have, or whose output is not a tensor.
    """
    calls, thread = 0, threading.get_ident()

    def begin(*_: Any) -> None:
        nonlocal calls
        if threading.get_ident() == thread:
            calls = 0

    def swap(_: str, output: Any) -> Tensor | None:
        nonlocal calls
        calls += 1
        if not isinstance(output, Tensor):
            raise ModelError(f"layer {layer!r} returns {type(output).__name__}, not a tensor: take a layer inside it")
        return change(output) if call in (None, calls) else None

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(begin).remove)
        stack.enter_context(listening(model, [layer], swap))
        yield


def count_calls(model: nn.Module, layer: str, run: Callable[[], Any]) -> int:
    """Return how many times ``layer`` gives an output in one forward pass, which ``run`` makes.

    Raises
    ------
    ModelError
        A layer that the model does not have, or that is not reached.
    """
    calls = 0

    def count(_: str, value: Any) -> None:
        nonlocal calls
        calls += 1

    with eval_mode(model), torch.inference_mode(False), torch.no_grad(), listening(model, [layer], count):
        run()
    if calls == 0:
        raise ModelError(f"layer {layer!r} was not reached by the forward pass")
    return calls


def call_order(model: nn.Module, layers: Sequence[str], run: Callable[[], Any]) -> list[str]:
    """Return the names of ``layers`` in the order in which they give outputs in one forward pass, which ``run`` makes.

    A layer that is called several times is there as often; one that is not reached is not.

    Raises
    ------
    ModelError
        A layer that the model does not have.
    """
    found: list[str] = []

    def note(layer: str, value: Any) -> None:
        found.append(layer)

    with eval_mode(model), torch.inference_mode(False), torch.no_grad(), listening(model, layers, note):
        run()
    return found
