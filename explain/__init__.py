"""explain: why a vision network decides as it does, with answers that check themselves.

The public names are loaded when first used, so that ``import explain`` costs next to nothing beyond torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Boxes": "explain.types",
    "CamModule": "explain.saliency.deploy",
    "ExplainError": "explain.errors",
    "Saliency": "explain.types",
    "Subject": "explain.nets",
    "attribute": "explain.saliency.attribute",
    "cam": "explain.saliency.cam",
    "dissect": "explain.neurons.dissect",
    "dissect_layers": "explain.neurons.dissect",
    "evaluate_localization": "explain.localization",
    "faithfulness": "explain.saliency.faithfulness",
    "features": "explain.localization.discovery",
    "load": "explain.nets",
    "locate": "explain.localization",
    "open_data": "explain.data",
    "render": "explain.report",
    "watch": "explain.saliency",
}

__all__ = [
    "Boxes",
    "CamModule",
    "ExplainError",
    "Saliency",
    "Subject",
    "__version__",
    "attribute",
    "cam",
    "dissect",
    "dissect_layers",
    "evaluate_localization",
    "faithfulness",
    "features",
    "load",
    "locate",
    "open_data",
    "render",
    "watch",
]

if TYPE_CHECKING:
    from explain.data import open_data
    from explain.errors import ExplainError
    from explain.localization import evaluate_localization, locate
    from explain.localization.discovery import features
    from explain.nets import Subject, load
    from explain.neurons.dissect import dissect, dissect_layers
    from explain.report import render
    from explain.saliency import watch
    from explain.saliency.attribute import attribute
    from explain.saliency.cam import cam
    from explain.saliency.deploy import CamModule
    from explain.saliency.faithfulness import faithfulness
    from explain.types import Boxes, Saliency


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'explain' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
