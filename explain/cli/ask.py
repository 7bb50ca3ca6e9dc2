"""``explain ask``: any formula, scored for every unit of a run from its saved table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from explain.cli.progress import wide_console

__all__ = ["ask"]


def ask(
    run: Annotated[Path, typer.Argument(help="folder of a neuron run")],
    formula: Annotated[str, typer.Argument(help='such as "dog AND NOT grass"')],
    show: Annotated[int, typer.Option(min=1, help="units to show, best first")] = 20,
) -> None:
    """Score any formula for every unit from the saved table, without the model."""
    from explain.neurons.asking import ask as score
    from explain.neurons.asking import open_run, told
    from explain.neurons.formula import parse

    saved, asked = open_run(run), parse(formula)
    answers = score(saved, asked)
    console = wide_console()
    console.print(told(saved, asked), highlight=False)
    table = Table("unit", "IoU", "precision", "recall", "correlation", "found by the run", "its IoU")
    for one in answers[:show]:
        numbers = (one.iou, one.precision, one.recall, one.correlation)
        table.add_row(str(one.unit), *(f"{value:.4f}" for value in numbers), one.found or "-", f"{one.found_iou:.4f}")
    console.print(table)
