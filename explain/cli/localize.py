"""``explain localize``: score maps and boxes on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from explain.cli import options as opt
from explain.cli.progress import progress_bars

__all__ = ["localize", "score_table"]


def localize(
    model: opt.Model,
    data: Annotated[str, typer.Option(help="folder in the plain format, or a known name")],
    out: opt.Out = Path("runs/localization"),
    protocol: Annotated[str, typer.Option(help="cam2016")] = "cam2016",
    method: Annotated[str, typer.Option(help="cam")] = "cam",
    weights: opt.Weights = "DEFAULT",
    transform: opt.Transform = None,
    class_names: opt.ClassNames = None,
    input_size: opt.InputSize = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 32,
    workers: opt.Workers = 0,
    seed: opt.Seed = 0,
    limit: opt.Limit = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Score how well maps find the labelled object: GT-known, top-1, top-5, MaxBoxAcc, beside a centre baseline."""
    from explain.data import as_localization
    from explain.localization import evaluate_localization
    from explain.localization.saving import write_result
    from explain.report import render
    from explain.runs import run_folder

    with progress_bars() as progress:
        opt.prepare_scenes(data, progress)
    labelled = as_localization(data)
    subject = opt.open_subject(opt.ModelOptions(model, weights, transform, class_names, input_size, mean, std, device))
    config = {
        "model": subject.describe(),
        "data": labelled.hash,
        "protocol": protocol,
        "method": method,
        "limit": limit,
        "seed": seed,
        "batch_size": batch_size,
    }
    console = Console()
    with run_folder(out, config=config, overwrite=overwrite, resume=resume) as folder:
        if not folder.done:
            with progress_bars() as progress:
                result = evaluate_localization(
                    subject,
                    labelled,
                    protocol,
                    method,
                    batch_size=batch_size,
                    workers=workers,
                    limit=limit,
                    seed=seed,
                    checkpoint=folder.checkpoint,
                    progress=progress,
                )
            write_result(result, folder.path, config=config)
            print_result(console, result)
            render(folder.path)
        else:
            console.print(f"{out} is complete already")
    console.print(f"report: {out / 'report.html'}")


def print_result(console: Console, result: Any) -> None:
    """Print accuracy first, then warnings, then the table."""
    from explain.localization.evaluate import accuracy_line

    console.print(accuracy_line(result.accuracy))
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow")
    console.print(score_table(result))


def score_table(result: Any) -> Table:
    """Return the scores with intervals and the centre baseline beside them."""
    rules = result.protocol
    title = f"{result.method} at {result.layer}, protocol {rules.name} (box at {rules.threshold:g} of the maximum)"
    table = Table("score (%)", result.method, "95 % interval", "centre box", "images", title=title)
    for name, score in result.scores.items():
        base = result.baselines["centre"][name]
        note = f" (best threshold {result.best_threshold:g})" if name == "maxboxacc" else ""
        table.add_row(
            name + note,
            f"{score.value:.1f}",
            f"{score.low:.1f} to {score.high:.1f}",
            f"{base.value:.1f}",
            str(score.n),
        )
    return table
