"""Sentence-pair models behind a small adapter: a module, and how sentences become what it takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explain.data.pairs import LABELS
from explain.errors import ExplainError, ModelError
from explain.nets.subject import Subject, import_attribute

__all__ = ["Batch", "SentencePairModel", "open_model"]

Batch = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""What a model takes: ``module(x)``, ``module(*x)`` or ``module(**x)``; the first axis of each tensor is the pairs."""


@dataclass(frozen=True, eq=False)
class SentencePairModel:
    """A model of sentence pairs with what belongs to it.

    An own model takes these lines::

        def mine():
            model, words = load(...)
            return SentencePairModel(model, lambda premises, hypotheses: (ids(premises), ids(hypotheses)), layer="act")
    """

    module: nn.Module
    """Returns logits ``(b, classes)``, or something with ``logits``."""
    tokenize: Callable[[list[str], list[str]], Batch]
    """From b premises and b hypotheses (as the data file has them) to the module's input. Only sentences that give
    tensors of equal shapes are run together, so what is padded here is all that is padded."""
    layer: str | None = None
    """What is explained where nothing else is asked for; the input of the last linear layer where None."""
    classes: tuple[str, ...] = LABELS
    """The classes in the order of the logits: entailment, neutral and contradiction in any order."""
    words: Collection[str] | None = None
    """The words (without capitals) that the model knows; None where that cannot be said."""
    name: str = "model"
    source: str = field(default="", compare=False)
    """Where the weights came from."""

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module) or not callable(self.tokenize):
            raise ModelError(
                f"a SentencePairModel needs a torch.nn.Module and a function, got {type(self.module).__name__} and"
                f" {type(self.tokenize).__name__}"
            )
        if sorted(name.lower() for name in self.classes) != sorted(LABELS):
            raise ModelError(
                f"{self.name} has {len(self.classes)} classes ({', '.join(self.classes)}): it must have the three of"
                f" the data, {', '.join(LABELS)}, in any order"
            )

    @property
    def order(self) -> list[int]:
        """The logit of each of `LABELS`."""
        own = [name.lower() for name in self.classes]
        return [own.index(name) for name in LABELS]

    @property
    def subject(self) -> Subject:
        """The module as the other jobs know it, for its hash, its device and untrained copies."""
        return Subject(self.module, classes=LABELS, name=self.name, source=self.source)

    def with_module(self, subject: Subject) -> SentencePairModel:
        """Return the same adapter around another module."""
        return replace(self, module=subject.model, source=subject.source)


def open_model(model: SentencePairModel | str | Path, *, device: str | torch.device | None = None) -> SentencePairModel:
    """Return an adapter.

    Parameters
    ----------
    model
        An adapter; ``"FILE.py:callable"`` or ``"module:callable"``, which returns one; the folder that ``explain text
        train`` wrote; or ``"hf:NAME"``, a sequence-pair classifier of Hugging Face (a folder, or a name that
        transformers finds), with the extra ``text``.
    device
        Moves the module there (in place, as torch does).

    Raises
    ------
    ModelError, DependencyError
        There is no such model, it is none of these, or it has other classes than the data.
    """
    found = model if isinstance(model, SentencePairModel) else _opened(str(model))
    if device is not None:
        found.module.to(device)
    return found


def _opened(spec: str) -> SentencePairModel:
    if spec.startswith("hf:"):
        from explain.text.huggingface import open_hugging_face

        return open_hugging_face(spec.removeprefix("hf:"))
    if (Path(spec) / "model.json").is_file():
        from explain.text.nli_net import load_net

        return load_net(spec)
    if ":" not in spec:
        raise ModelError(
            f"no model {spec!r}: give FILE.py:callable, module:callable, a folder that `explain text train` wrote, or"
            " hf:NAME"
        )
    made = import_attribute(spec)
    if callable(made) and not isinstance(made, (SentencePairModel, nn.Module)):
        made = _called(made, spec)
    if not isinstance(made, SentencePairModel):
        raise ModelError(
            f"{spec} gives {type(made).__name__}: it must return explain.text.SentencePairModel(module, tokenize)"
        )
    return made if made.name != "model" else replace(made, name=spec)


def _called(made: Callable[[], Any], spec: str) -> Any:
    try:
        return made()
    except ExplainError:
        raise
    except Exception as error:  # the user's own code
        raise ModelError(f"{spec}() failed: {type(error).__name__}: {error}") from error
