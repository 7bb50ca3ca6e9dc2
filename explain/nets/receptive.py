"""Where the cells of a map look: receptive-field centres, followed through a forward pass.

Cell (i, j) of a map sees a window of the input; the windows of a map are equal and evenly spaced. Padding and the
rounding of strides move them: at an input of 224 pixels MobileNetV2's 7 x 7 cells look at the pixels 0.5, 32.5 …
192.5, not at the middles 16, 48 … 208 of an even tiling ("Mind the Pad", Alsallakh et al. 2021). `Centres` is told
of every torch function of a forward pass and keeps, for each live tensor, offset, stride and reach of its cells
(Araujo et al. 2019, "Computing receptive fields of convolutional neural networks", eq. 3-4). Where paths join, the
window is the union over paths, so its centre is that of the largest path.

Every spatial function is one affine change per axis (`Change`). What is not known is carried: cells keep their
places where the grid keeps its size, else they tile the same extent evenly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

from torch import Tensor

from explain.maps import Cells
from explain.nets.windows import RULES, Arguments, Change, Line, changed, even, joined

__all__ = ["Centres"]

_IMAGE = (2, 3)
_CHANNELS_LAST = (1, 2)


@dataclass(frozen=True)
class _Place:
    """Where the cells of a tensor are: lines of rows and columns, and the tensor's axes that they lie along."""

    lines: tuple[Line, Line]
    axes: tuple[int, int]
    spatial: bool
    """False where the tensor has left its grid (tokens, windows): lines and axes are then those it had last."""

    @property
    def grid(self) -> tuple[int, int]:
        return self.lines[0].cells, self.lines[1].cells


class _ByTensor:
    """Places by the identity of tensors, each gone with its tensor; torch's `WeakIdKeyDictionary` is far slower."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[ref[Tensor], _Place]] = {}

    def get(self, tensor: Tensor) -> _Place | None:
        entry = self._entries.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def put(self, tensor: Tensor, place: _Place) -> None:
        entries, key = self._entries, id(tensor)

        def gone(reference: ref[Tensor]) -> None:
            entry = entries.get(key)
            if entry is not None and entry[0] is reference:
                del entries[key]

        entries[key] = (ref(tensor, gone), place)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class Centres:
    """Follows the cells of every tensor of a forward pass; tensors are held weakly.

    ``start(images)``, then ``note(...)`` for each torch function that was called, in order, with its result; then
    ``of(tensor)``. Nothing is computed on tensors: only names, arguments and shapes are read.
    """

    def __init__(self) -> None:
        self._places = _ByTensor()
        self._batch = 0

    def start(self, images: Tensor) -> None:
        """Begin a forward pass on ``images`` ``(b, c, h, w)``: their cells are their pixels. Forget the last one."""
        self._places.clear()
        if images.ndim != 4:
            return
        self._batch = images.shape[0]
        height, width = images.shape[2:]
        place = _Place((Line(0.5, 1.0, 0.5, height), Line(0.5, 1.0, 0.5, width)), _IMAGE, True)
        self._places.put(images, place)

    def note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, result: Any) -> None:
        """Note one call of a torch function; unknown functions and foreign tensors do no harm."""
        outputs = (result,) if isinstance(result, Tensor) else tuple(_tensors((result,)))
        if not outputs:
            return
        keywords = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        name = func.__name__ if name.startswith("__") else name
        for output in outputs:
            place = self._placed(name, args, keywords, output)
            if place is not None:
                self._places.put(output, place)

    def same(self, tensor: Tensor, other: Tensor) -> None:
        """Note that ``tensor`` stands for ``other`` (a copy, a leaf put in its place): its cells look at the same."""
        place = self._places.get(other)
        if place is not None:
            self._places.put(tensor, place)

    def of(self, tensor: Tensor, grid: tuple[int, int] | None = None) -> Cells | None:
        """Return where the cells of a tensor look, or None where that is not known.

        Parameters
        ----------
        tensor
            Any tensor of the pass: ``(b, c, h, w)``, ``(b, h, w, c)``, or tokens ``(b, n, c)``.
        grid
            (height, width) that the tensor is to be read in, where it is not a grid itself (tokens).
        """
        place = self._places.get(tensor)
        if place is None:
            return None
        if grid is None and not place.spatial and tensor.ndim == 4:
            place = self._as_image(tensor)
        elif grid is not None and grid != place.grid:
            place = _tiled(place, grid)
        if place is None:
            return None
        rows, columns = place.lines
        return Cells((rows.offset, columns.offset), (rows.stride, columns.stride))

    # --- one call ---------------------------------------------------------------------------------------

    def _placed(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> _Place | None:
        if name in RULES:
            names, rule = RULES[name]
            arguments = {**dict(zip(names, args, strict=False)), **kwargs}
            image = arguments.get("input")
            place = self._as_image(image) if isinstance(image, Tensor) else None
            if place is None or output.ndim != 4:
                return None
            counts = output.shape[2], output.shape[3]
            lines = tuple(
                changed(line, rule(arguments, axis, line.cells, count), count)
                for axis, (line, count) in enumerate(zip(place.lines, counts, strict=True))
            )
            return _Place((lines[0], lines[1]), _IMAGE, True)
        known = [(value, place) for value in _tensors((args, kwargs)) if (place := self._places.get(value)) is not None]
        if not known:
            return None
        mover = _MOVERS.get(name)
        if mover is not None and known[0][1].spatial:
            moved = mover(known[0][1], known[0][0], args, kwargs, output)
            if moved is not None:
                return moved
        return self._carried(known, output)

    def _as_image(self, tensor: Tensor) -> _Place | None:
        """Return the place of ``(b, c, h, w)``; one that came back from tokens or windows tiles its old extent."""
        place = self._places.get(tensor)
        if place is None or tensor.ndim != 4:
            return None
        if place.spatial and place.axes == _IMAGE:
            return place
        if tensor.shape[0] != self._batch:  # windows in the batch: which part of the image they are is not known
            return None
        return replace(_tiled(place, (tensor.shape[2], tensor.shape[3])), axes=_IMAGE, spatial=True)

    def _carried(self, known: Sequence[tuple[Tensor, _Place]], output: Tensor) -> _Place:
        """What no rule knows: the cells of the inputs that have the output's grid, else a memory of the first's."""
        fitting = [
            place
            for tensor, place in known
            if place.spatial and tensor.ndim == output.ndim and _has_grid(output, place.axes, place.grid)
        ]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            same = [place for place in fitting if place.axes == fitting[0].axes]
            rows = joined([place.lines[0] for place in same])
            columns = joined([place.lines[1] for place in same])
            return _Place((rows, columns), fitting[0].axes, True)
        place = max((place for _, place in known), key=lambda place: place.grid[0] * place.grid[1])
        if output.ndim == 4 and output.shape[0] == self._batch:
            for axes in (place.axes, _IMAGE, _CHANNELS_LAST):
                if _has_grid(output, axes, place.grid):
                    return replace(place, axes=axes, spatial=True)
        return replace(place, spatial=False)


def _tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments or results, one level of lists deep enough for `torch.cat`."""
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list, dict)):
            yield from _tensors(value)


