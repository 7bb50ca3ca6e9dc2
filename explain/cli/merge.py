"""``explain merge``: runs over different units of a layer as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from explain.cli import options as opt

__all__ = ["merge"]


def merge(
    runs: Annotated[list[Path], typer.Argument(help="folders of neuron runs, made with different --units")],
    out: Annotated[Path, typer.Option(help="folder of the merged run")],
    overwrite: opt.Overwrite = False,
) -> None:
    """Unite neuron runs over different units of one layer."""
    from explain.neurons.merging import merge_runs
    from explain.report import render

    merge_runs(runs, out, overwrite=overwrite)
    render(out)
    Console().print(f"all units: {out / 'units.csv'}; report: {out / 'report.html'}")
