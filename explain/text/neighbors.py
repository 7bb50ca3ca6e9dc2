"""NEIGHBORS(word): the word or its nearest ones by word vectors (Mu & Andreas 2020, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from explain.errors import DataError

__all__ = ["NEAREST", "nearest_words", "refuse_uncovered"]

NEAREST = 5
"""How many words join a word: the paper's number."""
_ROWS = 1024  # words compared at one time


def nearest_words(
    words: Sequence[str], vectors: Mapping[str, NDArray[np.float32]], count: int = NEAREST
) -> dict[str, tuple[str, ...]]:
    """Return the ``count`` words nearest to each word by cosine, nearest first; of equal ones the earlier word.

    Parameters
    ----------
    words
        Among which neighbours are looked for. Words without a vector (or with one of zeros) have no neighbours and are
        none.
    vectors
        float32 ``(d,)`` of each word, all of one dimension.

    Raises
    ------
    DataError
        Vectors of several dimensions.
    """
    known = [word for word in words if word in vectors and np.any(vectors[word])]
    if not known:
        return {}
    sizes = {len(vectors[word]): word for word in known}
    if len(sizes) > 1:
        told = ", ".join(f"{size} of {word!r}" for size, word in sorted(sizes.items()))
        raise DataError(f"the vectors have several dimensions ({told}): give one file of one kind")
    rows = np.stack([vectors[word] for word in known]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = {}
    for begin in range(0, len(known), _ROWS):
        cosines = rows[begin : begin + _ROWS] @ rows.T
        cosines[np.arange(len(cosines)), begin + np.arange(len(cosines))] = -np.inf  # itself
        order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(count, len(known) - 1)]
        for place, others in enumerate(order.tolist()):
            found[known[begin + place]] = tuple(known[other] for other in others)
    return found


def refuse_uncovered(counts: Mapping[str, int], known: Collection[str], what: str, data: str) -> float:
    """Return the share of the words of the data, each as often as it occurs, that are known.

    Raises
    ------
    DataError
        It is less than half.
    """
    total = sum(counts.values())
    share = sum(count for word, count in counts.items() if word in known) / total if total else 1.0
    if share < 0.5:
        raise DataError(
            f"{what} cover {100 * share:.0f} % of the words of {data}, less than half: give those of the same language"
            " and spelling"
        )
    return share
