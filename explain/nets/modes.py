"""Run the user's network in eval mode, with its random numbers apart, and turn what it raises into one line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from explain.errors import ExplainError, ModelError

__all__ = ["eval_mode", "naming_errors"]


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
