"""Cutting sentences into words by a rule that needs no library."""

from __future__ import annotations

import re

__all__ = ["split_words"]

_WORD = re.compile(
    r"[^\W_]+(?=n['’]t\b)"  # do|n't
    r"|n['’]t\b"
    r"|['’](?:s|re|ve|ll|d|m)\b"  # boy|'s
    r"|\d+(?:[.,]\d+)+"
    r"|\w+(?:-\w+)*"
    r"|[^\w\s]",
    re.IGNORECASE,
)


def split_words(text: str) -> tuple[str, ...]:
    """Return the tokens of a sentence, nearly as the Penn Treebank cuts them: ``("do", "n't", "stop", ".")``."""
    return tuple(_WORD.findall(text))
