"""``explain effects``: what the explained units of a run do to the model's predictions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explain.cli import options as opt
from explain.cli.findings import print_findings
from explain.cli.folders import shared_folder
from explain.cli.neuron_runs import open_weights
from explain.cli.progress import progress_bars, wide_console
from explain.errors import InputError, near

if TYPE_CHECKING:
    from explain.nets.subject import Subject

__all__ = ["KINDS", "effects"]

KINDS = ("accuracy", "contributions", "ablation", "copypaste", "steer")
_REPEATED = {"pairs": "pair", "concepts": "concept", "models_too": "model_too", "classes": "class"}
"""Options that may be repeated, by what functions call all of them."""


def effects(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="folder of a neuron run")],
    kind: Annotated[str, typer.Argument(metavar="KIND", help=" | ".join(KINDS))],
    data: Annotated[str, typer.Option(help="labelled images: folder or known name")],
    model: Annotated[str | None, typer.Option(help="the run's network by another name; as recorded by default")] = None,
    weights: Annotated[str | None, typer.Option(help="DEFAULT, none or a file; as recorded by default")] = None,
    transform: opt.Transform = None,
    class_names: opt.ClassNames = None,
    input_size: opt.InputSize = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    bins: Annotated[int | None, typer.Option(min=1, help="accuracy: bins of the firing area; default: 4")] = None,
    least: Annotated[
        int | None,
        typer.Option(
            min=1, help="images that accuracy asks of a unit, to fire on (default: 1), ablation of a class (20)"
        ),
    ] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="resamplings, for intervals; default: 1000")] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="contributions: units per class at each end (default: 5); ablation: in a group (20)"),
    ] = None,
    rank: Annotated[str | None, typer.Option(help="contributions: order by contribution or weight")] = None,
    show: Annotated[int | None, typer.Option(min=0, help="contributions: classes with pictures; default: 6")] = None,
    other: Annotated[
        Path | None, typer.Option(help="contributions: run of another layer of the network, whose units feed these")
    ] = None,
    from_layer: Annotated[str | None, typer.Option(help="contributions: the same by the layer's name")] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="copypaste: SOURCE>TARGET, classes by name or index; repeatable")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="copypaste: pairs to find, without --pair; default: 20")
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(help="copypaste: propose this one only; ablation: its units as a group; repeatable; steer: by it"),
    ] = None,
    photos: Annotated[int | None, typer.Option(min=1, help="copypaste: photos per source class; default: 3")] = None,
    cutouts: Annotated[int | None, typer.Option(min=1, help="copypaste: cut-outs per concept; default: 4")] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="copypaste: longer side of cut-outs over the photo's shorter one; default: 0.4,0.7,1"),
    ] = None,
    positions: Annotated[int | None, typer.Option(min=1, help="copypaste: places along each side; default: 2")] = None,
    region: Annotated[str | None, typer.Option(help="copypaste: what is cut out: component or whole")] = None,
    blend: Annotated[str | None, typer.Option(help="copypaste: none, feather or seamless")] = None,
    remove: Annotated[
        str | None, typer.Option(help="copypaste: also take concepts away, filled by inpaint or mean")
    ] = None,
    model_too: Annotated[
        list[str] | None, typer.Option(help="copypaste: show NAME, or NAME:WEIGHTS, the same pictures; repeatable")
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(help="copypaste: the run's probe set, where it was moved; ablation (or none), steer: masks"),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(help="ablation (repeatable), steer: zero, mean, resample; insert (ablation), scale (steer)"),
    ] = None,
    units: Annotated[str | None, typer.Option(help="ablation, steer: units: 0:64 or 3,5,7")] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="ablation: remove its most important units; repeatable")
    ] = None,
    controls: Annotated[
        int | None, typer.Option(min=0, help="ablation, steer: random groups beside each; default: 20")
    ] = None,
    match: Annotated[
        str | None, typer.Option(help="ablation, steer: random units are alike in activation, or firing")
    ] = None,
    places: Annotated[str | None, typer.Option(help="ablation: insert at all, centre, or y0,x0,y1,x1 (shares)")] = None,
    level: Annotated[str | None, typer.Option(help="ablation: insert up to the threshold, or top")] = None,
    trained: Annotated[
        str | None, typer.Option(help="ablation: photos that the network was trained on: all, or subsets a,b")
    ] = None,
    subset: Annotated[str | None, typer.Option(help="ablation, steer: use images of this subset only")] = None,
    factor: Annotated[float | None, typer.Option(help="steer: what units are multiplied by; default: 0")] = None,
    present: Annotated[
        str | None, typer.Option(help="steer: images that show the concept: file of names, or column of images.csv")
    ] = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 32,
    workers: opt.Workers = 0,
    seed: opt.Seed = 0,
    limit: opt.Limit = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Measure what explained units do to predictions, in five ways; into RUN_DIR/effects/KIND."""
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}{near(kind, KINDS)}; known: {', '.join(KINDS)}")
    from explain.data import as_localization
    from explain.distributed import world
    from explain.nets.passes import Work
    from explain.neurons.effects.opening import check_model, open_explained

    own: dict[str, dict[str, Any]] = {  # each job's own options; one that is not given is the function's default
        "accuracy": {"bins": bins, "least": least, "draws": draws},
        "contributions": {
            "top": top,
            "rank": rank,
            "draws": draws,
            "show": show,
            "other": str(other) if other is not None else None,
            "from_layer": from_layer,
        },
        "copypaste": {
            "pairs": pair,
            "count": count,
            "concepts": concept,
            "photos": photos,
            "cutouts": cutouts,
            "sizes": _sizes(sizes) if sizes is not None else None,
            "positions": positions,
            "region": region,
            "blend": blend,
            "remove": remove,
            "models_too": model_too,
            "probe": probe,
            "draws": draws,
        },
        "ablation": {
            "replace": replace,
            "units": _units(units),
            "top": top,
            "concepts": concept,
            "classes": classes,
            "least": least,
            "controls": controls,
            "match": match,
            "probe": probe,
            "places": places,
            "level": level,
            "subset": subset,
            "trained": trained,
            "draws": draws,
        },
        "steer": {
            "concept": _only("--concept", concept, kind),
            "units": _units(units),
            "replace": _only("--replace", replace, kind),
            "factor": factor,
            "probe": probe,
            "present": present,
            "controls": controls,
            "match": match,
            "subset": subset,
            "draws": draws,
        },
    }
    settings: dict[str, Any] = {"limit": limit, "seed": seed, **_own_options(kind, own)}
    explained = open_explained(run)
    with progress_bars() as progress:
        opt.prepare_scenes(data, progress)
    opened = as_localization(data)
    given: dict[str, Any] = {
        "model": model,
        "weights": weights,
        "transform": transform,
        "class_names": class_names,
        "input_size": input_size,
        "mean": mean,
        "std": std,
    }
    subject = _subject(run, given, device)
    check_model(explained, subject)
    config = {"kind": kind, "run": dict(explained.model), "data": opened.hash, "batch_size": batch_size, **settings}
    console = wide_console()
    out = run / "effects" / kind
    with world() as processes:
        with shared_folder(out, config, processes, overwrite=overwrite, resume=resume) as folder:
            if not folder.done:
                with progress_bars(quiet=not processes.first) as progress:
                    work = Work(batch_size, workers, folder.checkpoint, processes, progress)
                    job = partial(_job(kind), explained, opened, subject, **settings)
                    result = job(work=work)
                if processes.first:
                    from explain.findings.saving import write_findings

                    write_findings(result, folder.path, config=config)
                    print_findings(console, result)
            elif processes.first:
                console.print(f"{out} is complete already")
        if processes.first:
            from explain.report import render

            console.print(f"report: {render(run)}")


