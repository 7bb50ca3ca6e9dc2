"""Weights from a file into a model, strictly, and without running code that a file may hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import ModelError

__all__ = ["load_weights"]


def load_weights(model: nn.Module, path: Path, name: str = "the model") -> None:
    """Load a state dict (``.pth`` or ``.safetensors``) strictly.

    An entry ``state_dict`` or ``model`` is looked into, and the prefix ``module.`` is dropped.

    Raises
    ------
    ModelError
        The file is missing, is no state dict, or does not fit; the message names keys.
    """
    state = _read_state(path)
    for inner in ("state_dict", "model"):
        if isinstance(state.get(inner), dict):
            state = state[inner]
    own = model.state_dict()
    state = {key if key in own else str(key).removeprefix("module."): value for key, value in state.items()}
    # Counters of batches seen are absent from old files and change nothing.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and isinstance(state[key], Tensor) and state[key].shape != own[key].shape
    ]
    faults = []
    for title, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            faults.append(f"{len(keys)} {title}: {', '.join(keys[:3])}{more}")
    if faults:
        advice = _advice(bool(shapes and not missing and not unexpected))
        raise ModelError(f"weights {path} do not fit {name}: {'; '.join(faults)}: {advice}")
    model.load_state_dict(state, strict=False)


def _advice(sizes_only: bool) -> str:
    """Return what to do: the commonest case is a network by name whose last layer was replaced for training."""
    why = " (its last layer may have other classes than the name's own)" if sizes_only else ""
    return f"make the network as it was trained{why}, in a function, and give FILE.py:callable"


def _read_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist: give a file, DEFAULT or none")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"weights {path} cannot be read as tensors only ({type(error).__name__}): save model.state_dict(), by"
            " torch.save or safetensors; of a file that holds a whole module, load it in a function and give"
            " FILE.py:callable"
        ) from None
    except Exception as error:  # safetensors raises its own kind, which is no subclass of the above
        raise ModelError(f"weights {path} cannot be read: {error}") from None
    if not isinstance(state, dict):
        raise ModelError(f"weights {path} hold a {type(state).__name__}, not a state dict")
    return state
