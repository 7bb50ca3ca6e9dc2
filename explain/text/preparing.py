"""A text job made ready: concepts, the model's layer, and the pairs as the engine's probe set of one-pixel images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from explain.data.pairs import PairSet
from explain.errors import InputError
from explain.nets.untrained import untrained
from explain.neurons._preparing import Prepared
from explain.neurons.evidence.gathering import held_out_images
from explain.neurons.units import UnitLayer, choose_units
from explain.neurons.upsampling import make_axes
from explain.text.features import Features, pair_features
from explain.text.learning import opened_pairs
from explain.text.models import SentencePairModel, open_model
from explain.text.neighbors import refuse_uncovered
from explain.text.reading import class_weights, default_layer, read_units
from explain.text.settings import TextSettings
from explain.text.tagging import tagged
from explain.types import Labels, ProbeSet

__all__ = ["PreparedText", "prepare_text", "probe_of", "texts_of"]

ONE = (1, 1)
"""The size of a sentence pair, taken for an image."""


@dataclass(frozen=True, eq=False)
class PreparedText:
    """All that is checked and known before the pairs go through the network."""

    model: SentencePairModel
    rival: SentencePairModel | None
    """The same architecture with untrained weights."""
    pairs: PairSet
    features: Features
    settings: TextSettings
    engine: Prepared
    weights: NDArray[np.float32] | None
    """float32 ``(3, u)``: of the explained units in the last linear layer; None where it does not read them."""

    @property
    def layer(self) -> str:
        """The layer's name."""
        return self.engine.layers[0].layer


def prepare_text(
    model: SentencePairModel | str | Path,
    data: PairSet | str | Path,
    settings: TextSettings | None = None,
    *,
    device: str | torch.device | None = None,
    limit: int | None = None,
) -> PreparedText:
    """Check everything that can be checked before the passes.

    Raises
    ------
    ModelError, InputError, DataError, DependencyError
        Models, layers, data, options that cannot be used.
    """
    asked = settings or TextSettings()
    adapter = open_model(model, device=device)
    (pairs,) = opened_pairs([data], limit)
    asked.least(len(pairs))
    pairs = tagged(pairs, asked.tagger)
    if adapter.words is not None:
        refuse_uncovered(word_counts(pairs), adapter.words, f"the words that {adapter.name} knows", pairs.name)
    texts = texts_of(pairs)
    layer = asked.layer or default_layer(adapter, texts)
    total = read_units(adapter, texts[:1], layer, tokens=asked.tokens).values.shape[1]
    units = choose_units(asked.engine.units, total)
    seed = asked.engine.asked.seed
    facts = None
    if asked.random_weights:
        adapter = adapter.with_module(untrained(adapter.subject, seed=seed).subject)
    rival = None
    if asked.engine.untrained is not False:
        if not isinstance(asked.engine.untrained, bool):
            raise InputError("untrained: give True; the untrained network is made of the model by the seed")
        made = untrained(adapter.subject, seed=seed + asked.random_weights)  # of one seed it would be the same network
        rival = adapter.with_module(made.subject)
        told = {"modules_reset": len(made.reset), "buffers_kept": list(made.kept)}
        facts = {"source": made.subject.source, "hash": made.subject.hash(), **told}
    features = pair_features(pairs, words=asked.words, vectors=asked.vectors, table=asked.features)
    probe = probe_of(pairs, features, seed if asked.shuffled_labels else None)
    own = UnitLayer(layer, units, ONE, None, None, total)
    engine = Prepared(
        subject=adapter.subject,
        probe=probe,
        settings=asked.engine,
        layers=(own,),
        axes=(make_axes("bilinear", ONE, ONE),),
        before=None,
        held=held_out_images(asked.engine.asked, probe),
        rival=None if rival is None else rival.subject,
        rival_layers=() if rival is None else (replace(own, units=np.arange(total)),),
        rival_facts=facts,
    )
    weights = class_weights(adapter, texts, layer, tokens=asked.tokens)
    return PreparedText(adapter, rival, pairs, features, asked, engine, None if weights is None else weights[:, units])


def texts_of(pairs: PairSet) -> list[tuple[str, str]]:
    """Return what the model is given: (premise, hypothesis) as text."""
    return [(one.text, other.text) for one, other in zip(pairs.premises, pairs.hypotheses, strict=True)]


def word_counts(pairs: PairSet) -> dict[str, int]:
    """Return how often each token occurs, without capitals."""
    counts: dict[str, int] = {}
    for one in (*pairs.premises, *pairs.hypotheses):
        for token in one.tokens:
            counts[token.lower()] = counts.get(token.lower(), 0) + 1
    return counts


@dataclass(frozen=True, eq=False)
class _PairLabels:
    """The concepts of a pair, as labels of an image of one pixel."""

    features: Features
    laid: Sequence[int]
    """Whose concepts each pair gets."""

    def __call__(self, index: int, size: tuple[int, int]) -> Labels:
        return Labels(np.zeros((0, *size), np.int32), self.features.row(self.laid[index]))


def probe_of(pairs: PairSet, features: Features, shuffled_by: int | None = None) -> ProbeSet:
    """Return the pairs as a probe set whose images are sentence pairs and have one pixel.

    ``shuffled_by``: a seed that lays the concepts of each pair on another one; as they are where None.
    """
    laid = np.arange(len(pairs))
    if shuffled_by is not None:
        laid = np.random.default_rng([shuffled_by, len(pairs)]).permutation(len(pairs))
    return ProbeSet(
        name=pairs.name,
        images=texts_of(pairs),
        concepts=tuple(one.concept for one in features.concepts),
        labels=_PairLabels(features, laid.tolist()),
        names=tuple(str(row) for row in pairs.rows.tolist()),
        hash=pairs.hash if shuffled_by is None else f"{pairs.hash}:shuffled:{shuffled_by}",
        root=pairs.root,
        columns=pairs.columns,
    )
