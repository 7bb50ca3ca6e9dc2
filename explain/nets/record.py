"""Record a forward pass: which tensor was the last spatial map, what it is called, and what came after it.

Recording rides on the user's own forward pass. A ``TorchFunctionMode`` sees every torch function of this
thread, module hooks say whose output a tensor is. Each new spatial tensor ``(b, c, h, w)`` replaces the last
one, so no more than one activation is held; the calls after the last one are the *head* and can be replayed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explain.errors import ExplainError, ModelError
from explain.nets.head import Call, Head, Slot, map_tree, symbolic_batch, tree_leaves

__all__ = ["Recorder", "Trace", "eval_mode", "naming_errors", "recording"]

_RESHAPES = frozenset({"view", "reshape", "expand", "unflatten", "view_as", "resize"})
_CASTS = frozenset({"float", "double", "half", "bfloat16"})


@dataclass(frozen=True)
class Trace:
    """One recorded forward pass: the last spatial map, its name, the head after it, the logits."""

    layer: str
    map: Tensor
    """``(b, c, h, w)``, detached."""
    head: Head
    logits: Tensor
    """``(b, classes)``, detached."""
    candidates: tuple[tuple[str, tuple[int, int, int]], ...]
    """Modules with a spatial output in order of execution: name and (channels, height, width)."""
    owners: tuple[str, ...] = ()
    """All modules that returned the map, the innermost first."""
    call: int = 1
    """How many times the layer was called up to the map: shared modules are called several times."""


class Recorder(TorchFunctionMode):
    """Watches one forward pass; ``trace(output)`` gives the result. Use it through `recording`."""

    def __init__(self, on_name: Callable[[str, Tensor], None] | None = None) -> None:
        super().__init__()
        self._on_name = on_name
        self._thread = threading.get_ident()
        self._stack: list[str] = []
        self._alive: list[Any] = []  # keeps ids unique while the head is recorded
        self._slots: dict[int, int] = {}
        self._calls: list[Call] = []
        self._count = 0
        self._map: Tensor | None = None
        self._name = ""
        self._candidates: dict[str, tuple[int, int, int]] = {}
        self._owners: list[str] = []
        self._calls_of: Counter[str] = Counter()

    # --- torch functions ------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # Only what the model itself computes: not the user's own tensors between two forward passes.
        if threading.get_ident() != self._thread or not self._stack:
            return result
        if isinstance(result, Tensor):
            if _is_spatial(result):
                self._new_map(func, args, result)
            elif self._map is not None:
                self._record(func, args, kwargs, (result,), single=True)
        elif isinstance(result, (tuple, list)) and any(isinstance(r, Tensor) for r in result):
            self._record(func, args, kwargs, tuple(result), single=False)
        return result

    def _new_map(self, func: Any, args: tuple[Any, ...], result: Tensor) -> None:
        follows = self._map is not None and any(value is self._map for value in tree_leaves(args))
        base = self._name if follows else (self._stack[-1] if self._stack else "")
        self._map = result
        self._owners.clear()
        name = f"{base}:{getattr(func, '__name__', 'function').rstrip('_')}"
        self._calls_of[name] += 1
        self._set_name(name)
        self._calls.clear()
        self._alive.clear()
        self._slots = {id(result): 0}
        self._count = 0

    def _record(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        results: tuple[Any, ...],
        *,
        single: bool,
    ) -> None:
        inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if not any(id(value) in self._slots for value in inputs):
            return
        batch = self._map.shape[0] if self._map is not None else 0

        def template(value: Any) -> Any:
            if isinstance(value, Tensor) and id(value) in self._slots:
                return Slot(self._slots[id(value)])
            return value.detach() if isinstance(value, Tensor) else value

        name = getattr(func, "__name__", "")
        if name == "squeeze" and len(args) == 1 and not kwargs:
            args = (args[0], tuple(axis for axis in range(args[0].ndim) if args[0].shape[axis] == 1))
        args = map_tree(args, template)
        if name in _RESHAPES:
            args = symbolic_batch(args, batch)
        if name in _CASTS:
            func, args, kwargs = Tensor.clone, args[:1], {}
        numbers = tuple(
            self._count + 1 + place if isinstance(result, Tensor) else None for place, result in enumerate(results)
        )
        self._count += len(results)
        self._calls.append(Call(func, args, map_tree(kwargs, template), numbers, single))
        self._alive.append(results)
        self._slots.update({id(result): n for result, n in zip(results, numbers, strict=True) if n is not None})

    # --- modules --------------------------------------------------------------------------------------

    def enter_module(self, name: str) -> None:
        """Note that the forward of module ``name`` begins (called by a hook)."""
        if threading.get_ident() == self._thread:
            if not name:
                self._calls_of.clear()  # a new forward pass
            self._stack.append(name)

    @property
    def here(self) -> bool:
        """True in the thread whose forward passes are recorded."""
        return threading.get_ident() == self._thread

    def leave_module(self, name: str, output: Any) -> None:
        """Note that module ``name`` returned ``output`` (None: it raised); it owns the map if it returned it."""
        if threading.get_ident() != self._thread:
            return
        while self._stack and self._stack.pop() != name:
            pass  # modules left by an exception before their hooks could say so
        self._calls_of[name] += 1
        if name and output is self._map and self._map is not None:
            self._set_name(name)
            self._owners.append(name)
            channels, height, width = self._map.shape[1:]
            self._candidates[name] = (channels, height, width)

    def _set_name(self, name: str) -> None:
        self._name = name
        if self._on_name is not None and self._map is not None:
            self._on_name(name, self._map)

    # --- result ---------------------------------------------------------------------------------------

    def trace(self, output: Any) -> Trace:
        """Return the trace of the forward pass that gave ``output``.

        Raises
        ------
        ModelError
            The output is no logits tensor ``(b, classes)``, or no spatial map was seen before it.
        """
        logits = logits_of(output)
        if self._map is None:
            raise ModelError(
                "no spatial feature map was seen in the forward pass (a compiled or scripted model? then give"
                " the original module; a model without images? then there is nothing to map)"
            )
        if id(logits) not in self._slots:
            raise ModelError(
                f"the output does not come from the last spatial map ({self._name}): explain cannot tell the head"
                " from the trunk; wrap the model so that it returns the logits of one classifier"
            )
        if logits.shape[0] != self._map.shape[0]:
            raise ModelError(f"the output has batch {logits.shape[0]}, the map at {self._name} {self._map.shape[0]}")
        head = Head(tuple(self._calls), self._slots[id(logits)])
        candidates, owners = tuple(self._candidates.items()), tuple(self._owners)
        return Trace(
            self._name,
            self._map.detach(),
            head,
            logits.detach(),
            candidates,
            owners,
            self._calls_of[self._name],
        )


def logits_of(output: Any) -> Tensor:
    """Return the logits ``(b, classes)`` in a model's output: a tensor, or an object's ``logits``.

    Raises
    ------
    ModelError
        Anything else; the message names the type.
    """
    found = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        raise ModelError(
            f"the model returns {type(output).__name__}, not a tensor of logits (batch, classes):"
            " wrap it in a module that returns the logits"
        )
    if found.ndim != 2:
        raise ModelError(
            f"the model returns a tensor of shape {tuple(found.shape)}, not logits (batch, classes):"
            " explain needs a classifier"
        )
    return found


@contextmanager
def recording(model: nn.Module, on_name: Callable[[str, Tensor], None] | None = None) -> Iterator[Recorder]:
    """Record the forward passes of ``model`` made by this thread inside the block; hooks go with it."""
    recorder = Recorder(on_name)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            before = module.register_forward_pre_hook(_entering(recorder, name))
            stack.callback(before.remove)
            after = module.register_forward_hook(_leaving(recorder, name), always_call=True)
            stack.callback(after.remove)
        stack.enter_context(recorder)
        yield recorder


def _entering(recorder: Recorder, name: str) -> Callable[..., None]:
    return lambda module, args: recorder.enter_module(name)


def _leaving(recorder: Recorder, name: str) -> Callable[..., None]:
    return lambda module, args, output: recorder.leave_module(name, output)


@dataclass
class _Modes:
    """The modes that modules had before the first of several blocks put the model into eval mode."""

    before: list[tuple[nn.Module, bool]]
    users: int = 0


_MODES: WeakKeyDictionary[nn.Module, _Modes] = WeakKeyDictionary()
_MODES_LOCK = threading.Lock()


@contextmanager
def naming_errors(images: Tensor) -> Iterator[None]:
    """Turn what the user's own network raises on ``images`` into one line that says so.

    Raises
    ------
    ModelError
        Anything that is no error of explain's own; a graphic card's lack of memory says what to do.
    """
    try:
        yield
    except ExplainError:
        raise
    except torch.cuda.OutOfMemoryError:
        raise ModelError(
            f"the device has too little memory for a batch of {len(images)}: lower the batch size"
        ) from None
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        kind, dtype = f"{type(error).__name__}: {lines[0]}", str(images.dtype).removeprefix("torch.")
        raise ModelError(
            f"the network fails on an input of {tuple(images.shape)} {dtype} ({kind}):"
            " check channels, input size and device"
        ) from error


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run the block with every module in eval mode and RNG apart; give each module its own mode back.

    Blocks of several threads on one model share the change: the last one to leave undoes it.
    """
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        with _MODES_LOCK:
            modes = _MODES.setdefault(model, _Modes([]))
            if modes.users == 0:
                modes.before = [(module, module.training) for module in model.modules()]
            modes.users += 1
            for module, _ in modes.before:
                module.training = False
        try:
            yield
        finally:
            with _MODES_LOCK:
                modes.users -= 1
                if modes.users == 0:
                    for module, training in modes.before:
                        module.training = training
                    _MODES.pop(model, None)


def _is_spatial(value: Tensor) -> bool:
    return value.ndim == 4 and min(value.shape[2:]) > 1 and value.is_floating_point()
