"""`to_pooled`: any convolutional classifier as the CAM paper's -GAP or -GMP network (Zhou et al. 2016, section 3.1).

The fully connected layers, and what lowers the mapping resolution before them, are removed; a convolution of size 3,
stride 1, padding 1 with 1024 units follows, then global average (or max) pooling and one linear layer.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.fx
from torch import Tensor, nn

from explain.errors import InputError, ModelError
from explain.nets.modes import eval_mode
from explain.nets.tap import check_layer, stop_at
from explain.nets.trace import trace

__all__ = ["PooledNet", "to_pooled"]

Pool = Literal["avg", "max"]


class PooledNet(nn.Module):
    """A trunk as far as its map, 3x3 convolutions, global pooling, one linear layer: images ``(b, c, h, w)`` → logits.

    ``trunk`` gives the map, ``head`` is what is new (`fine_tune(net, data, only=net.head)` trains it alone).
    """

    def __init__(self, trunk: nn.Module, head: nn.Sequential, layer: str, pool: Pool) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.layer = layer
        """Where the original network was cut."""
        self.pool = pool

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(b, classes)``; any input size that the trunk takes."""
        logits: Tensor = self.head(self.trunk(images))
        return logits

    def extra_repr(self) -> str:
        """Return what `print` shows beside the modules."""
        return f"cut after {self.layer!r}, pool={self.pool!r}"


class CutTrunk(nn.Module):
    """A network that is run as far as a layer, for networks that cannot be taken apart symbolically."""

    def __init__(self, network: nn.Module, layer: str, call: int) -> None:
        super().__init__()
        self.network = network
        self.layer = layer
        self.call = call

    def forward(self, images: Tensor) -> Tensor:
        """Return the layer's output ``(b, c, h, w)``."""
        return stop_at(self.network, self.layer, images, call=self.call)


@dataclass(frozen=True)
class _Seen:
    """The output of one call of a module."""

    name: str
    call: int
    size: tuple[int, int]
    convolutions: int
    """How many convolutions had run by then."""


def to_pooled(
    model: nn.Module,
    pool: Pool = "avg",
    *,
    classes: int | None = None,
    layer: str | None = None,
    units: int = 1024,
    convs: int = 1,
    input_size: tuple[int, int, int] = (3, 224, 224),
    seed: int = 0,
) -> PooledNet:
    """Return the -GAP (``"avg"``) or -GMP (``"max"``) version of a convolutional classifier, its new head untrained.

    The trunk is a copy: ``model`` stays as it was, and training the new network does not change it. For AlexNet,
    VGG-16 and GoogLeNet the cuts are those of the paper: after conv5 (13 x 13), conv5-3 and inception4e (14 x 14).
    With ``"avg"`` the class activation map is exact (`anatomy(net).exact`). With ``"max"`` the logit is the weighted
    sum of the maxima of the units' maps, and the same weights over the maps are the paper's map for GMP.

    Parameters
    ----------
    model
        A convolutional classifier, such as torchvision's AlexNet.
    pool
        ``"avg"``: global average pooling; ``"max"``: global max pooling.
    classes
        Number of logits; that of ``model`` where None.
    layer
        The last layer to keep, by name. Without it: the last layer before the map falls to its lowest resolution,
        found by watching a forward pass. Only layers in line count, whose output is all that later layers see: an
        entry of the model, or of a `Sequential` in it. Where no layer is finer, the last map is kept.
    units, convs
        Channels and number of the new convolutions, each with ReLU (the paper: 1024, and one; two in AlexNet*-GAP).
    input_size
        (channels, height, width) of the image that is passed through the network to find the layer.
    seed
        Of the new weights (He et al. 2015; the linear layer's from N(0, 0.01)).

    Raises
    ------
    InputError
        Options out of range.
    ModelError
        Unknown layer, a layer without a map ``(b, c, h, w)``, or a network that is not convolutional.
    """
    if pool not in ("avg", "max"):
        raise InputError(f"pool={pool!r}: give 'avg' (global average pooling) or 'max' (global max pooling)")
    if units < 1 or convs not in (1, 2) or (classes is not None and classes < 1) or seed < 0:
        raise InputError(
            f"units={units}, convs={convs}, classes={classes}, seed={seed}: give at least 1 unit, 1 or 2"
            " convolutions, at least 1 class, a seed from 0"
        )
    if layer is not None:
        check_layer(model, layer)
    network = copy.deepcopy(model)
    place = next(network.parameters(), torch.empty(0))
    noise = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0)).to(place)
    cut, call, number = _find_cut(network, noise, layer)
    trunk, channels = _cut_trunk(network, cut, call, noise)
    head = _new_head(channels, units, convs, classes or number, pool, seed).to(place)
    return PooledNet(trunk, head, cut, pool).train(model.training)


