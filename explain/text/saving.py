"""Writing a text run: the engine's folder, with the pairs beside it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from explain.data.pairs import LABELS
from explain.neurons.saving import neuron_config, write_run
from explain.runs import run_folder
from explain.text.results import TextRun

__all__ = ["save_text_run", "text_config", "write_text_run"]


def text_config(run: TextRun) -> dict[str, Any]:
    """Return the settings that make the result what it is."""
    return {**neuron_config(run.run), **run.settings.describe()}


def save_text_run(run: TextRun, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a run folder in one step; returns it."""
    with run_folder(path, config=text_config(run), overwrite=overwrite) as folder:
        write_text_run(run, folder.path)
    return Path(path)


def write_text_run(run: TextRun, folder: Path, *, config: Mapping[str, Any] | None = None) -> None:
    """Write all files of a text run into ``folder``.

    Besides the files of a neuron run: ``pairs.csv`` (``row, gold, predicted, premise, hypothesis``), and
    ``arrays/pairs.npz``: ``gold, predicted`` int8, ``logits`` float32 ``(N, 3)``, ``cells`` int64 ``(N,)`` (the cell of
    each pair), ``fires`` uint8 ``(u, bytes)`` (of each unit, bits over the pairs, `numpy.packbits`).
    """
    write_run(run.run, folder, config=config or text_config(run))
    assert run.run.index is not None  # written just now
    np.savez_compressed(
        folder / "arrays" / "pairs.npz",
        gold=run.pairs.gold.astype(np.int8),
        predicted=run.predicted.astype(np.int8),
        logits=run.logits,
        cells=run.run.index.lookup,
        fires=np.packbits(run.fires.T, axis=1),
    )
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "gold", "predicted", "premise", "hypothesis"))
        rows = zip(run.pairs.rows, run.pairs.gold, run.predicted, run.pairs.premises, run.pairs.hypotheses, strict=True)
        for row, gold, predicted, premise, hypothesis in rows:
            writer.writerow((int(row), LABELS[gold], LABELS[predicted], premise.text, hypothesis.text))
