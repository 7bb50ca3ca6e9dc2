"""``explain merge``: runs over different units of a layer, or shards of the images, as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explain.cli import options as opt
from explain.cli.progress import wide_console
from explain.errors import InputError

__all__ = ["merge"]


def merge(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR...", help="neuron runs made with different --units, or the folders of all shards"
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder of the merged run")],
    data: Annotated[
        list[str] | None, typer.Option(help="shards: where the images lie now, if not where the shards found them")
    ] = None,
    device: Annotated[str, typer.Option(help="shards: where pixels are counted: auto, cpu, cuda, …")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="shards: continue an interrupted merge")] = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Unite neuron runs over different units of one layer, or shards of the images (neurons --shard I/N).

    Shards become the run that one process makes of all images, bit for bit. The network is not needed: what it gave
    lies in the folders; search and evidence are computed here.
    """
    from explain.neurons.merging_shards import is_shard

    console = wide_console()
    if any(is_shard(folder) for folder in runs):
        from explain.cli.neuron_shards import merge_shard_runs
        from explain.cli.neuron_tables import print_tables

        place = opt.auto_device(device)
        merge_shard_runs(runs, out, data, place, console, overwrite=overwrite, resume=resume)
        print_tables(console, out, "-iou", 20)
        return
    if data or resume or device != "auto":
        raise InputError("--data, --device and --resume are for shards: leave them away for runs over units")
    from explain.neurons.merging import merge_runs
    from explain.report import render

    merge_runs(runs, out, overwrite=overwrite)
    render(out)
    console.print(f"all units: {out / 'units.csv'}; report: {out / 'report.html'}")
