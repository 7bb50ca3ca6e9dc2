"""The table of cells and the units of a chunk as tensors on a device, for `explain.neurons._torch_beam`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.neurons._beam_state import AND, AND_NOT, OR, OR_NOT, Rules
from explain.neurons._table import Table

__all__ = ["KEEP", "LEAF", "DeviceTable", "DeviceUnits", "load_table", "load_units", "unpacked"]

LEAF, KEEP = 4, 5  # operators beside OR, AND, AND NOT and OR NOT, as in the compiled search
# What each operator counts: the parent g, the concept c, what both share, and everything.
_COUNTS = {OR: (1, 1, -1, 0), AND: (0, 0, 1, 0), AND_NOT: (1, 0, -1, 0), OR_NOT: (0, -1, 1, 1)}
_BATCH = {"cpu": 1 << 16, "cuda": 1 << 21}  # words of 64 cells that are unpacked at once


class DeviceTable(NamedTuple):
    """The table of cells on the device; the names are those of `Table`."""

    start: Tensor
    """int64 ``(M,)``: where the concepts of each cell begin in ``labels``."""
    sizes: Tensor
    """int64 ``(M,)``: concepts of each cell."""
    labels: Tensor
    """int32."""
    weights: Tensor
    marks: Tensor
    pixels: Tensor
    overlap: Tensor
    shared_marks: Tensor
    bits: Tensor
    """int64 ``(C, words)``: the cells of each concept."""
    counts: Tensor
    """int64 ``(4, 4)``: by operator, what it counts: see `_COUNTS`."""
    penalties: Tensor
    total: int
    total_mark: int


class DeviceUnits(NamedTuple):
    """The units of a chunk."""

    active: Tensor
    """int64 ``(u,)``."""
    own: Tensor
    """int64 ``(u, C)``: active pixels in each concept."""
    bits: Tensor
    """int64 ``(u, words)``: the cells with active pixels."""
    counts: Tensor
    """int64 ``(u, M)``: active pixels in each cell."""
    leaves: Tensor | None
    """bool ``(u, C)``: concepts that may be leaves; None: all."""
    chosen: Tensor | None
    """bool ``(u, C)``: concepts that extensions may use; None: all."""


def load_table(table: Table, rules: Rules, device: torch.device) -> DeviceTable:
    """Return the table on the device, with the cells of each concept as bits."""

    def load(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    concepts, words = len(table.pixels), (len(table.records) - 1 + 63) // 64
    owner = torch.repeat_interleave(torch.arange(concepts, device=device), load(np.diff(table.start)))
    return DeviceTable(
        start=load(table.records[:-1, 0]),
        sizes=load(np.diff(table.records[:, 0])),
        labels=load(table.indices.astype(np.int32)),
        weights=load(table.records[:-1, 1]),
        marks=load(table.records[:-1, 2]),
        pixels=load(table.pixels),
        overlap=load(table.overlap),
        shared_marks=load(table.shared_marks),
        bits=_packed(owner, load(table.rows.astype(np.int64)), concepts, words),
        counts=torch.tensor([_COUNTS[op] for op in range(len(_COUNTS))], dtype=torch.int64, device=device),
        penalties=load(rules.penalties),
        total=int(table.total),
        total_mark=int(table.total_mark),
    )


def load_units(
    cells: DeviceTable, counts: tuple[NDArray[np.int64], ...], rules: Rules, begin: int, end: int
) -> DeviceUnits:
    """Return the units ``begin … end - 1`` of ``counts = (indptr, cells, counts, active)`` on the table's device."""
    device, concepts = cells.pixels.device, len(cells.pixels)
    indptr, numbers, sizes, active = counts
    part = slice(indptr[begin], indptr[end])
    own, pixels = torch.from_numpy(numbers[part]).to(device), torch.from_numpy(sizes[part]).to(device)
    amount = torch.from_numpy(np.diff(indptr[begin : end + 1])).to(device)
    owner = torch.repeat_interleave(torch.arange(end - begin, device=device), amount)
    entry, label = _labels_of(cells, own)
    shared = torch.zeros((end - begin) * concepts, dtype=torch.int64, device=device)
    shared.index_add_(0, (owner * concepts)[entry] + label, pixels[entry])
    dense = torch.zeros((end - begin, len(cells.weights)), dtype=torch.int64, device=device)
    dense[owner, own] = pixels
    units = DeviceUnits(
        active=torch.from_numpy(active[begin:end]).to(device),
        own=shared.view(end - begin, concepts),
        bits=_packed(owner, own, end - begin, cells.bits.shape[1]),
        counts=dense,
        leaves=torch.from_numpy(rules.allowed[begin:end] != 0).to(device) if len(rules.allowed) else None,
        chosen=None,
    )
    return units._replace(chosen=_chosen(cells, units, rules.limit)) if rules.limit else units


def _packed(owner: Tensor, cells: Tensor, owners: int, words: int) -> Tensor:
    """Return int64 ``(owners, words)``: the cells of each owner as bits; no pair may occur twice."""
    bits = torch.zeros(owners * words, dtype=torch.int64, device=cells.device)
    one = torch.ones((), dtype=torch.int64, device=cells.device)
    return bits.index_add_(0, owner * words + (cells >> 6), one << (cells & 63)).view(owners, words)


def _chosen(cells: DeviceTable, units: DeviceUnits, limit: int) -> Tensor:
    """Return bool ``(u, C)``: the concepts with the best IoU of their own; of equal ones, the first."""
    union = units.active[:, None] + cells.pixels - units.own
    order = torch.sort(units.own.double() / union.double(), dim=1, descending=True, stable=True).indices
    chosen = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
    return chosen.scatter_(1, order[:, :limit], True)


def unpacked(cells: DeviceTable, words: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield the cells in ``words`` ``(K, words)`` in batches: the row and the cell of each, and `_labels_of` them."""
    item, word = words.nonzero(as_tuple=True)
    eight = torch.arange(8, device=words.device)
    batch = _BATCH.get(words.device.type, 1 << 16)
    for begin in range(0, len(item), batch):
        row, place = item[begin : begin + batch], word[begin : begin + batch]
        octets = (words[row, place][:, None] >> (eight * 8)) & 255  # in two steps: most words hold few cells
        number, octet = octets.nonzero(as_tuple=True)
        at, bit = ((octets[number, octet][:, None] >> eight) & 1).nonzero(as_tuple=True)
        number = number[at]
        cell = place[number] * 64 + octet[at] * 8 + bit
        yield row[number], cell, *_labels_of(cells, cell)


def _labels_of(cells: DeviceTable, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return every concept of the cells given, and which of them it belongs to."""
    sizes = cells.sizes.index_select(0, cell)
    entry = torch.repeat_interleave(torch.arange(len(cell), device=cell.device), sizes)
    begin = cells.start.index_select(0, cell) - sizes.cumsum(0) + sizes
    at = begin.index_select(0, entry).add_(torch.arange(len(entry), device=cell.device))
    return entry, cells.labels.index_select(0, at)
