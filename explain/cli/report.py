"""``explain report``: HTML from run folders, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="run folders")],
    assets: Annotated[
        bool | None,
        typer.Option(
            "--assets/--one-file",
            help="neuron runs as an index with pages beside it, or as one file; by their size where not given",
        ),
    ] = None,
) -> None:
    """Make report.html of each run folder again; several runs of a kind are compared (localization, neurons)."""
    from explain.report import render_all

    pages, verdicts = render_all(*runs, assets=assets)
    for line in [*map(str, pages), *verdicts, *_detectors(runs)]:
        print(line)


def _detectors(runs: list[Path]) -> list[str]:
    """Return the detectors of several neuron runs lined up, or why that is not done."""
    neurons = [run for run in runs if (run / "run.json").is_file()]
    if len(neurons) < 2:
        return []
    from explain.errors import ExplainError
    from explain.neurons.detectors import histogram_table, histograms

    try:
        return ["", histogram_table(histograms(neurons, names=list(map(str, neurons))))]
    except ExplainError as error:
        return [f"detectors are not lined up: {error}"]
