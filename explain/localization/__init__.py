"""Maps → boxes → numbers."""

from explain.localization.boxes import box_iou, locate
from explain.localization.evaluate import LocalizationResult, evaluate_localization
from explain.localization.sweep import threshold_sweep

__all__ = ["LocalizationResult", "box_iou", "evaluate_localization", "locate", "threshold_sweep"]
