"""`fine_tune`: one trainer for any module, on any ``(inputs, target)``; an interrupted training gives the same answer.

No state of a random generator is stored. The order of items follows from (seed, epoch), the chance inside an item
(augmentation) from (seed, epoch, item), that of the network (dropout) from (seed, step): the step tells them all.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from explain.errors import InputError, ModelError, RunError
from explain.nets.calls import map_tree

__all__ = ["Training", "fine_tune", "warm_cosine"]


@dataclass(frozen=True)
class Training:
    """What a training did: the mean loss of each epoch, and the step (of how many) that a checkpoint had reached."""

    losses: tuple[float, ...]
    steps: int
    resumed: int


def warm_cosine(share: float) -> float:
    """Return the factor of the learning rate after a share of the steps: a rise over 5 %, a half cosine to 0."""
    return min(share / 0.05, 1.0) * 0.5 * (1 + math.cos(math.pi * share))


def fine_tune(
    model: nn.Module,
    data: Sequence[Any] | Dataset[Any] | Iterable[Any],
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    only: nn.Module | None = None,
    lr: float = 1e-3,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    schedule: Callable[[float], float] = warm_cosine,
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    collate: Callable[[list[Any]], Any] = default_collate,
    workers: int = 0,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    seconds: float = 30.0,
    progress: Callable[[str, int, int], object] | None = None,
) -> Training:
    """Train ``model`` in place on its device; modes, frozen parameters and the caller's RNG come back as they were.

    Parameters
    ----------
    model
        What is trained, or has a part that is.
    data
        Items ``(inputs, target)``: anything with length and index; another iterable is read into a list. The inputs
        of a batch go to the model as ``model(x)``, a tuple or list as ``model(*x)``, a mapping as ``model(**x)``.
    loss, batch_size
        ``loss(output, target)`` is the mean over a batch; batches have at most this size, equal to within one.
    only
        A part of the model: it alone is trained; all else is frozen, in eval mode (BatchNorm statistics do not move).
        Without it, every parameter that requires gradients.
    lr, optimizer, schedule
        AdamW's learning rate, or a function from parameters to an optimizer; factor of the rate by the share done.
    epochs
        Times that all items are seen.
    precision
        Of the forward pass, by autocast (``"float16"`` scales the loss); weights stay as they are.
    collate, workers
        Of the `DataLoader`.
    seed
        All chance follows from it, with any number of ``workers`` (chance inside an item must be torch's).
    checkpoint, seconds
        A file, written every so many seconds and at the end, and continued where it is there: with the same arguments
        the result is that of an uninterrupted training (to the bit on a deterministic device).
    progress
        Called as ``progress("steps", done, total)``.

    Raises
    ------
    InputError, ModelError, RunError
        No items, options out of range; nothing to train; a loss that is not finite, or another training's checkpoint.
    """
    items: Any = data if hasattr(data, "__len__") and hasattr(data, "__getitem__") else list(data)  # type: ignore[arg-type]
    if min(len(items), epochs, batch_size, seed + 1) < 1:
        found = f"{len(items)} items, epochs={epochs}, batch_size={batch_size}, seed={seed}"
        raise InputError(f"{found}: give at least one item (inputs, target), one epoch, a batch of one, a seed from 0")
    batches = math.ceil(len(items) / batch_size)
    total, part = epochs * batches, model if only is None else only
    config = dict(epochs=epochs, batch_size=batch_size, items=len(items), seed=seed, lr=lr, precision=precision)
    with _training(model, part) as (parameters, device):
        made = optimizer(parameters) if optimizer else torch.optim.AdamW(parameters, lr=lr)
        rates = [group["lr"] for group in made.param_groups]
        scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        path, parts = (Path(checkpoint) if checkpoint else None), (model, made, scaler)
        first, sums = _load(path, config, parts, device) if path and path.exists() else (0, [])
        running, saved = torch.tensor(sums + [0.0] * (epochs - len(sums)), device=device), time.monotonic()
        place = partial(map_tree, function=lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf)
        order: Any = _order(len(items), first, epochs, batches, seed)
        loader = DataLoader(_Seeded(items, seed), batch_sampler=order, num_workers=workers, collate_fn=collate)
        for step, (inputs, target) in enumerate(loader, first):
            for group, rate in zip(made.param_groups, rates, strict=True):
                group["lr"] = rate * schedule((step + 0.5) / total)
            _seed(device, seed, step)
            with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
                value = loss(_call(model, place(inputs)), place(target))
            scaler.scale(value).backward()
            scaler.step(made)
            scaler.update()
            made.zero_grad(set_to_none=True)
            running[step // batches] += value.detach()
            if step + 1 == total or time.monotonic() - saved >= seconds:
                _save(path, step + 1, running.tolist(), config, parts)
                saved = time.monotonic()
            if progress is not None:
                progress("steps", step + 1, total)
    return Training(tuple(value / batches for value in running.tolist()), total, first)


@contextmanager
def _training(model: nn.Module, part: nn.Module) -> Iterator[tuple[list[nn.Parameter], torch.device]]:
    modes = [(module, module.training) for module in model.modules()]
    needed = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    inside = {id(parameter) for parameter in part.parameters()}
    wanted = [parameter for parameter, needs in needed if id(parameter) in inside and (needs or part is not model)]
    if not wanted:
        raise ModelError("nothing to train: no parameter of the model (or of its part `only`) can be trained")
    chosen, device = {id(parameter) for parameter in wanted}, wanted[0].device
    with torch.random.fork_rng([device] * (device.type == "cuda")), torch.inference_mode(False), torch.enable_grad():
        try:
            model.eval()
            part.train()
            for parameter, _ in needed:
                parameter.requires_grad_(id(parameter) in chosen)
            yield wanted, device
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter, needs in needed:
                parameter.requires_grad_(needs).grad = None


def _save(path: Path | None, step: int, sums: list[float], config: dict[str, Any], parts: Sequence[Any]) -> None:
    if not all(map(math.isfinite, sums)):
        raise RunError(f"the loss is not finite after {step} steps: lower lr, or use precision='float32'")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft, states = path.with_name(path.name + ".tmp"), [part.state_dict() for part in parts]
        torch.save({"step": step, "sums": sums, "config": config, "states": states}, draft)
        draft.replace(path)  # in one step: nobody sees half a file


def _load(path: Path, config: dict[str, Any], parts: Sequence[Any], device: torch.device) -> tuple[int, Any]:
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        if stored["config"] != config:
            raise ValueError(f"it was made with {stored['config']}, now {config}")
        for part, state in zip(parts, stored["states"], strict=True):
            part.load_state_dict(state)
        return stored["step"], stored["sums"]
    except Exception as error:
        why = str(error).splitlines()[0]
        raise RunError(f"{path} is no checkpoint of this training ({why}): remove it, or repeat that call") from None


@dataclass(frozen=True)
class _Seeded(Dataset[Any]):
    items: Any
    seed: int

    def __getitem__(self, place: tuple[int, int]) -> Any:
        _seed(torch.device("cpu"), self.seed, *place)
        return self.items[place[1]]


def _order(items: int, first: int, epochs: int, batches: int, seed: int) -> Iterator[list[tuple[int, int]]]:
    for epoch in range(first // batches, epochs):
        order = torch.randperm(items, generator=_seed(torch.device("cpu"), seed, epoch, -1))
        for chunk in order.tensor_split(batches)[max(first - epoch * batches, 0) :]:
            yield [(epoch, index) for index in chunk.tolist()]


def _seed(device: torch.device, *numbers: int) -> torch.Generator:
    mixed = int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "little")
    if device.type == "cuda":
        torch.cuda.manual_seed(mixed)
    return torch.default_generator.manual_seed(mixed)


def _call(model: nn.Module, inputs: Any) -> Any:
    several = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*several)
