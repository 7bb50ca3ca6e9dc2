"""The same architecture with random weights: what it is worth before it has learned anything."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from explain.errors import ModelError
from explain.nets.subject import Subject

__all__ = ["Untrained", "untrained"]

_RESETS = ("reset_parameters", "_reset_parameters")  # the second one is torch's own, of attention and transformers


@dataclass(frozen=True)
class Untrained:
    """A network that was initialised anew."""

    subject: Subject
    """With a copy of the network, on the device of the original."""
    reset: tuple[str, ...]
    """Modules whose own initialisation was called."""
    kept: tuple[str, ...]
    """Buffers that no module's initialisation sets, and which are as in the original."""


def untrained(subject: Subject, *, seed: int = 0) -> Untrained:
    """Initialise a copy of a network anew, by the ``reset_parameters`` of its modules.

    The weights are drawn on the CPU, so that they do not depend on the device; neither the original nor the state of
    random numbers is touched. BatchNorms forget their statistics (mean 0, variance 1). This is PyTorch's initialisation
    of each module, which is not always the architecture's own.

    Raises
    ------
    ModelError
        The network cannot be copied, an initialisation fails, or parameters are set by none: they are named.
    """
    twin = _copied(subject.model).cpu()
    modules = dict(twin.named_modules())
    resets = {name: reset for name, module in modules.items() if (reset := _reset_of(module)) is not None}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for parameter in twin.parameters():
            parameter.fill_(torch.nan)  # what still holds it afterwards was not initialised
        for name in reversed(resets):  # what is inside comes first
            _call(resets[name], name, modules[name])
    lost = [name for name, parameter in twin.named_parameters() if bool(parameter.isnan().any())]
    if lost:
        more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
        raise ModelError(
            f"{subject.name} cannot be made untrained: no reset_parameters sets {', '.join(lost[:4])}{more}; give an"
            " untrained network of your own"
        )
    kept = tuple(name for name, _ in twin.named_buffers() if name.rpartition(".")[0] not in resets)
    made = replace(subject, model=twin.to(subject.device), source=f"random (seed {seed})")
    return Untrained(made, tuple(resets), kept)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # the user's own code
        lines = str(error).strip().splitlines() or [""]
        raise ModelError(
            f"the model cannot be copied to be made untrained ({type(error).__name__}: {lines[0]}): give an untrained"
            " network of your own"
        ) from error


def _reset_of(module: nn.Module) -> Callable[[], object] | None:
    found = (getattr(module, name, None) for name in _RESETS)
    return next((one for one in found if callable(one) and not isinstance(one, (nn.Module, Tensor))), None)


def _call(reset: Callable[[], object], name: str, module: nn.Module) -> None:
    try:
        reset()
    except Exception as error:  # the user's own code
        lines = str(error).strip().splitlines() or [""]
        kind = type(module).__name__
        raise ModelError(
            f"reset_parameters of {name or 'the network'} ({kind}) fails ({type(error).__name__}: {lines[0]}): give an"
            " untrained network of your own"
        ) from error
