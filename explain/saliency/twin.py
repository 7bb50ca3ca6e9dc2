"""A twin of the user's network: its own modules, the same parameters; what Captum hooks and edits is the twin.

Captum sets hooks and attributes on modules, and its rule methods (guided backpropagation, DeepLIFT) know
only ``nn.ReLU`` modules that are called once: a functional ReLU is passed over in silence, a shared one raises or
mixes its calls. In the twin every call of a ReLU becomes a module of its own.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explain.errors import ModelError
from explain.nets.calls import tree_leaves

__all__ = ["Door", "ReluModules", "lrp_chain", "lrp_rules", "relu_modules", "twin_of"]

_RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_IN_PLACE = (F.relu_, torch.relu_, Tensor.relu_, F.hardtanh_)
_RESHAPES = frozenset(
    {"flatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous", "clone", "detach", "to", "float", "__get__"}
)

Clamped = Literal["clamp", "relu"]


class Door(nn.Module):
    """The network as Captum sees it: float32 (or float64) in and out, passes without a graph in pieces.

    Captum expands one image to many samples; without a graph they need not go through the network at once.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, batch_size: int) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.batch_size = batch_size
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's outputs ``(n, m)`` for images ``(n, c, h, w)``, in the precision of ``images``."""
        inner = images.to(self.dtype)
        if torch.is_grad_enabled() or len(inner) <= self.batch_size:
            outputs = self.network(inner)
        else:
            outputs = torch.cat([self.network(piece) for piece in inner.split(self.batch_size)])
        return outputs.to(images.dtype)  # type: ignore[no-any-return]


def twin_of(network: nn.Module, *, parameters: Literal["shared", "copied"] = "shared") -> nn.Module:
    """Return a copy of ``network``: new module objects, which share its parameters and buffers unless ``copied``.

    The user's hooks stay and run on the twin as well.

    Raises
    ------
    ModelError
        The network cannot be copied, or is compiled or scripted, so that its modules are not what runs.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
            raise ModelError(
                f"a compiled or scripted module ({type(module).__name__}): its layers cannot be hooked; give the"
                " original module"
            )
        for key, value in vars(module).items():
            if key.endswith("_hooks") and isinstance(value, Mapping):
                memo.update({id(hook): hook for hook in value.values()})  # a bound method would copy its owner
            else:
                # Results of a former pass, kept by the user's module, cannot be copied where they hold a graph.
                memo.update({id(leaf): leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)})
    for tensor in (*network.parameters(), *network.buffers()):
        memo[id(tensor)] = tensor if parameters == "shared" else _copied(tensor)
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"the network cannot be copied ({type(error).__name__}: {line}):"
            " this method sets hooks, which it does on a copy; use integrated_gradients or occlusion"
        ) from error


def _copied(tensor: Tensor) -> Tensor:
    clone = tensor.detach().clone()
    return nn.Parameter(clone, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else clone


# --- ReLUs ------------------------------------------------------------------------------------------------


class _ReluCall(nn.Module):
    """What an ``nn.ReLU`` of the twin becomes: not hooked itself, its call goes to a module of its own."""

    inplace: bool

    def forward(self, value: Tensor) -> Tensor:
        return F.relu(value, inplace=self.inplace)


class _SpreadPool(nn.MaxPool2d):
    """Overlapping windows laid side by side, then pooled: Captum's DeepLIFT keeps one window's share of a pixel only.

    (Its rule unpools with ``max_unpool2d``, which writes where windows share a pixel and does not add.)
    """

    pool: nn.MaxPool2d

    def forward(self, value: Tensor) -> Tensor:
        """Return what the pooling gives, by way of an image of separate windows."""
        rows, columns = super().forward(value).shape[2:]
        (high, wide), (down, right), (top, left) = (_pair(n) for n in (self.kernel_size, self.stride, self.padding))
        below = (rows - 1) * down + high - value.shape[2] - top
        beside = (columns - 1) * right + wide - value.shape[3] - left
        low = float(value.detach().amin()) - 1  # never the maximum, and no change from the baseline, as -inf would be
        windows = F.pad(value, (left, beside, top, below), value=low).unfold(2, high, down).unfold(3, wide, right)
        pooled: Tensor = self.pool(windows.transpose(3, 4).flatten(4, 5).flatten(2, 3))
        return pooled


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _overlaps(module: nn.MaxPool2d) -> bool:
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    return (
        (kernel[0] > stride[0] or kernel[1] > stride[1]) and _pair(module.dilation) == (1, 1)
    ) and not module.return_indices


class _Routing(TorchFunctionMode):
    """Sends the n-th ReLU of a forward pass to ``modules[n]``; counts where there are none."""

    def __init__(self, modules: nn.ModuleList | None, clamped: Clamped) -> None:
        super().__init__()
        self.modules = modules
        self.clamped = clamped
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        top = _ceiling(func, args, kwargs)
        if top is None:
            return func(*args, **kwargs)
        value: Tensor = args[0] if args else kwargs["input"]
        result = self._relu(value)
        if top < float("inf"):
            # Guided backpropagation: a ReLU with a ceiling. DeepLIFT: its rule twice, which multiplies to
            # (change of output) / (change of input) of both.
            result = result.clamp(max=top) if self.clamped == "clamp" else top - self._relu(top - result)
        place = {F.relu: 1, F.relu6: 1, F.hardtanh: 3}.get(func)
        given = kwargs.get("inplace", args[place] if place is not None and len(args) > place else False)
        if func in _IN_PLACE or given:
            return value.copy_(result)  # the caller may go on with the input
        return result

    def _relu(self, value: Tensor) -> Tensor:
        self.count += 1
        if self.modules is None:
            return F.relu(value)
        result: Tensor = self.modules[self.count - 1](value)
        # Captum hooks output and input of modules; where a pooling follows at once they are one tensor, on which
        # the ReLU's hook comes first and never sees what the pooling's rule makes of the gradient.
        return result.clone() if self.clamped == "relu" else result


def _ceiling(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """Return the largest output of a ReLU-like function (infinity, or 6), None for all other functions."""
    if func in _RELUS:
        return float("inf")
    if func is F.relu6:
        return 6.0
    if func in (F.hardtanh, F.hardtanh_):
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        return float(kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)) if low == 0 else None
    return None


class ReluModules(nn.Module):
    """A twin in which each call of a ReLU or ReLU6, module or function, is an ``nn.ReLU`` of its own."""

    def __init__(self, network: nn.Module, count: int, clamped: Clamped) -> None:
        super().__init__()
        self.network = network
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(count))
        self.clamped = clamped
        self.train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's outputs ``(n, m)``."""
        with _Routing(self.relus, self.clamped):
            return self.network(images)  # type: ignore[no-any-return]


