"""The table behind "Ask": the cells and counts of a run, packed so that a page can score any formula for every unit.

The whole numbers travel as variable-length integers (seven bits a byte, the lowest first), compressed with gzip and
written as base64: a browser unpacks them without a network. Scores are computed there by the same divisions as in
`explain.neurons.asking`, from the same whole numbers, so they are the same to the last bit.
"""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.concepts import Concept
from explain.errors import ExplainError
from explain.neurons.cell_table import Cells, load_cells
from explain.neurons.sparse_counts import UnitCounts
from explain.runs import read_arrays

__all__ = ["TABLE_BYTES", "AskTable", "ask_table", "packed", "varints"]

TABLE_BYTES = 8 * 2**20
"""Characters of the table that a page of one file may carry; beyond them it names the command instead."""


@dataclass(frozen=True)
class AskTable:
    """What a page needs to answer formulas."""

    data: str
    """Base64; empty where the page does not carry it."""
    file: str
    """The script beside the page that carries it; empty where there is none."""
    command: str
    """What does the same on the command line."""
    note: str
    """Why the page cannot answer; empty where it can."""


def ask_table(folder: Path, run: Mapping[str, Any], *, budget: int | None) -> AskTable:
    """Return the table of a run folder; ``budget=None``: however large it is."""
    command = f"explain ask {shlex.quote(str(folder))} 'FORMULA'"
    concepts = [Concept(row["name"], row["category"]) for row in run["concepts"]]
    try:
        cells = load_cells(folder / "arrays" / "cells.npz", concepts)
        arrays = read_arrays(folder / "arrays" / "units.npz", ("indptr", "cells", "counts"))
    except ExplainError:
        return AskTable("", "", command, "The table of cells is missing from the run folder.")
    if len(arrays[0]) != len(run["units"]) + 1:
        return AskTable("", "", command, "The table of cells is of other units than the run.")
    data = packed(cells, UnitCounts(*arrays))
    if budget is not None and len(data) > budget:
        size = f"{len(data) / 2**20:.1f} MiB, more than {budget / 2**20:.0f}"
        return AskTable("", "", command, f"This run's table of cells is too large for a page of one file ({size}).")
    return AskTable(data, "", command, "")


def packed(cells: Cells, counts: UnitCounts) -> str:
    """Return cells and counts as base64 text of gzip: a line of JSON with the lengths, then the numbers.

    In this order: pixels of each cell; number of its concepts; the concepts, each as the step from the one before it
    in the cell; number of each unit's cells; the cells, as steps likewise; their active pixels.
    """
    parts = {
        "pixels": cells.counts,
        "sets": np.diff(cells.indptr),
        "concepts": _steps(cells.indices.astype(np.int64), cells.indptr),
        "units": np.diff(counts.indptr),
        "cells": _steps(counts.cells, counts.indptr),
        "active": counts.counts,
    }
    head = json.dumps({"total": cells.total, **{name: len(part) for name, part in parts.items()}}).encode() + b"\n"
    body = head + b"".join(varints(part) for part in parts.values())
    return base64.b64encode(gzip.compress(body, 9, mtime=0)).decode("ascii")


def _steps(values: NDArray[np.int64], indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the step to each value from the one before it in its row; the first of a row as it is."""
    steps = np.diff(values, prepend=0)
    begins = indptr[:-1][np.diff(indptr) > 0]
    steps[begins] = values[begins]
    return np.asarray(steps, np.int64)


def varints(values: NDArray[np.int64]) -> bytes:
    """Return whole numbers from 0 on, seven bits a byte, the lowest first; the top bit says that more follow."""
    left = np.asarray(values, np.uint64)
    width = np.ones(len(left), np.int64)
    for shift in range(7, 64, 7):
        width += (left >> np.uint64(shift)) > 0
    ends = np.cumsum(width)
    found = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    begins = ends - width
    for place in range(int(width.max(initial=0))):
        rows = np.flatnonzero(width > place)
        byte = (left[rows] >> np.uint64(7 * place)) & np.uint64(0x7F)
        more = np.where(width[rows] > place + 1, 0x80, 0)
        found[begins[rows] + place] = byte.astype(np.uint8) | more.astype(np.uint8)
    return found.tobytes()