def _new_head(channels: int, units: int, convs: int, classes: int, pool: Pool, seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(convs):
        end = str(number + 1) if convs > 1 else ""
        # Not initialised by torch: that would draw random numbers, which are the user's.
        conv = nn.utils.skip_init(nn.Conv2d, units if number else channels, units, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(conv.bias)
        parts |= {f"conv{end}": conv, f"relu{end}": nn.ReLU()}
    linear = nn.utils.skip_init(nn.Linear, units, classes)
    nn.init.normal_(linear.weight, 0, 0.01, generator=generator)
    nn.init.zeros_(linear.bias)
    parts["pool"] = nn.AdaptiveAvgPool2d(1) if pool == "avg" else nn.AdaptiveMaxPool2d(1)
    return nn.Sequential(parts | {"flatten": nn.Flatten(), "linear": linear})


def _find_cut(network: nn.Module, images: Tensor, layer: str | None) -> tuple[str, int, int]:
    """Return the layer to cut after, at which of its calls, and the network's number of classes."""
    seen: list[_Seen] = []
    calls: Counter[str] = Counter()
    convolutions = 0

    def watch(name: str, module: nn.Module, output: Any) -> None:
        nonlocal convolutions
        calls[name] += 1
        convolutions += isinstance(module, nn.modules.conv._ConvNd)
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            seen.append(_Seen(name, calls[name], (output.shape[2], output.shape[3]), convolutions))

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            if name:
                handle = module.register_forward_hook(lambda m, args, out, name=name: watch(name, m, out))
                hooks.callback(handle.remove)
        traced = trace(network, images)
    number = traced.logits.shape[1]
    if layer is not None:
        return layer, calls[layer] or 1, number
    best = _last_finer(network, seen)
    if (best.convolutions if best is not None else convolutions) < 2:
        raise ModelError(
            f"{type(network).__name__} has no convolutional trunk ({convolutions} convolution(s) in its forward pass):"
            " to_pooled needs a convolutional network, or the layer to cut after by name"
        )
    return (best.name, best.call, number) if best is not None else (traced.layer, traced.call, number)


def _last_finer(network: nn.Module, seen: list[_Seen]) -> _Seen | None:
    """Return the last layer in line before the map falls to its lowest resolution, about twice as fine."""
    if not seen:
        return None
    low = min((entry.size for entry in seen), key=lambda size: size[0] * size[1])
    first = next(place for place, entry in enumerate(seen) if entry.size == low)
    for entry in reversed(seen[:first]):
        # A stride of 2 makes n of at most 2 n + 2; a convolution without padding takes little away. Still finer maps
        # lie before modules whose inside is unknown.
        near = all(1.5 * lowest <= side <= 2 * lowest + 2 for side, lowest in zip(entry.size, low, strict=True))
        if near and _in_line(network, entry.name):
            return entry
    return None


def _in_line(network: nn.Module, name: str) -> bool:
    """Tell whether all modules around the named one are plain sequences, so that nothing leads past its output."""
    parts = name.split(".")[:-1]
    around = [network.get_submodule(".".join(parts[: end + 1])) for end in range(len(parts))]
    return all(isinstance(module, nn.Sequential) or type(module) is nn.ModuleList for module in around)


def _cut_trunk(network: nn.Module, layer: str, call: int, images: Tensor) -> tuple[nn.Module, int]:
    """Return the network as far as the layer, without what comes after, and the channels of its map."""
    reached: set[str] = set()
    with ExitStack() as hooks:
        for name, module in network.named_modules():
            handle = module.register_forward_pre_hook(lambda m, args, name=name: reached.add(name))
            hooks.callback(handle.remove)
        with eval_mode(network), torch.no_grad():
            value = stop_at(network, layer, images, call=call)
    if not isinstance(value, Tensor) or value.ndim != 4 or min(value.shape[2:]) < 2:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ModelError(f"layer {layer!r} gives {shape}, no map (b, c, h, w) of more than one position: cut earlier")
    trunk = _symbolic_trunk(network, layer, images, value) if call == 1 and ":" not in layer else None
    if trunk is None:
        _drop_unreached(network, reached)
        trunk = CutTrunk(network, layer, call)
    return trunk, value.shape[1]


def _symbolic_trunk(network: nn.Module, layer: str, images: Tensor, expected: Tensor) -> nn.Module | None:
    """Return the trunk as a graph that ends at the layer: it exports and compiles; None where that cannot be made."""
    was = network.training
    try:
        graphs = [_graph_to(network.train(mode), layer) for mode in (True, False)]
        with eval_mode(graphs[1]), torch.no_grad():
            found = graphs[1](images)
    except Exception:  # a forward pass that depends on data, or is no graph for another reason: run it instead
        return None
    finally:
        network.train(was)
    # What a graph takes from `self.training` is fixed in it: then the network must be run, to stay as it is.
    same = graphs[0].code == graphs[1].code and isinstance(found, Tensor) and torch.equal(found, expected)
    return graphs[1] if same else None


class _Tracer(torch.fx.Tracer):
    """Traces only the modules around a layer; all others are called as they are, and keep their own modes."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether a module is called whole."""
        return not self.layer.startswith(f"{module_qualified_name}.")


def _graph_to(network: nn.Module, layer: str) -> torch.fx.GraphModule:
    graph = _Tracer(layer).trace(network)
    (last,) = (node for node in graph.nodes if node.op == "call_module" and node.target == layer)
    for node in reversed(list(graph.nodes)):
        if node is last:
            break
        graph.erase_node(node)
    graph.output(last)
    module = torch.fx.GraphModule(network, graph)
    graph.eliminate_dead_code()  # asks the modules whether a call without a result matters
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _drop_unreached(network: nn.Module, reached: set[str]) -> None:
    """Put nothing in the place of modules that run after the cut: their weights are not trained, saved or moved."""
    parts = {".".join(name.split(".")[: end + 1]) for name in reached for end in range(name.count(".") + 1)}
    for name, module in list(network.named_modules()):
        parent, _, own = name.rpartition(".")
        if (
            own
            and name not in parts
            and (not parent or parent in parts)
            and next(module.parameters(), None) is not None
        ):
            setattr(network.get_submodule(parent), own, nn.Identity())
