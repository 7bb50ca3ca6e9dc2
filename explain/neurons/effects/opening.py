"""A finished neuron run, as effects need it: which units, their thresholds and formulas, and of which network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError, RunError
from explain.nets.inputs import stream
from explain.nets.subject import Subject
from explain.neurons.cell_table import Cells, load_cells
from explain.neurons.explanations import UnitExplanation
from explain.neurons.results import NeuronRun
from explain.neurons.saving import unit_of_row
from explain.neurons.units import UnitLayer, find_layers
from explain.runs import read_json
from explain.types import Concept

__all__ = ["Explained", "check_model", "layer_of", "open_explained", "refuse_pairs"]


@dataclass(frozen=True, eq=False)
class Explained:
    """The explained units of one layer."""

    layer: str
    grid: tuple[int, int]
    """(height, width) of the units' maps."""
    resolution: tuple[int, int]
    """(height, width) at which units and concepts were compared."""
    upsampling: str
    units: tuple[UnitExplanation, ...]
    """Ascending by unit."""
    cells: Cells
    """Of the probe set."""
    model: Mapping[str, Any]
    """Of `Subject.describe`: the network that was explained."""
    data: Mapping[str, Any]
    """The probe set's ``name``, ``path`` and ``hash``."""
    folder: Path | None
    """Where the run lies; None: it is in memory."""
    subject: Subject | None = field(default=None, repr=False)
    """The network, of a run in memory."""

    def __repr__(self) -> str:
        return f"Explained({len(self.units)} units of {self.layer!r} in {self.model['name']!r})"

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of the units in the layer, int64 ``(u,)``, ascending."""
        return np.array([unit.unit for unit in self.units], np.int64)

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """float32 ``(u,)``: a unit fires where its map is above."""
        return np.array([unit.threshold for unit in self.units], np.float32)


def open_explained(run: Explained | NeuronRun | str | Path) -> Explained:
    """Return what effects need of a neuron run: a result of `explain.dissect`, or its folder.

    Parameters
    ----------
    run
        What a job was given as its ``run``.

    Raises
    ------
    RunError
        The folder is no neuron run, or its files are missing or broken.
    InputError
        A run over ranges of activation or over directions, which effects do not know.
    """
    if isinstance(run, Explained):
        return run
    if isinstance(run, NeuronRun):
        return _from_memory(run)
    folder = Path(run)
    kind = read_json(folder / "manifest.json").get("kind")
    if kind == "neuron-layers":
        raise RunError(f"{folder} holds several neuron runs: give one of the folders in it")
    if kind != "neurons":
        raise RunError(f"{folder} is a run of kind {kind!r}, not 'neurons': give a run of `explain neurons`")
    value = read_json(folder / "run.json")
    settings = value["settings"]
    _check_supported(settings.get("ranges"), settings.get("directions"), settings.get("basis"))
    concepts = [Concept(row["name"], row["category"]) for row in value["concepts"]]
    return Explained(
        value["layer"],
        _pair(value["grid"]),
        _pair(value["resolution"]),
        settings["upsampling"],
        tuple(unit_of_row(row) for row in value["units"]),
        load_cells(folder / "arrays" / "cells.npz", concepts),
        value["manifest"]["model"],
        value["manifest"]["data"],
        folder,
    )


def refuse_pairs(run: object) -> None:
    """Refuse the folder of a run over sentence pairs, which jobs on images cannot take.

    Raises
    ------
    RunError
        It is one, or no run.
    """
    if isinstance(run, str | Path) and read_json(Path(run) / "manifest.json").get("domain") == "text":
        raise RunError(f"{run} is a run over sentence pairs: use `explain text effects {run} KIND`")


def _from_memory(run: NeuronRun) -> Explained:
    _check_supported(run.ranges, run.directions, run.basis)
    if run.index is None:
        raise InputError("this neuron run holds no counts: make it with explain.dissect")
    data = {"name": run.probe.name, "path": str(run.probe.root) if run.probe.root else None, "hash": run.probe.hash}
    return Explained(  # as a folder holds it
        run.layer,
        run.grid,
        run.resolution,
        run.upsampling,
        tuple(run.units),
        run.index.cells,
        json.loads(json.dumps({**run.subject.describe(), "layer": run.layer})),
        data,
        None,
        run.subject,
    )


def _check_supported(ranges: object, directions: object, basis: object) -> None:
    what = "ranges of activation" if ranges is not None else "directions" if directions or basis else None
    if what is not None:
        raise InputError(
            f"effects are of a layer's own units, and this run explains {what}: run `explain neurons` anew"
        )


def _pair(values: list[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def check_model(explained: Explained, subject: Subject) -> None:
    """Refuse another network than the one that was explained, or other preprocessing.

    Raises
    ------
    InputError
        Weights or transform differ.
    """
    own, given = explained.model, json.loads(json.dumps(subject.describe()))  # as a manifest holds it
    if own["hash"] != given["hash"]:
        raise InputError(
            f"the run explains {own['name']!r} with weights {own['hash'][:12]}…, and {given['name']!r} has"
            f" {given['hash'][:12]}…: give the network and the weights that the run was made with"
        )
    if own["transform"] != given["transform"]:
        raise InputError(
            f"the run was made with the transform {own['transform']}, this network comes with {given['transform']}:"
            " give the same input size, mean and std, or transform"
        )


def layer_of(explained: Explained, subject: Subject, images: Sequence[Any]) -> UnitLayer:
    """Return the explained units as they are read from the network; ``images``: the data's, the first is looked at.

    Raises
    ------
    InputError
        The layer's maps have another size than the run's.
    ModelError
        The network has no such layer.
    """
    _, first = next(stream(images, subject.transform, batch_size=1, stop=1))
    (layer,) = find_layers(subject, subject.placed(first), [explained.layer], units=explained.numbers.tolist())
    if layer.grid != explained.grid:
        raise InputError(
            f"maps of {layer.grid} at {layer.layer!r}, and of {explained.grid} in the run: use its input size"
        )
    return layer
