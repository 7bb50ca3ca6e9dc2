"""Looking into networks: subjects, anatomy, taps, heads."""

from explain.nets.heads import LinearHead, linear_head
from explain.nets.inputs import Preprocess
from explain.nets.subject import Subject, load
from explain.nets.tap import Tap
from explain.nets.trace import Anatomy, anatomy

__all__ = ["Anatomy", "LinearHead", "Preprocess", "Subject", "Tap", "anatomy", "linear_head", "load"]
