"""The compiled loop of single-unit ablation in closed form: which class wins after one unit's mean has moved.

Arguments are `Any` because numba gives them their types.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from explain.compiling import compiled

__all__ = ["winners"]


@compiled
def winners(
    logits: Any, order: Any, weights: Any, highest: Any, lowest: Any, shifts: Any, found: Any, begin: int, end: int
) -> None:
    """Write the class with the largest ``logits[i, c] + shifts[i, u] * weights[u, c]`` to ``found[i, u]``.

    For images ``begin … end - 1``; of equal ones the lower class. Classes are tried from the largest logit down
    (``order``), until the unit's largest and smallest weight (``highest``, ``lowest``) show that no later one can
    overtake: rounding is monotone, so this is exact.
    """
    classes = logits.shape[1]
    for image in range(begin, end):
        for unit in range(weights.shape[0]):
            shift = shifts[image, unit]
            most = shift * highest[unit] if shift > 0 else shift * lowest[unit]
            best, winner = -np.inf, -1
            for rank in range(classes):
                chosen = order[image, rank]
                if logits[image, chosen] + most < best:
                    break
                value = logits[image, chosen] + shift * weights[unit, chosen]
                if value > best or (value == best and chosen < winner):
                    best, winner = value, chosen
            found[image, unit] = winner
