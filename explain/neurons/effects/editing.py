"""Units of the user's own network edited: for the length of a block, or in a module of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain.errors import InputError
from explain.nets.inputs import stream
from explain.nets.subject import Subject, as_subject
from explain.nets.tap import check_layer, count_calls, edited
from explain.neurons.effects.grouping import units_naming, units_of
from explain.neurons.effects.opening import Explained, open_explained
from explain.neurons.results import NeuronRun
from explain.neurons.units import UnitLayer, find_layers

__all__ = ["Steered", "steered"]


@contextmanager
def steered(
    model: nn.Module | Subject,
    run: Explained | NeuronRun | str | Path,
    images: Any,
    *,
    concept: str | None = None,
    units: Sequence[int] | None = None,
    factor: float = 0.0,
    values: NDArray[np.float32] | None = None,
) -> Iterator[nn.Module]:
    """Edit units of the user's own network inside the block; it comes back as it was, also after an exception.

    ``with steered(model, run, images, concept="sky"): model(x)``. In this thread only; the graph goes through the edit,
    so the block may train what comes before and after.

    Parameters
    ----------
    model
        The network that was explained, or one with the same layer.
    run
        The neuron run that says which layer, and which units' formulas ask for ``concept``.
    images
        One or more preprocessed images ``(b, c, h, w)``, such as those that will be given: how the layer lies is seen
        in a forward pass of the first.
    concept
        Edit the units whose formula asks for it, not behind a NOT.
    units
        The units to edit instead.
    factor
        What their maps are multiplied by.
    values
        float32 ``(units,)``: what their maps are set to instead, such as their means.

    Raises
    ------
    InputError
        No concept or units, an unknown one, values of another number.
    ModelError
        The network has no such layer.
    """
    subject = as_subject(model)
    edit = _Edit.of(subject, run, images, concept, units, factor, values)
    with edited(subject.model, edit.layer, edit, call=edit.call):
        yield subject.model


class Steered(nn.Module):
    """A network with some units of a layer edited: ``Steered(model, run, images, concept="sky")(x)``.

    It shares all weights with ``model``, which itself stays as it is. Parameters as in `steered`.
    """

    def __init__(
        self,
        model: nn.Module | Subject,
        run: Explained | NeuronRun | str | Path,
        images: Tensor,
        *,
        concept: str | None = None,
        units: Sequence[int] | None = None,
        factor: float = 0.0,
        values: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__()
        subject = as_subject(model)
        self.edit = _Edit.of(subject, run, images, concept, units, factor, values)
        self.network = subject.model
        self.train(subject.model.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network with the edit."""
        with edited(self.network, self.edit.layer, self.edit, call=self.edit.call):
            return self.network(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class _Edit:
    """What is done to a layer's output."""

    layer: str
    call: int
    units: UnitLayer
    factor: float
    values: Tensor | None

    @classmethod
    def of(
        cls,
        subject: Subject,
        run: Explained | NeuronRun | str | Path,
        images: Any,
        concept: str | None,
        units: Sequence[int] | None,
        factor: float,
        values: NDArray[np.float32] | None,
    ) -> _Edit:
        explained = open_explained(run)
        if concept is None and units is None:
            raise InputError("nothing to steer by: give concept=, which formulas name, or units=")
        chosen = units_of(explained, units) if units is not None else units_naming(explained, str(concept))[0]
        check_layer(subject.model, explained.layer)
        first = images[:1] if isinstance(images, Tensor) else next(stream(images[:1], subject.transform))[1]
        placed = subject.placed(first)
        (layer,) = find_layers(subject, placed, [explained.layer], units=chosen.tolist())
        if values is not None and values.shape != (len(chosen),):
            raise InputError(f"values of shape {values.shape} for {len(chosen)} units: give one per unit")
        call = count_calls(subject.model, explained.layer, lambda: subject.model(placed.clone()))
        fixed = None if values is None else torch.from_numpy(np.asarray(values, np.float32))
        return cls(explained.layer, call, layer, factor, fixed)

    def __call__(self, output: Tensor) -> Tensor:
        """Return a layer's output with the units edited: a new tensor, in the same layout."""
        layout, own = self.units.layout, torch.from_numpy(self.units.units).to(output.device)
        maps = layout.to_map(output) if layout is not None else output[:, :, None, None]
        scale = torch.ones(maps.shape[1], dtype=maps.dtype, device=maps.device)
        scale[own] = 0.0 if self.values is not None else self.factor
        found = maps * scale[:, None, None]
        if self.values is not None:
            shift = torch.zeros_like(scale)
            shift[own] = self.values.to(maps)
            found = found + shift[:, None, None]
        return layout.from_map(found, output) if layout is not None else found[:, :, 0, 0]
