"""Record a forward pass: which tensor was the last spatial map, what it is called, and what came after it.

Recording rides on the user's own forward pass. A ``TorchFunctionMode`` sees the torch functions of this
thread, module hooks say whose output a tensor is. Each new spatial tensor ``(b, c, h, w)`` replaces the last
one, so no more than one activation is held; the calls after the last one are the *head* and can be replayed.
With ``at`` the map is the output of a named layer, and all after it is the head. Inside modules that turn a map into a
map (`gives_map`) nothing is looked at, which is most of a network.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode, _push_mode

from explain.errors import ModelError
from explain.maps import Cells
from explain.nets.calls import tree_leaves
from explain.nets.head import Head
from explain.nets.layout import Layout, Seen
from explain.nets.leaves import gives_map, is_spatial, repeated_blocks
from explain.nets.lineage import Lineage
from explain.nets.outputs import OutputSpec, logits_of
from explain.nets.receptive import Centres
from explain.nets.tape import Tape
from explain.nets.traced import NoHead, Spot, Trace

__all__ = ["Recorder", "recording"]


class Recorder(TorchFunctionMode):
    """Watches one forward pass; ``trace(output)`` gives the result. Use it through `recording`."""

    def __init__(
        self,
        on_name: Callable[[str, Tensor], Tensor | None] | None = None,
        at: Spot | None = None,
        *,
        follow: bool = False,
        blocks: frozenset[type[nn.Module]] = frozenset(),
        owned: Callable[[Tensor], bool] = lambda tensor: False,
    ) -> None:
        super().__init__()
        self._on_name = on_name
        self._at = at
        self._reached = False
        self._centres = Centres() if follow else None
        self.cells: Cells | None = None
        """Where the cells of the layer asked for look, where that was followed and is known."""
        self._image: tuple[int, int] = (1, 1)
        self._seen = Seen((1, 1), 0)
        self._layout: Layout | None = None
        self._lineage = Lineage()
        self._thread = threading.get_ident()
        self._stack: list[str] = []
        # A layer that is named after a function, and what follows every tensor, need all functions.
        self._may_rest = on_name is None and not follow and (at is None or ":" not in at.layer)
        self._resting = ""
        self._rests_on_images = False
        self._blocks, self._owned = blocks, owned
        self.missed = False
        """A block was not what it was taken for: the pass has to be recorded again, without ``blocks``."""
        self._tape = Tape()
        self._map: Tensor | None = None
        self._value: Tensor | None = None
        self._name = ""
        self._candidates: dict[str, tuple[int, int, int]] = {}
        self._owners: list[str] = []
        self._calls_of: defaultdict[str, int] = defaultdict(int)

    # --- torch functions ------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # Only what the model itself computes: not the user's own tensors between two forward passes.
        if threading.get_ident() != self._thread or not self._stack:
            return result
        if self._centres is not None:
            self._centres.note(func, args, kwargs, result)
        if self._blocks and not self.missed:
            self.missed = self._lineage.strangers(args, kwargs, self._owned)
        if isinstance(result, Tensor):
            self._lineage.note(args, kwargs, (result,))
            if is_spatial(result) and not self._reached:
                return self._new_map(func, args, result)
            if self._map is not None:
                self._record(func, args, kwargs, (result,), single=True)
        elif isinstance(result, (tuple, list)) and any(isinstance(r, Tensor) for r in result):
            self._lineage.note(args, kwargs, tuple(result))
            self._record(func, args, kwargs, tuple(result), single=False)
        elif getattr(func, "__name__", "") == "__setitem__":  # works in place and returns nothing
            self._lineage.note(args[1:], kwargs, args[:1] if self._lineage.has(args[1:]) else ())
            self._record(func, args, kwargs, (), single=False)
        return result

    def _new_map(self, func: Any, args: tuple[Any, ...], result: Tensor) -> Tensor:
        last = self._map
        follows = last is not None and (args[0] is last or any(value is last for value in args[1:]))
        base = self._name if follows else self._stack[-1]
        name = f"{base}:{getattr(func, '__name__', 'function').rstrip('_')}"
        self._calls_of[name] += 1
        self._start(result)
        result = self._set_name(name)
        if self._is_wanted(name):
            self._layout = self._seen.layout(result.shape)
            self._fix()
        return result

    def _is_wanted(self, name: str) -> bool:
        """Tell whether this call of ``name`` is the one whose output was asked for."""
        at = self._at
        return at is not None and at.layer == name and at.call == self._calls_of[name]

    def _start(self, feature_map: Tensor) -> None:
        """Take a tensor for the map: what comes after it is the head."""
        self._map = feature_map
        self._owners.clear()
        self._tape.start(feature_map)

    def _fix(self) -> None:
        """Keep the map that was asked for; later calls may work on it in place."""
        self._reached = True
        if self._centres is not None and self._map is not None and self._layout is not None:
            self.cells = self._centres.of(self._map, self._layout.grid)
        with torch._C.DisableTorchFunction():
            self._value = self._map.detach().clone() if self._map is not None else None

    def _record(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: tuple[Any, ...], *, single: bool
    ) -> None:
        batch = self._map.shape[0] if self._map is not None else 0
        self._tape.record(func, args, kwargs, results, single=single, batch=batch, lineage=self._lineage)

    # --- modules --------------------------------------------------------------------------------------

    def enter_pass(self, inputs: Any) -> None:
        """Note that a forward pass of the network begins, with all its inputs (called by a hook)."""
        if not self.here:
            return
        self._calls_of.clear()
        self._reached = False
        given = [value for value in tree_leaves(inputs) if isinstance(value, Tensor)]
        self._lineage.start(given)
        images = next((value for value in given if value.ndim == 4 and value.is_floating_point()), None)
        if images is not None:
            self._image = (images.shape[2], images.shape[3])
            self._seen = Seen(self._image, len(images))
            if self._centres is not None:
                self._centres.start(images)
        self._stack.append("")

    def enter_module(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note that the forward of module ``name`` begins (called by a hook), and do not look inside it if it rests.

        Its output says all where it turns a map into a map.
        """
        if self._resting or not self.here:
            return
        self._stack.append(name)
        if self._may_rest and not self._reached and _get_current_function_mode() is self:
            with torch._C.DisableTorchFunction():  # to read a shape is no part of the pass
                rests = gives_map(module, inputs, self._blocks)
            if rests:
                self._resting, self._rests_on_images = name, self._lineage.has(inputs)
                _pop_mode()

    def wake(self) -> None:
        """See torch functions again."""
        if self._resting:
            self._resting, self._rests_on_images = "", False
            _push_mode(self)

    @property
    def here(self) -> bool:
        """True in the thread whose forward passes are recorded."""
        return threading.get_ident() == self._thread

    def leave_module(self, name: str, output: Any) -> None:
        """Note that module ``name`` returned ``output`` (None: it raised); it owns the map if it returned it."""
        if not self.here:
            return
        self._calls_of[name] += 1
        if self._resting not in ("", name):
            return  # inside a module that is not looked into
        while self._stack and self._stack.pop() != name:
            pass  # modules left by an exception before their hooks could say so
        if self._resting:
            if isinstance(output, Tensor) and is_spatial(output):
                if self._rests_on_images:
                    self._lineage.add(output)
                self._start(output)
            else:
                self.missed = True
            self.wake()
        if self._reached or not name or not isinstance(output, Tensor):
            return
        if self._at is not None:
            self._note_wanted(name, output)
        if not self._reached and output is self._map:
            self._set_name(name)
            self._owners.append(name)
            with torch._C.DisableTorchFunction():  # to read a shape is no part of the pass
                channels, height, width = output.shape[1:]
            self._candidates[name] = (channels, height, width)

    def _note_wanted(self, name: str, output: Tensor) -> None:
        """Keep the output if it is the one that was asked for; its layout depends on what was seen before it."""
        layout = self._seen.note(output.shape)
        if self._is_wanted(name):
            self._layout = layout
            if output is not self._map:
                self._start(output)
            self._owners.append(name)
            self._name = name
            self._fix()

    def _set_name(self, name: str) -> Tensor:
        """Name the map, and let the one who listens put another tensor in its place."""
        assert self._map is not None
        self._name = name
        changed = self._on_name(name, self._map) if self._on_name is not None else None
        if changed is not None and changed is not self._map:
            self._start(changed)
        return self._map

    # --- result ---------------------------------------------------------------------------------------

    def trace(self, output: Any, which: OutputSpec = None) -> Trace:
        """Return the trace of the forward pass that gave ``output``; ``which`` part of it holds the logits.

        Raises
        ------
        ModelError
            The output holds no logits tensor ``(b, classes)``, or no spatial map was seen before it.
        """
        logits = logits_of(output, which)
        columns = logits[:, None] if logits.ndim == 1 else logits
        if self._at is not None and not self._reached:
            raise ModelError(f"call {self._at.call} of layer {self._at.layer!r} was not reached by the forward pass")
        if self._map is None:
            raise NoHead(
                "no spatial feature map was seen in the forward pass (a compiled or scripted model? then give"
                " the original module; a model without images? then there is nothing to map)"
            )
        slot = self._tape.slot(logits)
        if slot is None:
            raise NoHead(
                f"the output does not come from the last spatial map ({self._name}): explain cannot tell the head"
                " from the trunk; wrap the model so that it returns the logits of one classifier"
            )
        if logits.shape[0] != self._map.shape[0]:
            raise ModelError(f"the output has batch {logits.shape[0]}, the map at {self._name} {self._map.shape[0]}")
        value, layout = self._placed()
        prefixed = layout is not None and layout.prefix > 0
        head = Head(
            self._tape.calls(slot),
            slot,
            layout,
            original=value[:, : layout.prefix].detach().clone() if layout is not None and prefixed else None,
            batch=len(value),
        )
        candidates, owners = tuple(self._candidates.items()), tuple(self._owners)
        return Trace(
            self._name,
            value.detach() if layout is None else layout.to_map(value.detach()),
            head,
            columns.detach(),
            candidates,
            owners,
            self._calls_of[self._name] if self._at is None else self._at.call,
            self._at,
        )

    def _placed(self) -> tuple[Tensor, Layout | None]:
        """Return the map as the layer gave it, and its layout where that is not plainly ``(b, c, h, w)``."""
        if self._at is None:
            assert self._map is not None
            return self._map, None
        assert self._value is not None
        layout = self._layout
        if layout is None:
            raise ModelError(
                f"layer {self._name!r} gives a tensor of shape {tuple(self._value.shape)} for images of"
                f" {self._image[0]} x {self._image[1]}: that is no map (b, c, h, w), (b, h, w, c) or tokens (b, n, c)"
            )
        return self._value, None if layout.kind == "nchw" else layout


