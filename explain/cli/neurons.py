"""``explain neurons``: a formula of concepts for every unit of a layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from explain.cli import options as opt
from explain.cli.folders import shared_folder
from explain.cli.neuron_runs import described, open_variants, told, write_runs
from explain.cli.neuron_shards import write_shard_run
from explain.cli.neuron_tables import RANGE_COLUMNS, check_column, print_run, print_tables
from explain.cli.progress import progress_bars, wide_console

if TYPE_CHECKING:
    from explain.neurons.domains import IouRule
    from explain.neurons.finding import How
    from explain.neurons.search import Compat
    from explain.neurons.settings import QuantileAt
    from explain.neurons.upsampling import Upsampling
    from explain.types import ProbeSet

__all__ = ["neurons"]


def neurons(
    model: opt.Model,
    data: Annotated[list[str], typer.Option(help="probe folder, or a known name such as scenes; several are united")],
    layer: Annotated[list[str] | None, typer.Option(help="layer by name; default: the last map; repeatable")] = None,
    length: Annotated[int, typer.Option(min=1, help="concepts per formula at most; 1: network dissection")] = 3,
    beam: Annotated[int, typer.Option(min=1, help="formulas kept per round")] = 5,
    quantile: Annotated[float, typer.Option(help="share of positions where a unit is active")] = 0.005,
    quantile_at: Annotated[str, typer.Option(help="the quantile's values: lowres maps, or upsampled ones")] = "lowres",
    resolution: Annotated[int, typer.Option(min=1, help="side in pixels at which units and labels are compared")] = 112,
    upsampling: Annotated[str, typer.Option(help="bilinear, nearest, pil or receptive-field")] = "bilinear",
    min_pixels: Annotated[int, typer.Option(min=0, help="leave out concepts with fewer pixels")] = 0,
    concepts: Annotated[list[str] | None, typer.Option(help="made from pixels: color, position, brightness")] = None,
    units: Annotated[str | None, typer.Option(help="units as FIRST:LAST or a,b,c")] = None,
    ranges: Annotated[
        int | None, typer.Option(help="explain so many ranges of each unit's activation; default: its top quantile")
    ] = None,
    directions: Annotated[Path | None, typer.Option(help=".npz or .pt: matrix (units, channels), bias, relu")] = None,
    rotate: Annotated[
        list[float] | None, typer.Option(help="power 0 … 1 of a random rotation: that basis as well; repeatable")
    ] = None,
    search: Annotated[str, typer.Option(help="beam, optimal (with proof up to 3 concepts), or auto")] = "auto",
    penalty: Annotated[float, typer.Option(help="factor of the score for each further concept")] = 1.0,
    limit_concepts: Annotated[int | None, typer.Option(min=1, help="extend formulas by the best so many only")] = None,
    or_not: Annotated[bool, typer.Option("--or-not", help="also try OR NOT")] = False,
    compat: Annotated[str | None, typer.Option(help="compexp: the published code's beam, duplicates and all")] = None,
    time_per_unit: Annotated[
        float | None,
        typer.Option(help="optimal search of 4 and more concepts: seconds per unit (1; inf: until proven)"),
    ] = None,
    stop_gap: Annotated[float, typer.Option(help="optimal search: stop where bound - IoU is no more")] = 0.0,
    held_out: Annotated[float | None, typer.Option(help="share of the images to score on, not to search on")] = None,
    split_column: Annotated[str | None, typer.Option(help="column that says which images to search on (train)")] = None,
    shuffles: Annotated[int, typer.Option(min=0, help="searches over shuffled images per unit, for p-values")] = 999,
    draws: Annotated[int, typer.Option(min=0, help="resamplings of the images, for intervals")] = 1000,
    untrained: Annotated[bool, typer.Option("--untrained", help="compare with the network's untrained units")] = False,
    iou: Annotated[
        str, typer.Option(help="pixels that single concepts are scored on: all, annotated, netdissect-lite")
    ] = "all",
    threshold_iou: Annotated[float, typer.Option(help="a unit detects a concept where their IoU is above this")] = 0.04,
    related_by: Annotated[
        Path | None, typer.Option(help="word vectors (.txt, .npz) or taxonomy (.csv), for kinds")
    ] = None,
    related_at: Annotated[
        float | None, typer.Option(help="cosine from which, or edges up to which, names are related")
    ] = None,
    cells_cache: Annotated[
        bool, typer.Option("--cells-cache/--no-cells-cache", help="keep the cells beside the data for the next job")
    ] = True,
    shard: Annotated[str | None, typer.Option(help="I/N: one part of the images, as its own job; see merge")] = None,
    sort: Annotated[str, typer.Option(help="column of units.csv to sort the table by; -NAME: falling")] = "-iou",
    show: Annotated[int, typer.Option(min=0, help="rows of the table that is printed")] = 20,
    out: opt.Out = Path("runs/neurons"),
    weights: Annotated[
        list[str] | None,
        typer.Option(help="DEFAULT, none (random, by --seed) or a file; repeatable: they are compared"),
    ] = None,
    transform: opt.Transform = None,
    class_names: opt.ClassNames = None,
    input_size: opt.InputSize = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 32,
    workers: opt.Workers = 0,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, max=2**63 - 1, help="of everything random; several: of random weights")
    ] = None,
    limit: opt.Limit = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Explain every unit of a layer by a logical formula of concepts (network dissection and beyond)."""
    from explain.distributed import world
    from explain.neurons._preparing import prepare
    from explain.neurons.directions import load_directions
    from explain.neurons.dissection import Detecting
    from explain.neurons.evidence.gathering import Asked
    from explain.neurons.finding import Finder
    from explain.neurons.settings import Settings
    from explain.neurons.shards import given_data, parse_shard

    options = {
        "layer": layer[0] if layer and len(layer) == 1 else layer or None,
        "weights": weights[0] if weights and len(weights) == 1 else weights or "DEFAULT",
        "seed": seed[0] if seed and len(seed) == 1 else seed or 0,
        "length": length,
        "beam": beam,
        "quantile": quantile,
        "quantile_at": quantile_at,
        "resolution": resolution,
        "upsampling": upsampling,
        "min_pixels": min_pixels,
        "units": units,
        "ranges": ranges,
        "rotate": rotate or [],
        "search": search,
        "penalty": penalty,
        "limit_concepts": limit_concepts,
        "or_not": or_not,
        "compat": compat,
        "time_per_unit": "inf" if time_per_unit == math.inf else time_per_unit,
        "stop_gap": stop_gap,
        "held_out": held_out,
        "split_column": split_column,
        "shuffles": shuffles,
        "draws": draws,
        "iou": iou,
        "threshold_iou": threshold_iou,
        "related_by": str(related_by) if related_by is not None else None,
        "related_at": related_at,
        "untrained": untrained,
        "limit": limit,
        "batch_size": batch_size,
    }
    seeds = seed or [0]
    settings = Settings(
        Finder(
            length,
            beam,
            cast("How", search),
            penalty,
            limit_concepts,
            min_pixels,
            or_not,
            cast("Compat", compat),
            time_per_unit,
            stop_gap,
        ),
        Asked(held_out, split_column, shuffles, draws, seeds[0]),
        quantile,
        cast("QuantileAt", quantile_at),
        (resolution, resolution),
        cast("Upsampling", upsampling),
        opt.parse_range(units),
        load_directions(directions) if directions is not None else None,
        batch_size=batch_size,
        workers=workers,
        detecting=Detecting(cast("IouRule", iou), threshold_iou),
        related_by=related_by,
        related_at=related_at,
        cells_cache=cells_cache,
        ranges=ranges,
    )
    check_column(sort, (*(["p_untrained"] if untrained else []), *(RANGE_COLUMNS if ranges else ())))
    with progress_bars() as progress:
        for one in data:
            opt.prepare_scenes(one, progress)
    probe = opened(data, concepts or [])
    asked = opt.ModelOptions(model, "DEFAULT", transform, class_names, input_size, mean, std, device)
    variants = open_variants(asked, weights or ["DEFAULT"], seeds, settings, untrained=untrained)
    ready = [
        prepare(one.subject, layer or None, probe, one.settings, rotate=rotate or (), limit=limit) for one in variants
    ]
    config = {
        "model": described(variants),
        "opened": opt.recorded(asked),
        "data": probe.hash,
        "directions": told(settings.directions),
        **options,
    }
    console = wide_console()
    if shard is not None:
        given = given_data(data, concepts or (), limit)
        write_shard_run(out, ready, parse_shard(shard), given, config, console, overwrite=overwrite, resume=resume)
        return
    with world() as processes:
        with shared_folder(out, config, processes, overwrite=overwrite, resume=resume) as folder:
            if not folder.done:
                write_runs(folder, variants, ready, config, processes, lambda run: print_run(console, run))
            elif processes.first:
                console.print(f"{out} is complete already")
        if processes.first:
            print_tables(console, out, sort, show)


def opened(data: list[str], concepts: list[str]) -> ProbeSet:
    """Return the probe sets as one, with concepts made from pixels."""
    from explain.data import as_probe, united, with_pixel_concepts

    found = [as_probe(one) for one in data]
    probe = found[0] if len(found) == 1 else united(found)
    return with_pixel_concepts(probe, concepts) if concepts else probe  # type: ignore[arg-type]  # it is checked
