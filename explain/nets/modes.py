"""Run the user's network in eval mode, with its random numbers apart, and turn what it raises into one line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from explain.errors import ExplainError, ModelError

__all__ = ["eval_mode", "is_compiled", "naming_errors"]


@dataclass
class _Mode:
    """The mode that a module had before the first of several blocks put it into eval mode."""

    training: bool
    users: int = 0


_MODES: WeakKeyDictionary[nn.Module, _Mode] = WeakKeyDictionary()
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


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module was compiled: wrapped by ``torch.compile``, or in place by its own ``compile``."""
    return "_orig_mod" in module._modules or module.__dict__.get("_compiled_call_impl") is not None


def _uncompiled(model: nn.Module) -> AbstractContextManager[object]:
    if not any(is_compiled(module) for module in model.modules()):
        return nullcontext()  # the stance is torch's compiler's, whose import takes a second
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run the block with every module in eval mode and RNG apart; give each module its own mode back.

    Compiled modules run uncompiled: what a compiled forward pass does cannot be looked into.
    Blocks of several threads on one model, or on one that contains it, share the change: the last one to leave undoes
    it, module by module.
    """
    devices = []
    if torch.cuda.is_initialized():
        devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), _uncompiled(model):
        with _MODES_LOCK:
            modules = [module for module in model.modules() if module.training or module in _MODES]
            for module in modules:
                _MODES.setdefault(module, _Mode(module.training)).users += 1
                module.training = False
        try:
            yield
        finally:
            with _MODES_LOCK:
                for module in modules:
                    mode = _MODES[module]
                    mode.users -= 1
                    if mode.users == 0:
                        module.training = mode.training
                        del _MODES[module]
