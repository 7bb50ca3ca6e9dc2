"""What explained units do to the model's predictions: one job per question, each on a finished neuron run.

Every job is called in one way::

    KIND(run, data, model=None, *, …its own options…, seed=0, limit=None, work=None) -> Findings

``run``
    The folder of a neuron run, an `explain.neurons.NeuronRun` in memory, or an `Explained`.
``data``
    Labelled images: what `explain.data.as_localization` takes.
``model``
    The network that was explained: a subject, a module or a name; None: that of a run in memory.
``seed, limit``
    Of everything random; use the first ``limit`` images.
``work``
    How passes are made (`explain.nets.passes.Work`): batch size, workers, checkpoint, processes, progress.

A job's own options are keywords with plain values, which the command line records. `explain.neurons.effects.preparing.
open_job` checks what all jobs need. ``findings.units`` maps a unit's number to its facts, for the report's view of it.

The names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Explained": "explain.neurons.effects.opening",
    "ablation": "explain.neurons.effects.ablating",
    "accuracy": "explain.neurons.effects.firing_accuracy",
    "contributions": "explain.neurons.effects.contributing",
    "copypaste": "explain.neurons.effects.copy_paste",
    "open_explained": "explain.neurons.effects.opening",
    "Steered": "explain.neurons.effects.editing",
    "steer": "explain.neurons.effects.steering",
    "steered": "explain.neurons.effects.editing",
}

__all__ = [
    "Explained",
    "Steered",
    "ablation",
    "accuracy",
    "contributions",
    "copypaste",
    "open_explained",
    "steer",
    "steered",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'explain.neurons.effects' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
