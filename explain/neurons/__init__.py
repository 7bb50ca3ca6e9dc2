"""Units to formulas: thresholds, cells, counts, and the search for formulas (the job: `explain.dissect`)."""

from __future__ import annotations

from explain.neurons.cells import CellIndex, Cells
from explain.neurons.formula import Formula, parse
from explain.neurons.results import NeuronRun, UnitExplanation
from explain.neurons.search import beam_search

__all__ = [
    "CellIndex",
    "Cells",
    "Formula",
    "NeuronRun",
    "UnitExplanation",
    "beam_search",
    "parse",
]
