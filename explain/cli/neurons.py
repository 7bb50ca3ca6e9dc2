"""``explain neurons``: a formula of concepts for every unit of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from explain.cli import options as opt
from explain.cli.progress import progress_bars

__all__ = ["neurons", "print_run", "unit_table"]


def neurons(
    model: opt.Model,
    data: Annotated[str, typer.Option(help="probe folder, or a known name such as scenes")],
    layer: Annotated[str | None, typer.Option(help="layer by name; the last map by default")] = None,
    length: Annotated[int, typer.Option(min=1, help="concepts per formula at most; 1: network dissection")] = 3,
    beam: Annotated[int, typer.Option(min=1, help="formulas kept per round")] = 5,
    quantile: Annotated[float, typer.Option(help="share of positions where a unit is active")] = 0.005,
    resolution: Annotated[int, typer.Option(min=1, help="side in pixels at which units and labels are compared")] = 112,
    min_pixels: Annotated[int, typer.Option(min=0, help="leave out concepts with fewer pixels")] = 0,
    units: Annotated[str | None, typer.Option(help="units as FIRST:LAST or a,b,c")] = None,
    search: Annotated[str, typer.Option(help="auto or beam")] = "auto",
    out: opt.Out = Path("runs/neurons"),
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
    """Explain every unit of a layer by a logical formula of concepts (network dissection and beyond)."""
    from explain.data import as_probe
    from explain.neurons.dissect import dissect
    from explain.neurons.saving import write_run
    from explain.neurons.thresholds import rank
    from explain.report import render
    from explain.runs import run_folder

    rank(quantile, 1)  # refuses what is no share, before anything is written

    with progress_bars() as progress:
        opt.prepare_scenes(data, progress)
    probe = as_probe(data)
    subject = opt.open_subject(opt.ModelOptions(model, weights, transform, class_names, input_size, mean, std, device))
    settings = {
        "layer": layer,
        "length": length,
        "beam": beam,
        "quantile": quantile,
        "resolution": resolution,
        "min_pixels": min_pixels,
        "units": units,
        "search": search,
        "limit": limit,
        "batch_size": batch_size,
        "seed": seed,
    }
    config = {"model": subject.describe(), "data": probe.hash, **settings}
    console = Console()
    with run_folder(out, config=config, overwrite=overwrite, resume=resume) as folder:
        if not folder.done:
            with progress_bars() as progress:
                run = dissect(
                    subject,
                    layer,
                    probe,
                    length=length,
                    search=search,
                    beam=beam,
                    quantile=quantile,
                    resolution=(resolution, resolution),
                    min_pixels=min_pixels,
                    units=opt.parse_range(units),
                    batch_size=batch_size,
                    workers=workers,
                    limit=limit,
                    checkpoint=folder.checkpoint,
                    progress=progress,
                )
            write_run(run, folder.path, config=config)
            render(folder.path)
            print_run(console, run)
        else:
            console.print(f"{out} is complete already")
    console.print(f"all units: {out / 'units.csv'}; report: {out / 'report.html'}")


def print_run(console: Console, run: Any, count: int = 20) -> None:
    """Print the summary of a layer and its best units."""
    facts = run.summary()
    console.print(
        f"{facts['units']} units of {run.layer} on {len(run.probe)} images of {run.probe.name}"
        f" ({run.index.cells.total} pixels, {len(run.index.cells)} cells, {run.passes} pass(es)):"
        f" {facts['firing']} fire, {facts['interpretable']} detect a concept (IoU > {facts['threshold_iou']:g}),"
        f" {facts['unique_concepts']} different ones; mean IoU {facts['mean_score']:.4f} with one concept,"
        f" {facts['mean_iou']:.4f} with up to {run.length}"
    )
    for warning in run.warnings:
        console.print(f"warning: {warning}", style="yellow")
    console.print(unit_table(run, count))


def unit_table(run: Any, count: int = 20) -> Table:
    """Return the units of highest IoU as a table."""
    table = Table(
        "unit",
        "IoU",
        "formula",
        "best single concept",
        "its IoU",
        title=f"best {min(count, len(run.units))} units of {run.layer}",
    )
    for unit in sorted(run.units, key=lambda unit: (-unit.iou, unit.unit))[:count]:
        table.add_row(str(unit.unit), f"{unit.iou:.4f}", unit.formula or "-", unit.label or "-", f"{unit.score:.4f}")
    return table
