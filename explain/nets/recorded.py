"""A network that is known by what a job recorded of it: for results that are made without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from explain.nets.subject import Subject

__all__ = ["RecordedSubject", "recorded_subject"]


@dataclass(frozen=True, repr=False)
class RecordedSubject(Subject):
    """A subject without its network."""

    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Of `Subject.describe`."""
    where: str = "cpu"

    @property
    def device(self) -> torch.device:
        """Where counts are made."""
        return torch.device(self.where)

    def hash(self) -> str:
        """Return the recorded hash."""
        return str(self.facts["hash"])

    def describe(self) -> dict[str, Any]:
        """Return what was recorded."""
        return dict(self.facts)


def recorded_subject(facts: Mapping[str, Any], device: str | torch.device = "cpu") -> RecordedSubject:
    """Return the subject that ``facts`` (of `Subject.describe`) tell of; it cannot be run."""
    name, source = str(facts["name"]), str(facts["source"])
    return RecordedSubject(nn.Identity(), name=name, source=source, facts=dict(facts), where=str(device))