def relu_modules(twin: nn.Module, image: Tensor, clamped: Clamped) -> ReluModules:
    """Turn a twin into one whose ReLUs are modules, each called once, and whose pooling windows do not overlap.

    ``image`` ``(1, c, h, w)`` counts the ReLUs.

    ``clamped``: how ReLU6 is written, ``"clamp"`` as a ReLU with a ceiling, ``"relu"`` as two ReLUs.
    """
    for module in twin.modules():
        if type(module) is nn.ReLU:
            module.__class__ = _ReluCall  # type: ignore[assignment]
        elif type(module) is nn.MaxPool2d and _overlaps(module):
            module.__class__ = _SpreadPool
            module.pool = nn.MaxPool2d(module.kernel_size)
    with torch.no_grad(), _Routing(None, clamped) as routing:
        twin(image)
    return ReluModules(twin, routing.count, clamped)


# --- networks that are chains of modules ------------------------------------------------------------------


class _Outside(TorchFunctionMode):
    """Names the torch functions that compute something outside leaf modules."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.names: dict[str, None] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "function")
        computed = any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree_leaves(result))
        if self.depth == 0 and computed and name not in _RESHAPES:
            self.names[name] = None
        return result


def _check_chain(twin: nn.Module, image: Tensor) -> None:
    """Check that all arithmetic of a network is in leaf modules, each called once, as Captum's LRP takes for granted.

    Raises
    ------
    ModelError
        A sum, product, concatenation or activation is a function (ResNet's ``+=``), or a module is called again.
    """
    calls: Counter[str] = Counter()
    thread = threading.get_ident()
    outside = _Outside()

    def entering(name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any) -> None:
            if threading.get_ident() == thread:
                calls[name] += 1
                outside.depth += 1

        return enter

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        outside.depth -= 1

    handles = []
    leaves = {name: module for name, module in twin.named_modules() if not any(True for _ in module.children())}
    try:
        for name, module in leaves.items():
            handles += [module.register_forward_pre_hook(entering(name)), module.register_forward_hook(leave)]
        with torch.no_grad(), outside:
            twin(image)
    finally:
        for handle in handles:
            handle.remove()
    again = [name for name, count in calls.items() if count > 1 and not isinstance(leaves[name], (nn.ReLU, nn.Dropout))]
    fault = f"functions outside modules ({', '.join(outside.names)})" if outside.names else ""
    if again:
        fault = f"modules called several times ({', '.join(again[:3])})"
    if fault:
        raise ModelError(
            f"LRP needs a network that is a chain of modules, and this one has {fault}, which Captum's rules do not"
            " see; use deep_lift or integrated_gradients"
        )


def lrp_chain(twin: nn.Module, image: Tensor) -> nn.Module:
    """Make a twin ready for Captum's LRP, whose rules take no in-place ReLU."""
    _check_chain(twin, image)
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return twin


def lrp_rules(door: nn.Module) -> tuple[tuple[nn.Module, Any], ...]:
    """Return the rules that the user set on modules, and one for modules that only reshape, which Captum lacks."""
    from captum.attr._utils.lrp_rules import EpsilonRule

    found = []
    for module in door.modules():
        if hasattr(module, "rule"):
            found.append((module, module.rule))
        elif type(module) in (nn.Flatten, nn.Identity):
            found.append((module, EpsilonRule()))
    return tuple(found)
