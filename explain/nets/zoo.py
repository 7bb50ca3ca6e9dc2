"""The table of torchvision's classifiers: where each one's map is, whether its CAM is exact, and if not, why.

Taking 80 networks apart takes minutes and gigabytes, so what was found travels with the package as ``zoo.csv``,
written by ``benchmarks/zoo.py``. It is only printed: no code asks it what a network can do; `anatomy` measures that.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from explain.nets.modes import naming_errors
from explain.nets.probe import HeadProbe

__all__ = ["ZOO", "ZooRow", "fill_random", "input_side", "read_zoo", "write_zoo"]

ZOO = Path(__file__).with_name("zoo.csv")
SIDES = {"inception_v3": 299}
"""Inputs other than 224: Inception v3 is made for 299."""


@dataclass(frozen=True)
class ZooRow:
    """What was found of one network, with random weights."""

    name: str
    family: str
    """The module of torchvision that defines it."""
    parameters: int
    input: str
    """``3x224x224``."""
    layer: str
    channels: int
    height: int
    width: int
    """Of the map."""
    classes: int
    exact: bool
    folded: bool
    additivity: float
    permutation: float
    """Relative errors of the float64 probe of the head; see `HeadProbe`."""
    fault: str
    residual: float
    """The largest of `anatomy` (one image, all classes) and `explain.cam` (two images, top 2); nan if not exact."""
    gradcam: bool
    """Grad-CAM of two images, top 2: finite, nowhere flat, on the grid of the layer."""
    placed: bool | None
    """The map's corners are the image's: noise in one quarter shows most there. None where the map is exact."""
    reason: str
    torch: str
    torchvision: str
    """The versions it was measured with."""

    @property
    def grid(self) -> str:
        """``7 x 7``: height and width of the map."""
        return f"{self.height} x {self.width}"

    @property
    def answer(self) -> str:
        """Is the class activation map exact: ``yes``, ``yes, folded`` or ``no``."""
        return ("yes, folded" if self.folded else "yes") if self.exact else "no"

    @property
    def instead(self) -> str:
        """Why not, in a few words, and the method to use instead; empty where CAM is exact."""
        if self.exact:
            return ""
        probe = HeadProbe(self.additivity, self.permutation, self.fault, self.folded)
        if probe.fault:
            why = probe.fault.removeprefix("it ")
        else:
            why = "pools, but is not affine in the mean" if probe.pools else "sees positions"
        return f"the head {why}: gradcam on a {self.grid} grid"


def read_zoo(path: Path = ZOO) -> tuple[ZooRow, ...]:
    """Return the rows of the table, by name; none where there is no file."""
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as handle:
        return tuple(_row(record) for record in csv.DictReader(handle))


def write_zoo(rows: Iterable[ZooRow], path: Path = ZOO) -> None:
    """Write the table, sorted by name: the same rows give the same bytes."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, [field.name for field in fields(ZooRow)], lineterminator="\n")
        writer.writeheader()
        for row in sorted(rows, key=lambda row: row.name):
            record = {name: _text(value) for name, value in asdict(row).items()}
            writer.writerow(record)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2e}" if isinstance(value, float) else str(value)


def _row(record: dict[str, str]) -> ZooRow:
    answer = {"yes": True, "no": False}
    parsers: dict[str, Callable[[str], Any]] = {
        "int": int,
        "float": float,
        "bool": answer.__getitem__,
        "bool | None": answer.get,
        "str": str,
    }
    return ZooRow(**{field.name: parsers[str(field.type)](record[field.name]) for field in fields(ZooRow)})


def input_side(name: str) -> int:
    """Return the side of the square input that a network of torchvision is measured at: 224 where it can be."""
    return SIDES.get(name, 224)


def fill_random(network: nn.Module, images: Tensor) -> None:
    """Make a network with random weights one that can be judged; it is left in eval mode.

    Empty BatchNorm statistics let activations vanish or grow without bound, and a last layer of zeros (torchvision's
    vision transformers) gives logits of 0, of which everything is true. One pass in training mode fills the
    statistics with those of ``images`` ``(b, c, h, w)``; layers of zeros get small random weights. The random state
    is the user's again afterwards.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    devices = sorted({p.device.index or 0 for p in network.parameters() if p.device.type == "cuda"})
    if len(images) == 1:  # a map of one position has no variance in a batch of one
        images = torch.cat([images, images.flip(3)])
    with torch.random.fork_rng(devices), torch.no_grad(), naming_errors(images), ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, nn.Linear) and not bool(module.weight.any()):
                nn.init.normal_(module.weight, std=0.02)
        if norms:
            for norm in norms:
                stack.callback(setattr, norm, "momentum", norm.momentum)
                norm.momentum = 1.0
            network.train()(images)
    network.eval()
