"""Maps made by hand, for the tests of boxes."""

from __future__ import annotations

import numpy as np
import torch

from explain.types import Saliency


def saliency(values, geometries=None, size=None):
    values = torch.as_tensor(np.asarray(values), dtype=torch.float32)
    b, k = values.shape[:2]
    return Saliency(
        values=values,
        classes=torch.zeros(b, k, dtype=torch.int64),
        scores=torch.arange(b * k, dtype=torch.float32).reshape(b, k),
        probabilities=torch.ones(b, k),
        constants=torch.zeros(b, k),
        exact=True,
        residual=0.0,
        method="cam",
        layer="x",
        input_size=size or tuple(values.shape[2:]),
        geometries=geometries,
    )