def _has_grid(tensor: Tensor, axes: tuple[int, int], grid: tuple[int, int]) -> bool:
    return max(axes) < tensor.ndim and (tensor.shape[axes[0]], tensor.shape[axes[1]]) == grid


def _tiled(place: _Place, grid: tuple[int, int]) -> _Place:
    rows, columns = (
        changed(line, even(line.cells, count), count) for line, count in zip(place.lines, grid, strict=True)
    )
    return replace(place, lines=(rows, columns))


def _padded(place: _Place, tensor: Tensor, args: tuple[Any, ...], kwargs: Arguments, output: Tensor) -> _Place | None:
    pads = kwargs.get("pad", args[1] if len(args) > 1 else ())
    lines = []
    for line, axis in zip(place.lines, place.axes, strict=True):
        at = 2 * (tensor.ndim - 1 - axis)  # pads count from the last axis
        left = pads[at] if at < len(pads) else 0
        lines.append(changed(line, Change(-left, 1), output.shape[axis]))
    return replace(place, lines=(lines[0], lines[1]))


def _permuted(place: _Place, tensor: Tensor, args: tuple[Any, ...], kwargs: Arguments, output: Tensor) -> _Place | None:
    order = kwargs.get("dims", args[1:])
    flat = order[0] if len(order) == 1 and isinstance(order[0], Sequence) else order
    return _reordered(place, [axis % tensor.ndim for axis in flat])


def _transposed_axes(
    place: _Place, tensor: Tensor, args: tuple[Any, ...], kwargs: Arguments, output: Tensor
) -> _Place | None:
    if len(args) < 3:
        return None
    order = list(range(tensor.ndim))
    one, two = args[1] % tensor.ndim, args[2] % tensor.ndim
    order[one], order[two] = two, one
    return _reordered(place, order)


def _reordered(place: _Place, order: Sequence[int]) -> _Place:
    return replace(place, axes=(order.index(place.axes[0]), order.index(place.axes[1])))


def _sliced(place: _Place, tensor: Tensor, args: tuple[Any, ...], kwargs: Arguments, output: Tensor) -> _Place | None:
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    if not all(item is None or item is Ellipsis or type(item) in (int, slice) for item in index):
        return None
    taken = _per_axis(index, tensor.ndim)
    lines, axes = list(place.lines), []
    for which, axis in enumerate(place.axes):
        where, new_axis = taken[axis]
        if not isinstance(where, slice):
            return None
        start, _, step = where.indices(tensor.shape[axis])
        lines[which] = changed(lines[which], Change(start, step), output.shape[new_axis])
        axes.append(new_axis)
    return replace(place, lines=(lines[0], lines[1]), axes=(axes[0], axes[1]))


def _per_axis(index: Iterable[Any], ndim: int) -> list[tuple[int | slice, int]]:
    """Return for each axis of an indexed tensor what was taken of it, and which axis of the result it became."""
    items = list(index)
    given = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis not in items:
        items.append(Ellipsis)
    taken: list[tuple[int | slice, int]] = []
    out = 0
    for item in items:
        for part in [slice(None)] * (ndim - given) if item is Ellipsis else [item]:
            if part is not None:
                taken.append((part, out))
            out += not isinstance(part, int)
    return taken


_MOVERS: dict[str, Callable[[_Place, Tensor, tuple[Any, ...], Arguments, Tensor], _Place | None]] = {
    "pad": _padded,
    "permute": _permuted,
    "transpose": _transposed_axes,
    "swapaxes": _transposed_axes,
    "__getitem__": _sliced,
}
"""Functions that move cells or axes whatever the layout; None leaves the tensor to the rule for the unknown."""
