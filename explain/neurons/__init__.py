"""Units to formulas: thresholds, cells, counts, and the search for formulas (the job: `explain.dissect`).

The names are loaded when first used, so that a saved run is asked and read without torch and numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "CellIndex": "explain.neurons.cells",
    "Cells": "explain.neurons.cell_table",
    "Formula": "explain.neurons.formula",
    "NeuronRun": "explain.neurons.results",
    "UnitExplanation": "explain.neurons.explanations",
    "beam_search": "explain.neurons.search",
    "optimal_search": "explain.neurons.optimal",
    "parse": "explain.neurons.formula",
}

__all__ = [
    "CellIndex",
    "Cells",
    "Formula",
    "NeuronRun",
    "UnitExplanation",
    "beam_search",
    "optimal_search",
    "parse",
]

if TYPE_CHECKING:
    from explain.neurons.cell_table import Cells
    from explain.neurons.cells import CellIndex
    from explain.neurons.explanations import UnitExplanation
    from explain.neurons.formula import Formula, parse
    from explain.neurons.optimal import optimal_search
    from explain.neurons.results import NeuronRun
    from explain.neurons.search import beam_search


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'explain.neurons' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