def _own_options(kind: str, own: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the options of a kind that were given; refuse those of other kinds."""
    known = own.get(kind, {})
    taken = {_REPEATED.get(name, name) for name in known}
    for other, options in own.items():
        for name, value in options.items():
            option = _REPEATED.get(name, name)
            if value is not None and option not in taken:
                raise InputError(f"--{option.replace('_', '-')} is an option of {other}, not of {kind}: leave it out")
    return {name: value for name, value in known.items() if value is not None}


def _units(text: str | None) -> list[int] | None:
    found = opt.parse_range(text)
    return None if found is None else list(found)


def _only(option: str, values: list[str] | None, kind: str) -> str | None:
    """Return the one value that a job takes of an option that others take several of."""
    if values is not None and len(values) > 1 and kind == "steer":
        raise InputError(f"{option} was given {len(values)} times: steer takes one")
    return values[0] if values else None


def _sizes(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--sizes {text!r}: give numbers, as 0.4,0.7,1") from None


def _job(kind: str) -> Callable[..., Any]:
    from explain.neurons import effects

    found: Callable[..., Any] = getattr(effects, kind)
    return found


def _subject(run: Path, given: dict[str, Any], device: str) -> Subject:
    """Load the network that a run recorded, with what is given in the place of what was recorded."""
    from explain.runs import read_json

    manifest = read_json(run / "manifest.json")
    config = manifest["config"]
    recorded: dict[str, Any] = {"model": manifest["model"]["name"], **config.get("opened", {})}
    chosen: dict[str, Any] = {key: recorded.get(key) if value is None else value for key, value in given.items()}
    weights = chosen.pop("weights") or config.get("weights")
    if chosen["class_names"] is not None:
        chosen["class_names"] = Path(chosen["class_names"])
    seed = config.get("seed")
    return open_weights(
        opt.ModelOptions(**chosen, device=device),
        weights if isinstance(weights, str) else "DEFAULT",
        seed if isinstance(seed, int) else 0,
    )
