"""Which batch norm directly follows which convolution, and nothing else does."""

from collections import Counter
from typing import Any

import torch.fx
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from snn_base import StepModule
from snn_layers._conv_types import CONVOLUTIONS, dims_of
from snn_layers.containers import MultiStep, SpikingSequential, TimeFold
from snn_layers.norm import _TemporalEffective

Pair = tuple[str, str]
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def find_pairs(net: nn.Module) -> list[Pair]:
    """Return the names ``(convolution, norm)`` of ``net`` that one convolution can replace."""
    tracer = _Tracer()
    opaque: list[str] = []
    pairs: list[Pair] = []
    try:
        graph: Any = tracer.trace(net)
        opaque = tracer.opaque
        pairs = _by_execution(graph)
    except Exception:  # tracing runs the net's own code, which may fail in any way
        opaque = [""]
    pairs = [pair for pair in pairs if not any(_within(name, part) for name in pair for part in opaque)]
    for name, module in net.named_modules():
        if isinstance(module, nn.Sequential) and any(_within(name, part) for part in opaque):
            pairs += _by_name(module, name)
    shared = _shared(net)
    unique = dict.fromkeys(pairs)
    return [p for p in unique if not shared & set(p) and _fusible(net.get_submodule(p[0]), net.get_submodule(p[1]))]


class _Tracer(torch.fx.Tracer):
    """Records the order of layers; a module that cannot be traced becomes one opaque node."""

    def __init__(self) -> None:
        super().__init__()
        self.opaque: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, CONVOLUTIONS + (_BatchNorm, StepModule)) or super().is_leaf_module(
            m, module_qualified_name
        )

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # In which way time runs does not matter for the order of layers.
        if isinstance(m, SpikingSequential) and len(args) == 1:
            x = args[0]
            for layer in m:
                x = layer(x)
            return x
        if isinstance(m, MultiStep | TimeFold) and not kwargs:
            return m.module(*args)
        name = self.path_of_module(m)
        if self.is_leaf_module(m, name):
            return super().call_module(m, forward, args, kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:  # as above
            self.opaque.append(name)
            return self.create_proxy("call_module", name, args, kwargs)


def _by_execution(graph: torch.fx.Graph) -> list[Pair]:
    calls = Counter(str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr"))
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            continue
        before = node.args[0]
        if not isinstance(before, torch.fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        conv, norm = str(before.target), str(node.target)
        read = any(target.startswith((conv + ".", norm + ".")) for target in calls)
        if calls[conv] == calls[norm] == 1 and not read:
            pairs.append((conv, norm))
    return pairs


def _by_name(module: nn.Sequential, prefix: str) -> list[Pair]:
    names = [f"{prefix}.{name}" if prefix else name for name in module._modules]
    return list(zip(names, names[1:], strict=False))


def _within(name: str, part: str) -> bool:
    return part == "" or name == part or name.startswith(part + ".")


def _shared(net: nn.Module) -> set[str]:
    """Names of modules that are in the net under several names, or whose parameters are."""
    owners = Counter(id(m) for _, m in net.named_modules(remove_duplicate=False))
    weights = Counter(id(p) for m in net.modules() for p in m.parameters(recurse=False))
    return {
        name
        for name, m in net.named_modules()
        if owners[id(m)] > 1 or any(weights[id(p)] > 1 for p in m.parameters(recurse=False))
    }


def _fusible(conv: nn.Module, norm: nn.Module) -> bool:
    bn: Any = norm.bn if isinstance(norm, _TemporalEffective) else norm
    if not isinstance(conv, CONVOLUTIONS) or not isinstance(bn, _BatchNorm) or bn.running_mean is None:
        return False
    out = conv.out_features if isinstance(conv, nn.Linear) else conv.out_channels
    touched = any(getattr(m, hooks) for m in (conv, norm, bn) for hooks in _HOOKS)
    if touched or is_parametrized(conv) or is_parametrized(bn) or out != bn.num_features:
        return False
    return dims_of(bn) is None or dims_of(conv) == dims_of(bn)