@contextmanager
def recording(
    model: nn.Module,
    on_name: Callable[[str, Tensor], Tensor | None] | None = None,
    at: Spot | None = None,
    *,
    follow: bool = False,
    blocks: bool = False,
) -> Iterator[Recorder]:
    """Record the forward passes of ``model`` made by this thread inside the block; hooks go with it.

    ``on_name(name, map)`` is called for each spatial tensor as it gets a name, and may return another to go on with
    (honoured for the names of functions). ``at``: the layer whose output is the map, instead of the last spatial one.
    ``follow``: find out where its cells look as well (`Recorder.cells`). ``blocks``: do not look into repeated blocks
    either, which `Recorder.missed` may ask to do after all; candidates and owners lack what is inside them.
    """

    def owned(tensor: Tensor) -> bool:
        return isinstance(tensor, nn.Parameter) or any(tensor is one for one in model.buffers())

    kinds = repeated_blocks(model) if blocks and at is None else frozenset()
    recorder = Recorder(on_name, at, follow=follow, blocks=kinds, owned=owned)
    names = {module: name for name, module in model.named_modules() if module is not model}

    def entering(module: nn.Module, args: Any) -> None:
        if module in names:
            recorder.enter_module(names[module], module, args)

    def leaving(module: nn.Module, args: Any, output: Any) -> None:
        if module in names:
            recorder.leave_module(names[module], output)

    with ExitStack() as stack:
        # Two hooks for all modules: to put two on each and take them off costs as much as watching them.
        stack.callback(register_module_forward_pre_hook(entering).remove)
        stack.callback(register_module_forward_hook(leaving, always_call=True).remove)
        before = model.register_forward_pre_hook(
            lambda module, args, kwargs: recorder.enter_pass((args, kwargs)), with_kwargs=True
        )
        stack.callback(before.remove)
        after = model.register_forward_hook(
            lambda module, args, output: recorder.leave_module("", output), always_call=True
        )
        stack.callback(after.remove)
        stack.enter_context(recorder)
        stack.callback(recorder.wake)  # an interrupt inside a module calls no hook
        yield recorder
