"""``explain ask``: any formula, scored for every unit of a run from its saved table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from explain.cli.progress import wide_console

__all__ = ["ask"]

HEADS = {
    "unit": "unit",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "correlation": "correlation",
    "found": "the unit's own formula",
    "found_iou": "its IoU",
}


def ask(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="folder of a neuron run")],
    formula: Annotated[
        str, typer.Argument(metavar="FORMULA", help='such as "dog AND NOT grass"; names with blanks in double quotes')
    ],
    sort: Annotated[str, typer.Option(help=f"column to sort by: {', '.join(HEADS)}; -NAME: falling")] = "-iou",
    show: Annotated[int, typer.Option(min=0, help="rows of the table that is printed")] = 20,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="write all units to this CSV file")] = None,
) -> None:
    """Score any formula for every unit from the saved table, without the model."""
    from explain.neurons.asking import ask as score
    from explain.neurons.asking import open_run, sorted_answers, told, write_answers
    from explain.neurons.formula import parse

    asked = parse(formula)
    saved = open_run(run)
    answers = sorted_answers(score(saved, asked), sort)
    if csv is not None:
        write_answers(answers, csv)
    console = wide_console()
    console.print(told(saved, asked), highlight=False, markup=False)
    shown = answers[:show]
    if shown:
        heads = list(HEADS.values())
        if saved.ranges is not None:
            heads.insert(1, "range")
        table = Table(*heads, title=f"{len(shown)} of {len(answers)} units, by {sort.removeprefix('-')}")
        for one in shown:
            numbers = (one.iou, one.precision, one.recall, one.correlation)
            own = Text(one.found) if one.found else "-"
            key = (str(one.unit),) if one.range is None else (str(one.unit), str(one.range))
            table.add_row(*key, *(f"{value:.4f}" for value in numbers), own, f"{one.found_iou:.4f}")
        console.print(table)
    if csv is not None:
        console.print(f"all units: {csv}", highlight=False, markup=False)
