"""Maps → boxes → numbers."""

from explain.localization.accumulators import LocalizationError, MaxBoxAcc, PointingGame, PxAP
from explain.localization.boxes import box_iou, locate
from explain.localization.evaluate import evaluate_localization
from explain.localization.flips import Flips, compare_protocols
from explain.localization.protocols import Protocol, find_protocol, protocol_names
from explain.localization.result import LocalizationResult
from explain.localization.sweep import Components, threshold_grid, threshold_sweep

__all__ = [
    "Components",
    "Flips",
    "LocalizationError",
    "LocalizationResult",
    "MaxBoxAcc",
    "PointingGame",
    "Protocol",
    "PxAP",
    "box_iou",
    "compare_protocols",
    "evaluate_localization",
    "find_protocol",
    "locate",
    "protocol_names",
    "threshold_grid",
    "threshold_sweep",
]
