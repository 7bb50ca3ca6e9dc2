"""``explain localize``: score maps and boxes on labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from explain.cli import options as opt
from explain.cli.folders import shared_folder
from explain.cli.progress import progress_bars, wide_console
from explain.errors import InputError

if TYPE_CHECKING:
    from explain.localization.protocols import Protocol
    from explain.localization.result import LocalizationResult
    from explain.localization.summary import Summary
    from explain.types import LocalizationSet

__all__ = ["localize", "score_table"]

_BLIND = ("centre", "full", "rings")


def localize(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="torchvision name, module:callable, FILE.py:callable, or demo; or a baseline: centre, full, rings",
        ),
    ],
    data: Annotated[str, typer.Option(help="folder in a known format, or a known name")],
    out: opt.Out = Path("runs/localization"),
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="cam2016, maxboxacc-v2, …, or FILE.toml; repeatable; default: cam2016"),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="cam, gradcam, …, captum:NAME; repeatable; default: cam")
    ] = None,
    compare: Annotated[str | None, typer.Option(help="another protocol: say which images flip, and why")] = None,
    layer: Annotated[str | None, typer.Option(help="layer by name; default: the last map")] = None,
    align: Annotated[str, typer.Option(help="grid or receptive-field")] = "grid",
    boxes: Annotated[str | None, typer.Option(help="any, first or largest: which of an image's boxes count")] = None,
    split: Annotated[str | None, typer.Option(help="part of the data set, where its format has several")] = None,
    val: Annotated[str | None, typer.Option(help="data that choose the threshold")] = None,
    blacklist: Annotated[Path | None, typer.Option(help="the ILSVRC devkit's list of images to leave out")] = None,
    maps: Annotated[Path | None, typer.Option(help="earlier run on the same data: its maps, no forward pass")] = None,
    random_weights: Annotated[bool, typer.Option(help="baseline: the network with random weights")] = True,
    weights: opt.Weights = "DEFAULT",
    transform: opt.Transform = None,
    class_names: opt.ClassNames = None,
    input_size: opt.InputSize = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 32,
    workers: opt.Workers = 0,
    threads: Annotated[int, typer.Option(min=1, help="threads that score one batch while the next is mapped")] = 2,
    seed: opt.Seed = 0,
    limit: opt.Limit = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Score how well maps find the labelled object, beside baselines; by any protocol of the field, or one's own."""
    from dataclasses import replace

    from explain.data import as_localization
    from explain.distributed import world
    from explain.localization import evaluate_localization
    from explain.localization.flips import compare_protocols
    from explain.localization.protocols import find_protocol
    from explain.localization.saving import read_maps, write_result
    from explain.report import render

    names = list(protocol or ["cam2016"])
    rules = [find_protocol(name) for name in [*names, *([compare] if compare else [])]]
    rules = list({one.name: one for one in rules}.values())
    if boxes is not None:
        if boxes not in ("any", "first", "largest"):
            raise InputError(f"--boxes {boxes!r}: use any, first or largest")
        rules = [replace(one, instances=boxes) for one in rules]  # type: ignore[arg-type]  # it was checked
    if model in _BLIND:
        blind(model, data, rules, out, split=split, limit=limit, seed=seed, overwrite=overwrite, resume=resume)
        return
    with progress_bars() as progress:
        opt.prepare_scenes(data, progress)
    labelled = opened(data, split)
    subject = opt.open_subject(
        opt.ModelOptions(model, weights, transform, class_names, input_size, mean, std, device, seed)
    )
    config = {
        "model": subject.describe(),
        "data": labelled.hash,
        "protocols": [one.as_dict() for one in rules],
        "methods": list(method or ["cam"]),
        "layer": layer,
        "align": align,
        "val": val,
        "blacklist": str(blacklist) if blacklist else None,
        "random_weights": random_weights,
        "limit": limit,
        "seed": seed,
        "batch_size": batch_size,
    }
    console = wide_console()
    with world() as processes:
        with shared_folder(out, config, processes, overwrite=overwrite, resume=resume) as folder:
            if not folder.done:
                with progress_bars() as progress:
                    result = evaluate_localization(
                        subject,
                        labelled,
                        rules,
                        method or ["cam"],
                        layer=layer,
                        align=align,  # type: ignore[arg-type]  # it is checked
                        val=as_localization(val) if val is not None else None,
                        blacklist=read_blacklisted(blacklist, labelled) if blacklist is not None else None,
                        batch_size=batch_size,
                        workers=workers,
                        threads=threads,
                        limit=limit,
                        seed=seed,
                        randomised=random_weights,
                        maps=read_maps(maps) if maps is not None else None,
                        world=processes,
                        checkpoint=folder.checkpoint,
                        progress=progress if processes.first else None,
                    )
                if processes.first:
                    write_result(result, folder.path, config=config)
                    print_result(console, result)
                    if compare is not None:
                        for label in result.metrics:
                            flips = compare_protocols(result, rules[0], find_protocol(compare), label)
                            (folder.path / f"flips_{label}.txt").write_text(flips.table() + "\n", encoding="utf-8")
                            console.print(flips.table(), highlight=False)
                    render(folder.path)
            elif processes.first:
                console.print(f"{out} is complete already")
        if processes.first:
            console.print(f"report: {out / 'report.html'}")


