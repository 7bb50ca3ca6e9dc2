"""What ``explain neurons`` runs: one network or several, one layer or several; one run folder, or a folder of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from explain.cli import options as opt
from explain.cli.progress import progress_bars
from explain.errors import InputError

if TYPE_CHECKING:
    from explain.distributed import World
    from explain.nets.subject import Subject
    from explain.neurons._passes import Passes
    from explain.neurons._preparing import Prepared
    from explain.neurons.indexing import OpenedIndex
    from explain.neurons.results import NeuronRun
    from explain.neurons.settings import Settings
    from explain.neurons.units import Directions
    from explain.runs import RunFolder

__all__ = ["Variant", "described", "layers_table", "open_variants", "open_weights", "told", "write_runs"]


@dataclass(frozen=True, eq=False)
class Variant:
    """One network of the job, and what is asked of it."""

    subject: Subject
    weights: str
    settings: Settings

    @property
    def seed(self) -> int:
        """Of everything random, random weights included."""
        return self.settings.asked.seed

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"random-{self.seed}" if self.weights == "none" else Path(self.weights).stem


def open_variants(
    options: opt.ModelOptions, weights: Sequence[str], seeds: Sequence[int], settings: Settings, *, untrained: bool
) -> list[Variant]:
    """Load the network with each weights; random weights with each seed, others with the first one."""
    if len(set(weights)) < len(weights) or len(set(seeds)) < len(seeds):
        raise InputError(f"weights {', '.join(weights)}, seeds {', '.join(map(str, seeds))}: give each once")
    if len(seeds) > 1 and "none" not in weights:
        raise InputError("several seeds are for random weights: give one seed, or --weights none")
    found = []
    for one in weights:
        for seed in seeds if one == "none" else seeds[:1]:
            own = replace(settings, asked=replace(settings.asked, seed=seed))
            if untrained:
                own = replace(own, untrained=_rival(options, one, seed))
            found.append(Variant(open_weights(options, one, seed), one, own))
    return found


def open_weights(options: opt.ModelOptions, weights: str, seed: int) -> Subject:
    """Load the network with these weights; random ones (``none``) are those of ``seed``."""
    return _random(options, seed) if weights == "none" else opt.open_subject(replace(options, weights=weights))


def _rival(options: opt.ModelOptions, weights: str, seed: int) -> bool | Subject:
    """Return what `explain.dissect` takes as ``untrained``: torchvision's own initialisation where there is one."""
    if weights == "none":
        return _random(options, seed + 1)  # of the same seed it would be the network itself
    return _random(options, seed) if _is_torchvision(options.model) else True


def _is_torchvision(model: str) -> bool:
    return ":" not in model and model != "demo"


def _random(options: opt.ModelOptions, seed: int) -> Subject:
    """Return the network with random weights: built anew where torchvision builds it, else its modules reset."""
    from explain.nets.untrained import untrained

    subject = opt.open_subject(replace(options, weights="none", seed=seed))
    if _is_torchvision(options.model):
        return replace(subject, source=f"random (seed {seed})")
    return untrained(subject, seed=seed).subject


def described(variants: Sequence[Variant]) -> Any:
    """Return what is recorded of the network, or of each of several."""
    found = [one.subject.describe() for one in variants]
    return found[0] if len(found) == 1 else found


def told(directions: Directions | None) -> dict[str, Any] | None:
    """Return what is recorded of directions."""
    return directions.describe() if directions is not None else None


def write_runs(
    folder: RunFolder,
    variants: Sequence[Variant],
    ready: Sequence[Prepared],
    config: dict[str, Any],
    processes: World,
    finished: Callable[[NeuronRun], None],
    merged: tuple[OpenedIndex, Passes] | None = None,
) -> None:
    """Write the run into ``folder``, or a run folder in it per network, layer and basis, and the table of all.

    Runs that an interrupted job has finished are kept. ``finished`` is told each run, in the first process.
    ``merged``: cells, and what the passes of the one network gave, where shards have run them.
    """
    from explain.neurons._explaining import explain_layers
    from explain.neurons._preparing import open_cells
    from explain.neurons.several import layer_row, write_layers
    from explain.runs import make_manifest, write_json

    single = len(ready) == 1 and len(ready[0].layers) == 1
    names = [["."]] if single else run_names(variants, ready)
    with progress_bars(quiet=not processes.first) as progress:
        cells, passes = merged or (open_cells(ready[0], processes, progress), None)
        for number, (variant, prepared, own) in enumerate(zip(variants, ready, names, strict=True)):
            places = [folder.path / name for name in own]
            # As one process sees it: the others must not look while it writes.
            if processes.gather(all((place / "report.html").is_file() for place in places))[0]:
                continue
            part = folder.checkpoint if single else folder.checkpoint.part(f"network{number}")
            runs = explain_layers(prepared, cells, checkpoint=part, world=processes, progress=progress, passes=passes)
            for place, run in zip(places, runs, strict=True):
                if processes.first:
                    _write(run, place, config if single else run_config(config, variant, run.layer))
                    finished(run)
    if processes.first and not single:
        write_layers([layer_row(folder.path / name) for own in names for name in own], folder.path / "layers.csv")
        data = {"name": ready[0].probe.name, "hash": ready[0].probe.hash}
        write_json(folder.path / "manifest.json", make_manifest("neuron-layers", config=config, data=data))


def _write(run: NeuronRun, place: Path, config: dict[str, Any]) -> None:
    from explain.neurons.saving import write_run
    from explain.report import render

    place.mkdir(exist_ok=True)
    write_run(run, place, config=config)
    render(place)


def run_config(config: dict[str, Any], variant: Variant, layer: str) -> dict[str, Any]:
    """Return the settings that make one run of several what it is."""
    own = {"model": variant.subject.describe(), "weights": variant.weights, "seed": variant.seed, "layer": layer}
    return {**config, **own}


def run_names(variants: Sequence[Variant], ready: Sequence[Prepared]) -> list[list[str]]:
    """Return the folders' names for each network: of what tells the runs apart."""
    from explain.neurons.several import safe_names

    layers = [[" ".join(filter(None, (one.layer, one.basis))) for one in prepared.layers] for prepared in ready]
    several = len({name for own in layers for name in own}) > 1
    if len(variants) == 1:
        found = layers
    else:
        found = [
            [f"{variant.name} {name}" if several else variant.name for name in own]
            for variant, own in zip(variants, layers, strict=True)
        ]
    safe = iter(safe_names([name for own in found for name in own]))
    return [[next(safe) for _ in own] for own in found]


def layers_table(rows: Sequence[dict[str, str]]) -> Table:
    """Return the rows of ``layers.csv`` as a table."""
    heads = ("run", "units", "interpretable", "unique detectors", "mean IoU", "held-out", "detectors by category")
    table = Table(*heads, title=f"{len(rows)} runs")
    for row in rows:
        counts = {name.partition(":")[2]: int(n) for name, n in row.items() if name.startswith("category:")}
        categories = ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda one: -one[1]) if n)
        ious = [f"{float(row[name]):.4f}" if row[name] else "-" for name in ("mean_iou", "mean_iou_heldout")]
        table.add_row(
            row["folder"], row["units"], row["interpretable"], row["unique_detectors"], *ious, categories or "-"
        )
    return table
