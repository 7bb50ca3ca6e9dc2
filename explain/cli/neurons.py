"""``explain neurons``: a formula of concepts for every unit of a layer."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from explain.cli import options as opt
from explain.cli.folders import shared_folder
from explain.cli.neuron_runs import described, layers_table, open_variants, told, write_runs
from explain.cli.neuron_shards import write_shard_run
from explain.cli.progress import progress_bars, wide_console
from explain.errors import InputError, near

if TYPE_CHECKING:
    from explain.neurons.domains import IouRule
    from explain.neurons.finding import How
    from explain.neurons.relatedness import Relatedness
    from explain.neurons.search import Compat
    from explain.neurons.settings import QuantileAt
    from explain.neurons.upsampling import Upsampling
    from explain.types import ProbeSet

__all__ = ["neurons", "print_run", "read_units", "unit_table"]


def neurons(
    model: opt.Model,
    data: Annotated[list[str], typer.Option(help="probe folder, or a known name such as scenes; several are united")],
    layer: Annotated[list[str] | None, typer.Option(help="layer by name, the last map by default; repeatable")] = None,
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
        list[str] | None, typer.Option(help="DEFAULT, none (random, by --seed) or a file; several are compared")
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
    config = {"model": described(variants), "data": probe.hash, "directions": told(settings.directions), **options}
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


def print_tables(console: Console, out: Path, sort: str, show: int) -> None:
    """Print the units of a run, or the table of several runs."""
    from explain.neurons.several import read_layers

    if (out / "layers.csv").is_file():
        console.print(layers_table(read_layers(out)))
        console.print(f"all runs: {out / 'layers.csv'}; each has a folder of its own in {out}")
        return
    console.print(unit_table(read_units(out), sort, show))
    console.print(f"all units: {out / 'units.csv'}; report: {out / 'report.html'}")


def opened(data: list[str], concepts: list[str]) -> ProbeSet:
    """Return the probe sets as one, with concepts made from pixels."""
    from explain.data import as_probe, united, with_pixel_concepts

    found = [as_probe(one) for one in data]
    probe = found[0] if len(found) == 1 else united(found)
    return with_pixel_concepts(probe, concepts) if concepts else probe  # type: ignore[arg-type]  # it is checked


def print_run(console: Console, run: Any) -> None:
    """Print the summary of a layer."""
    from explain.neurons.results import ALPHA

    facts = run.summary()
    layer = f"{run.layer}, {run.basis}," if run.basis else run.layer
    rows = f"{facts['units']} units" if run.ranges is None else f"{facts['units']} ranges ({run.ranges} per unit)"
    console.print(
        f"{rows} of {layer} on {len(run.probe)} images of {run.probe.name}"
        f" ({run.index.cells.total} pixels, {len(run.index.cells)} cells, {run.passes} pass(es)):"
        f" {facts['firing']} fire, {facts['interpretable']} detect a concept (IoU > {facts['threshold_iou']:g}"
        f"{RULE_WORDS[facts['iou_rule']]}), {facts['unique_concepts']} different ones;"
        f" mean IoU {facts['mean_score']:.4f} with one concept,"
        f" {facts['mean_iou']:.4f} with up to {run.length}"
        + (f", {facts['mean_iou_heldout']:.4f} on held-out images" if "mean_iou_heldout" in facts else "")
    )
    if "above_chance" in facts:
        console.print(
            f"{facts['above_chance']} units lie above chance (shuffled images, false discovery rate {ALPHA:g};"
            f" p-values in steps of 1/{run.asked.shuffles + 1}); {facts['certified']} formulas are proven the best of"
            f" their length"
        )
    if "share_above_untrained" in facts:
        modules = run.untrained["modules_reset"]
        reset = f", {modules} modules reset" if modules is not None else ""
        console.print(
            f"{100 * facts['share_above_untrained']:.0f} % of the units lie above the untrained network's"
            f" (p <= {ALPHA:g}; {run.untrained['source']}{reset})"
        )
        if run.untrained["buffers_kept"]:
            kept = ", ".join(run.untrained["buffers_kept"])
            console.print(f"warning: the untrained network keeps these buffers: {kept}", style="yellow")
    if "beam_below" in facts:
        console.print(
            f"the beam alone was below what was found in {facts['beam_below']} of {facts['beam_searched']} units"
            + (f", there by {100 * facts['beam_gain']:.1f} % of its IoU" if facts["beam_below"] else "")
        )
    if facts["stopped"]:
        console.print(
            f"the search of {facts['stopped']} units was stopped by its limits: their formulas may not be the best, and"
            " their IoU lies at most gap below the best"
        )
    _print_detectors(console, facts)
    _print_kinds(console, facts["kinds"], run.related)
    for warning in run.warnings:
        console.print(f"warning: {warning}", style="yellow")


RULE_WORDS = {"all": "", "annotated": " over annotated images", "netdissect-lite": " by NetDissect-Lite's rule"}


def _print_detectors(console: Console, facts: dict[str, Any]) -> None:
    """Print how many units detect something, by category, in both ways of counting."""
    for words, kind, detectors, unique in (
        ("one label per unit", "", facts["interpretable"], facts["unique_concepts"]),
        (
            "one label per unit and category",
            "_per_category",
            facts["detectors_per_category"],
            facts["unique_detectors_per_category"],
        ),
    ):
        rows = [
            (row["category"], row[f"detectors{kind}"], row[f"unique_detectors{kind}"]) for row in facts["histogram"]
        ]
        parts = ", ".join(f"{name} {count}/{distinct}" for name, count, distinct in rows if count)
        tail = f": {parts}" if parts else ""
        console.print(f"detectors/unique detectors, {words}: {detectors}/{unique}{tail}", highlight=False, markup=False)


def _print_kinds(console: Console, kinds: dict[str, float], related: Relatedness | None) -> None:
    """Print the shares of the kinds of formula, beside the published ones."""
    from explain.neurons.kinds import PUBLISHED

    if not kinds:
        return
    parts = ", ".join(f"{name} {100 * share:.0f} %" for name, share in kinds.items())
    console.print(f"kinds of formula, of units that have one: {parts}; published: {PUBLISHED}", highlight=False)
    if related is not None:
        console.print(f"concepts are related by {related}", highlight=False, markup=False)
    if kinds.get("unrelated"):
        console.print("unrelated ORs suggest units that answer to several ideas (polysemantic), and prove none")


SHOWN = {
    "unit": "unit",
    "iou": "IoU",
    "iou_heldout": "held-out",
    "p_value": "p",
    "gap": "gap",
    "ceiling": "ceiling",
    "formula": "formula",
    "label": "best single concept",
    "score": "its IoU",
}


RANGE_COLUMNS = ("range", "lower", "upper")
"""Columns of ``units.csv`` where ranges were asked for."""


def unit_table(rows: list[dict[str, str]], sort: str = "-iou", count: int = 20) -> Table:
    """Return rows of ``units.csv`` as a table, sorted by a column (``-NAME``: falling)."""
    falling, column = sort.startswith("-"), check_column(sort, list(rows[0]) if rows else ())
    ordered = sorted(rows, key=lambda row: (int(row["unit"]), int(row.get("range", -1))))
    ordered.sort(key=lambda row: _sortable(row[column]), reverse=falling)
    have = rows[0] if rows else {}
    shown = {"unit": "unit", **({name: name for name in RANGE_COLUMNS} if "range" in have else {}), **SHOWN}
    shown |= {"p_untrained": "p untrained"} if "p_untrained" in have else {}
    what = "ranges" if "range" in have else "units"
    table = Table(*shown.values(), title=f"{min(count, len(rows))} of {len(rows)} {what}, by {column}")
    for row in ordered[:count]:
        table.add_row(*(_short(row[name], name) for name in shown))
    return table


def check_column(sort: str, more: Sequence[str] = ()) -> str:
    """Return the column of ``units.csv`` that ``--sort`` names; `InputError` where there is none."""
    from explain.neurons.saving import COLUMNS

    column, known = sort.removeprefix("-"), (*COLUMNS, *more)
    if column not in known:
        raise InputError(f"no column {column!r} to sort by{near(column, known)}: {', '.join(known)}")
    return column


def _sortable(text: str) -> tuple[int, float, str]:
    try:
        return (1, float(text), "")
    except ValueError:
        return (0, 0.0, text)


def _short(text: str, name: str) -> str:
    if name in ("unit", "range", "formula", "label"):
        return text or "-"
    return f"{float(text):.{3 if name.startswith('p_') else 4}f}" if text else "-"


def read_units(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's ``units.csv``."""
    with (run / "units.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