def opened(data: str, split: str | None, limit: int | None = None) -> LocalizationSet:
    """Return labelled images with boxes, or one part of them."""
    from explain.data import as_localization, open_localization

    found: LocalizationSet = as_localization(data) if split is None else open_localization(data, split=split)
    return found.select(range(min(limit, len(found)))) if limit is not None else found


def read_blacklisted(path: Path, data: LocalizationSet) -> frozenset[str]:
    """Return the names of the images that the devkit's file lists."""
    from explain.data.formats.blacklist import blacklisted, read_blacklist

    listed = blacklisted(data, read_blacklist(path))
    return frozenset(name for name, one in zip(data.names, listed, strict=True) if one)


def blind(
    kind: str,
    data: str,
    rules: Sequence[Protocol],
    out: Path,
    *,
    split: str | None,
    limit: int | None,
    seed: int,
    overwrite: bool,
    resume: bool,
) -> None:
    """Score a baseline that looks at no picture: sizes and boxes are enough."""
    from explain.localization.baselines import evaluate_blind
    from explain.localization.saving import write_blind
    from explain.runs import run_folder

    labelled = opened(data, split, limit)
    config = {
        "baseline": kind,
        "data": labelled.hash,
        "protocols": [one.as_dict() for one in rules],
        "seed": seed,
        "limit": limit,
    }
    console = wide_console()
    with run_folder(out, config=config, overwrite=overwrite, resume=resume) as folder:
        if folder.done:
            console.print(f"{out} is complete already")
            return
        with progress_bars() as progress:
            found = evaluate_blind(kind, labelled, rules, seed=seed, progress=progress)  # type: ignore[arg-type]
        write_blind(kind, found, labelled, rules, folder.path, config=config)
        for one in rules:
            console.print(blind_table(kind, one, found[one.name][0], labelled))
    console.print(f"result: {out / 'result.json'}")


def blind_table(kind: str, rules: Protocol, summary: Summary, data: LocalizationSet) -> Table:
    """Return a baseline's scores under one protocol."""
    title = f"{kind}, protocol {rules.name} ({rules.instances} box), {len(data)} images of {data.name}"
    table = Table("score (%)", kind, "95 % interval", title=title)
    for name, score in summary.scores.items():
        table.add_row(name, f"{score.value:.2f}", f"{score.low:.2f} to {score.high:.2f}")
    return table


def print_result(console: Console, result: LocalizationResult) -> None:
    """Print accuracy first, then warnings, then a table per protocol."""
    from explain.localization.result import accuracy_line

    console.print(accuracy_line(result.accuracy))
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow")
    for rules in result.protocols:
        console.print(score_table(result, rules))


def score_table(result: LocalizationResult, rules: Protocol) -> Table:
    """Return one protocol's scores with intervals, and the baselines beside them."""
    methods, name = list(result.metrics), rules.name
    title = f"{name} at {result.layer} (box at {rules.threshold:g} of the maximum), {len(result.data)} images"
    baselines = list(result.by_protocol)
    table = Table("score (%)", *methods, *(kind.replace("_", " ") for kind in baselines), title=title)
    for key in result.metrics[methods[0]][name]:
        own = [result.metrics[method][name][key] for method in methods]
        best = {method: result.summaries[method][name].thresholds["oracle"] for method in methods}
        cells = [
            str(score) + (f" at {best[method]:.3g}" if key == "maxboxacc" else "")
            for method, score in zip(methods, own, strict=True)
        ]
        others = [result.by_protocol[kind][name].get(key) for kind in baselines]
        table.add_row(key, *cells, *("–" if score is None else f"{score.value:.1f}" for score in others))
    return table
