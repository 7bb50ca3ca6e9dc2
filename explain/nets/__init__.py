"""Looking into networks: subjects, anatomy, taps, heads."""

from explain.nets.grid import Grid
from explain.nets.heads import LinearHead, linear_head
from explain.nets.inputs import Preprocess
from explain.nets.mlpconv import nin
from explain.nets.pooled import PooledNet, to_pooled
from explain.nets.subject import Subject, load
from explain.nets.tap import Tap
from explain.nets.trace import Anatomy, anatomy
from explain.nets.training import Training, fine_tune

__all__ = [
    "Anatomy",
    "Grid",
    "LinearHead",
    "PooledNet",
    "Preprocess",
    "Subject",
    "Tap",
    "Training",
    "anatomy",
    "fine_tune",
    "linear_head",
    "load",
    "nin",
    "to_pooled",
]
