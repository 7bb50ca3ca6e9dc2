"""Sequence-pair classifiers of Hugging Face behind the adapter; needs transformers, the extra ``text``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from explain.data.pairs import LABELS
from explain.errors import DependencyError, ModelError
from explain.text.models import SentencePairModel

__all__ = ["open_hugging_face"]


def open_hugging_face(name: str) -> SentencePairModel:
    """Return the classifier in a folder, or of a name that transformers finds.

    Its classes are those of its configuration (``id2label``), told by the first letters: ``ENTAILMENT``, ``neutral``,
    ``contradiction``. Both sentences go in as one sequence; a unit's value is taken of its first token or its largest
    one (`explain.text.reading`).

    Raises
    ------
    DependencyError
        transformers is not installed.
    ModelError
        It does not load, or its classes are not the three of natural-language inference.
    """
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError:
        raise DependencyError(
            "transformers is not installed, which models hf:NAME need: pip install 'explain-nets[text]'"
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        module = AutoModelForSequenceClassification.from_pretrained(name)
    except Exception as error:  # of files, networks and configurations, in many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"hf:{name} does not load ({lines[0]}): give a folder or a name of a classifier") from None

    def tokenize(premises: list[str], hypotheses: list[str]) -> Mapping[str, Tensor]:
        encoded: Any = tokenizer(premises, hypotheses, padding=True, truncation=True, return_tensors="pt")
        return dict(encoded)

    classes = tuple(_label(str(module.config.id2label[place])) for place in range(module.config.num_labels))
    return SentencePairModel(module.eval(), tokenize, classes=classes, name=f"hf:{name}", source=name)


def _label(name: str) -> str:
    """Return the label that a configuration's name begins like: ``ENTAIL`` is entailment."""
    found = [label for label in LABELS if name and label.startswith(name.lower()[:6])]
    return found[0] if found else name
