"""A linear SVM on features (Zhou et al. 2016, section 4), its weights in the features' own units.

They are CAM weights then: put on the map that the features are the mean of, they localize the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import DependencyError, InputError

__all__ = ["LinearSvm", "fit_svm", "need_solver"]

_ROUNDS = 10_000


@dataclass(frozen=True)
class LinearSvm:
    """One linear score per class: ``features @ weight.T + bias``."""

    weight: NDArray[np.float64]
    """``(k, c)``."""
    bias: NDArray[np.float64]
    """``(k,)``."""
    classes: NDArray[np.int64]
    """``(k,)``: the label that each row is of, ascending."""

    def scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Return ``(n, k)`` for features ``(n, c)``; 1 and -1 are the margins."""
        found: NDArray[np.float64] = features.astype(np.float64) @ self.weight.T + self.bias
        return found

    def predict(self, features: NDArray[Any]) -> NDArray[np.int64]:
        """Return the label with the largest score, int64 ``(n,)``."""
        found: NDArray[np.int64] = self.classes[self.scores(features).argmax(1)]
        return found


def fit_svm(features: NDArray[Any], labels: NDArray[np.int64], *, c: float = 1.0) -> LinearSvm:
    """Fit one-against-all linear SVMs (L2 penalty, squared hinge) on standardised features.

    Standardised features are divided by the root of their number, so that ``c`` means the same for vectors of any
    length. The primal problem is solved, which draws nothing at random.

    Parameters
    ----------
    features
        ``(n, d)``.
    labels
        int64 ``(n,)``, at least two different ones.
    c
        Weight of the errors against the penalty.

    Raises
    ------
    InputError
        One class only, features that are not finite, or ``c`` that is not positive.
    DependencyError
        scikit-learn is missing.
    """
    values = np.asarray(features, np.float64)
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(f"a linear SVM needs at least two classes to tell apart, got {len(classes)}")
    if not c > 0:
        raise InputError(f"c={c}: give a number above 0")
    if not np.isfinite(values).all():
        raise InputError("features hold NaN or infinity: check the weights, the input and the precision")
    centre, spread = values.mean(0), values.std(0)
    scale = np.where(spread > 0, spread, 1.0) * np.sqrt(values.shape[1])
    solver = _linear_svc()(C=c, dual=False, max_iter=_ROUNDS)
    solver.fit((values - centre) / scale, labels)
    weight, bias = solver.coef_, solver.intercept_
    if len(classes) == 2:  # one row for the larger label; the other's is its opposite
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    weight = weight / scale
    return LinearSvm(weight, bias - weight @ centre, classes.astype(np.int64))


def need_solver() -> None:
    """Refuse to begin a job that would end without scikit-learn.

    Raises
    ------
    DependencyError
        It is missing.
    """
    _linear_svc()


def _linear_svc() -> Any:
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise DependencyError(
            "linear SVMs need scikit-learn, which is not installed: pip install 'explain-nets[discovery]'"
        ) from None
    return LinearSVC
