"""What the CAM paper does with maps beyond boxes (Zhou et al. 2016, section 4): features, crops, objects, concepts."""

from explain.data.labelled import train_and_test
from explain.findings.result import Findings
from explain.localization.discovery.concepts import find_concepts
from explain.localization.discovery.crops import compare_crops
from explain.localization.discovery.mining import average_precision, mine
from explain.localization.discovery.overlaps import count_overlaps
from explain.localization.discovery.passes import features
from explain.localization.discovery.recognition import classify_features
from explain.localization.discovery.scenes import scene_objects
from explain.localization.discovery.svm import LinearSvm, fit_svm

__all__ = [
    "Findings",
    "LinearSvm",
    "average_precision",
    "classify_features",
    "compare_crops",
    "count_overlaps",
    "features",
    "find_concepts",
    "fit_svm",
    "mine",
    "scene_objects",
    "train_and_test",
]
