"""Triton source of a program: one kernel runs all steps forward, one runs them backward."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from snn_neurons.builder import narrowed
from snn_neurons.program import Graph, Op, Program

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
}
_CALLS = {
    "neg": "(-{0})",
    "abs": "tl.abs({0})",
    "sqrt": "tl.sqrt({0})",
    "rsqrt": "(1.0 / tl.sqrt({0}))",
    "reciprocal": "(1.0 / {0})",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "erf": "tl.erf({0})",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "maximum": "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "minimum": "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "where": "tl.where({0}, {1}, {2})",
    "float": "tl.where({0}, {1}, 0.0)",
    "not": "({0} == 0)",
    "sign": "_sign({0})",
    "expm1": "_expm1({0})",
    "log1p": "_log1p({0})",
    "sigmoid": "_sigmoid({0})",
    "tanh": "_tanh({0})",
    "atan": "_atan({0})",
    "trunc": "_trunc({0})",
    "round": "_round({0})",
    "pow": "_pow({0}, {1})",
    "fmod": "_fmod({0}, {1})",
}

# What Triton's language lacks (its device libraries have it, but not in the interpreter).
HELPERS = """
@triton.jit
def _sign(a):
    return tl.where(a > 0, 1.0, tl.where(a < 0, -1.0, a))


@triton.jit
def _expm1(a):
    # Kahan: the rounding errors of e - 1 and log(e) cancel.
    e = tl.exp(a)
    near = tl.where(e == 1.0, a, (e - 1.0) * a / tl.where(e == 1.0, 1.0, tl.log(tl.where(e > 0, e, 2.0))))
    return tl.where(tl.abs(a) < 1.0, near, e - 1.0)


@triton.jit
def _log1p(a):
    b = 1.0 + a
    return tl.where(b == 1.0, a, tl.log(b) * (a / tl.where(b == 1.0, 1.0, b - 1.0)))


@triton.jit
def _sigmoid(a):
    e = tl.exp(-tl.abs(a))
    return tl.where(a >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def _tanh(a):
    e = _expm1(-2.0 * tl.abs(a))
    r = -e / (e + 2.0)
    return tl.where(a >= 0, r, -r)


@triton.jit
def _atan(a):
    # Halved twice, atan(a) = 4 atan(c) with |c| < tan(pi/8) / 2, then the series.
    big = tl.abs(a) > 1.0
    b = tl.where(big, 1.0 / tl.where(big, a, 1.0), a)
    c = b / (1.0 + tl.sqrt(1.0 + b * b))
    c = c / (1.0 + tl.sqrt(1.0 + c * c))
    q = c * c
    p = 1 / 9 + q * (-1 / 11 + q * (1 / 13 - q * (1 / 15)))
    p = c * (1.0 + q * (-1 / 3 + q * (1 / 5 + q * (-1 / 7 + q * p))))
    half_pi = 1.5707963267948966 * tl.where(a >= 0, 1.0, -1.0).to(a.dtype)
    return tl.where(big, half_pi - 4.0 * p, 4.0 * p)


@triton.jit
def _trunc(a):
    return tl.where(a >= 0, tl.floor(a), tl.ceil(a))


@triton.jit
def _round(a):
    # Half to even; no sum of large constants, which a float64 and a float32 kernel would need apart.
    low = tl.floor(a)
    d = a - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    return tl.where((d > 0.5) | ((d == 0.5) & (odd != 0)), low + 1.0, low)


@triton.jit
def _pow(a, b):
    whole = tl.floor(b) == b
    odd = whole & (b - 2.0 * tl.floor(b * 0.5) != 0)
    m = tl.exp(b * tl.log(tl.where(a == 0, 1.0, tl.abs(a))))
    m = tl.where(a == 0, tl.where(b == 0, 1.0, tl.where(b > 0, 0.0, float("inf"))), m)
    return tl.where(a >= 0, m, tl.where(whole, tl.where(odd, -m, m), float("nan")))


@triton.jit
def _fmod(a, b):
    return a - b * _trunc(a / b)
"""


@dataclass(frozen=True)
class Variant:
    """What a kernel's text depends on besides the program.

    Args:
        every: steps that are loaded together, and kept in registers by the backward.
        params: per parameter ``"value"`` (a number), ``"scalar"`` (one element in memory) or ``"periodic"``.
        double: compute in float64, else in float32.
        aligned: the number of neurons is a multiple of 16.
        checkpoints: forward: store the memories every ``every`` steps.
        g_outs, g_lasts: backward: which outputs and last memories have a gradient.
        want_x, want: backward: whether the gradient of the input, and those of which parameters, are stored.
    """

    every: int
    params: tuple[str, ...]
    double: bool = False
    aligned: bool = False
    checkpoints: bool = False
    g_outs: tuple[bool, ...] = ()
    g_lasts: tuple[bool, ...] = ()
    want_x: bool = True
    want: tuple[bool, ...] = ()


@dataclass
class _Kernel:
    """Arguments and lines of a kernel under construction."""

    variant: Variant
    arguments: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def add(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    @property
    def real(self) -> str:
        return "tl.float64" if self.variant.double else "tl.float32"

    def load(self, pointer: str, mask: str, other: float = 0.0) -> str:
        return f"tl.load({pointer}, mask={mask}, other={other}).to({self.real})"

    def store(self, name: str, at: str, value: str, mask: str) -> None:
        self.add(f"tl.store({at}, {value}.to({name}_ptr.dtype.element_ty), mask={mask})")

    def begin(self) -> None:
        self.add("zero = tl.full((), 0, tl.int64)", "size = zero + n", "steps = zero + T", "lane = tl.arange(0, BLOCK)")
        self.add("base = (zero + tl.program_id(0)) * BLOCK", "room = tl.minimum(size - base, BLOCK).to(tl.int32)")
        if self.variant.aligned:
            # Told so, the compiler moves several neurons of a thread at once.
            self.add("room = tl.multiple_of(room, 16)")
        self.add("none = tl.full((), 0, tl.int32)", "mask = lane < room")
        self.add(f"blank = tl.zeros((BLOCK,), {self.real})")
        for j, kind in enumerate(self.variant.params):
            if kind == "value":
                self.arguments.append(f"p{j}")
                continue
            self.arguments.append(f"p{j}_ptr")
            if kind == "scalar":
                self.add(f"p{j} = tl.load(p{j}_ptr).to({self.real})")
            else:
                self.arguments += [f"p{j}_inner", f"p{j}_count"]
                # Lanes beyond the end get 1: a parameter may be a divisor.
                self.add(f"p{j} = " + self.load(f"p{j}_ptr + ((base + lane) // p{j}_inner) % p{j}_count", "mask", 1.0))

    def sequences(self, names: Sequence[str]) -> None:
        """Arguments of tensors ``[T, M]``: pointer and stride of time."""
        for name in names:
            self.arguments += [f"{name}_ptr", f"{name}_t"]

    def vectors(self, names: Sequence[str]) -> None:
        """Arguments of tensors ``[M]``."""
        self.arguments += [f"{name}_ptr" for name in names]

    def load_chunk(self, names: Sequence[str]) -> None:
        """All loads of a chunk first, so that they are in flight together."""
        for k in range(self.variant.every):
            self.add(f"t_{k} = t0 + {k}", f"mask_{k} = lane < tl.where(t_{k} < steps, room, none)")
            for name in names:
                self.add(f"{name}_{k} = " + self.load(f"{name}_ptr + (t_{k} * {name}_t + base) + lane", f"mask_{k}"))

    def texts(self, op: Op, names: dict[int, str]) -> list[str]:
        """The arguments of an operation; a constant beside a value takes its type."""
        alone = all(isinstance(a, float) for a in (op.args[1:] if op.name == "where" else op.args))
        found = [names[a] if isinstance(a, int) else self.typed(a) if alone else _literal(a) for a in op.args]
        return [*found, self.typed(1.0)] if op.name == "float" else found

    def typed(self, constant: float) -> str:
        """A constant by itself, which would be a float32."""
        return f"tl.full((), {_literal(constant)}, {self.real})"

    def values(self, graph: Graph, inputs: Sequence[str], fixed: dict[int, str], prefix: str) -> list[str]:
        """Print the operations of a graph, save those named in ``fixed``, and return its outputs."""
        names = {**dict(enumerate(inputs)), **fixed}
        products: dict[int, tuple[str, str]] = {}

        for number, op in enumerate(graph.ops, graph.n_inputs):
            if number in names:
                continue
            names[number] = f"{prefix}{number}"
            args = self.texts(op, names)
            if op.name == "mul" and not self.variant.double:
                products[number] = (args[0], args[1])
            fused = _multiply_add(op, args, products) if op.name in ("add", "sub") else None
            self.add(f"{names[number]} = {fused or _expression(op.name, args)}")
        return [names[o] if isinstance(o, int) else self.typed(o) for o in graph.outputs]

    def uniform(self, graph: Graph, inputs: Sequence[str], params: frozenset[int], prefix: str) -> dict[int, str]:
        """Print what depends on parameters alone, once before the loop."""
        once = graph.depends_only_on(params) - set(range(graph.n_inputs))
        ops = tuple(op for number, op in enumerate(graph.ops, graph.n_inputs) if number in once)
        if not ops:
            return {}
        names = {**dict(enumerate(inputs))}
        for number, op in enumerate(graph.ops, graph.n_inputs):
            if number in once:
                names[number] = f"{prefix}{number}"
                self.add(f"{names[number]} = " + _expression(op.name, self.texts(op, names)))
        return {number: names[number] for number in once}

    def source(self, name: str) -> str:
        plain = ["T", "n", *[a for a in self.arguments if a.endswith(("_inner", "_count"))]]
        arguments = ", ".join([*self.arguments, "T", "n", "BLOCK: tl.constexpr"])
        head = f"@triton.jit(do_not_specialize={plain!r})\ndef {name}({arguments}):\n"
        return head + "\n".join(self.lines) + "\n"


def _multiply_add(op: Op, args: list[str], products: dict[int, tuple[str, str]]) -> str | None:
    """A sum with a product as one operation.

    Written out, and not left to the compiler: whether it fuses depends on who else uses the product, but the backward
    must find the very spikes of the forward again.
    """
    sign = "-" if op.name == "sub" else ""
    a, b = op.args
    if isinstance(a, int) and a in products:
        x, y = products[a]
        return f"tl.fma({x}, {y}, {sign}{args[1]})"
    if isinstance(b, int) and b in products:
        x, y = products[b]
        return f"tl.fma({sign}{x}, {y}, {args[0]})"
    return None


def _literal(constant: float) -> str:
    finite = constant == constant and abs(constant) != float("inf")
    return f"({constant!r})" if finite else f'float("{constant}")'


def _expression(name: str, args: list[str]) -> str:
    if name in _INFIX:
        return f"({args[0]} {_INFIX[name]} {args[1]})"
    return _CALLS[name].format(*args)


def _param_inputs(program: Program) -> frozenset[int]:
    first = 1 + len(program.states)
    return frozenset(range(first, first + len(program.params)))


def forward_source(program: Program, variant: Variant) -> str:
    """Kernel ``forward``: outputs, last memories and, where wanted, the memories before every chunk but the first."""
    k = _Kernel(variant)
    n_s, params = len(program.states), [f"p{j}" for j in range(len(program.params))]
    states = range(n_s)
    k.sequences(["x", *[f"o{j}" for j in range(program.n_outputs)]])
    k.vectors([f"first{j}" for j in states] + [f"last{j}" for j in states])
    if variant.checkpoints:
        k.vectors([f"saved{j}" for j in states])
    k.begin()
    inputs = ["x_0", *[f"s{j}" for j in states], *params]
    once = k.uniform(program.step, inputs, _param_inputs(program), "u")
    for j in states:
        k.add(f"s{j} = " + k.load(f"first{j}_ptr + base + lane", "mask"))
    k.add("t0 = zero", "while t0 < steps:")
    k.depth += 1
    if variant.checkpoints:
        k.add("mask_c = lane < tl.where(t0 > 0, room, none)")
        for j in states:
            k.store(
                f"saved{j}", f"saved{j}_ptr + ((t0 // {variant.every} - 1) * size + base) + lane", f"s{j}", "mask_c"
            )
    k.load_chunk(["x"])
    for c in range(variant.every):
        inputs[0] = f"x_{c}"
        results = k.values(program.step, inputs, once, f"a{c}_")
        for j in range(program.n_outputs):
            k.store(f"o{j}", f"o{j}_ptr + (t_{c} * o{j}_t + base) + lane", results[j], f"mask_{c}")
        k.add(*[f"n{j}_{c} = {results[program.n_outputs + j]}" for j in states])
        k.add(*[f"s{j} = tl.where(t_{c} < steps, n{j}_{c}, s{j})" for j in states])
    k.add(f"t0 += {variant.every}")
    k.depth -= 1
    for j in states:
        k.store(f"last{j}", f"last{j}_ptr + base + lane", f"s{j}", "mask")
    return k.source("forward")


def backward_source(program: Program, variant: Variant) -> str:
    """Kernel ``backward``: recompute the memories of a chunk from its checkpoint, then sweep the chunk in reverse."""
    k = _Kernel(variant)
    n_s, n_p, n_o = len(program.states), len(program.params), program.n_outputs
    states, params = range(n_s), [f"p{j}" for j in range(n_p)]
    g_outs = [j for j in range(n_o) if variant.g_outs[j]]
    g_lasts = [j for j in states if variant.g_lasts[j]]
    want = [j for j in range(n_p) if variant.want[j]]
    uniform = _param_inputs(program)
    again = narrowed(program.step, uniform, frozenset(), range(n_o, n_o + n_s))
    silent = frozenset(1 + n_s + n_p + j for j in range(n_o) if not variant.g_outs[j])
    vjp = narrowed(
        program.vjp,
        uniform,
        silent,
        [*([0] if variant.want_x else []), *range(1, 1 + n_s), *[1 + n_s + j for j in want]],
    )

    k.sequences(["x", *[f"g{j}" for j in g_outs], *(["gx"] if variant.want_x else [])])
    k.vectors([f"first{j}" for j in states] + [f"saved{j}" for j in states if variant.checkpoints])
    k.vectors([f"glast{j}" for j in g_lasts] + [f"gfirst{j}" for j in states] + [f"gp{j}" for j in want])
    k.begin()
    inputs = ["x_0", *[f"s{j}_0" for j in states], *params]
    once = k.uniform(again, inputs, uniform, "u")
    g_inputs = [f"g{j}_0" for j in range(n_o)] + [f"q{j}" for j in states]
    g_once = k.uniform(vjp, inputs + g_inputs, uniform, "w")
    for j in states:
        k.add(f"q{j} = " + (k.load(f"glast{j}_ptr + base + lane", "mask") if j in g_lasts else "blank"))
    k.add(*[f"acc{j} = blank" for j in want])
    k.add(f"t0 = ((steps + {variant.every - 1}) // {variant.every} - 1) * {variant.every}", "while t0 >= 0:")
    k.depth += 1
    k.load_chunk(["x", *[f"g{j}" for j in g_outs]])
    _load_states(k, n_s)
    for c in range(variant.every - 1):
        results = k.values(again, [f"x_{c}", *[f"s{j}_{c}" for j in states], *params], once, f"a{c}_")
        k.add(*[f"s{j}_{c + 1} = {results[j]}" for j in states])
    for c in reversed(range(variant.every)):
        inputs = [
            f"x_{c}",
            *[f"s{j}_{c}" for j in states],
            *params,
            *[f"g{j}_{c}" for j in range(n_o)],
            *[f"q{j}" for j in states],
        ]
        results = k.values(vjp, inputs, g_once, f"b{c}_")
        if variant.want_x:
            k.store("gx", f"gx_ptr + (t_{c} * gx_t + base) + lane", results.pop(0), f"mask_{c}")
        k.add(*[f"r{j}_{c} = {results[j]}" for j in states])
        k.add(*[f"q{j} = tl.where(t_{c} < steps, r{j}_{c}, q{j})" for j in states])
        k.add(*[f"acc{j} += tl.where(t_{c} < steps, {r}, 0.0)" for j, r in zip(want, results[n_s:], strict=True)])
    k.add(f"t0 -= {variant.every}")
    k.depth -= 1
    for j in states:
        k.store(f"gfirst{j}", f"gfirst{j}_ptr + base + lane", f"q{j}", "mask")
    for j in want:
        if variant.params[j] == "periodic":
            k.store(f"gp{j}", f"gp{j}_ptr + base + lane", f"acc{j}", "mask")
        else:
            k.add(f"tl.store(gp{j}_ptr + tl.program_id(0), tl.sum(tl.where(mask, acc{j}, 0.0), 0))")
    return k.source("backward")


def _load_states(k: _Kernel, n_s: int) -> None:
    """The memories before a chunk: its checkpoint, or the initial ones."""
    every = k.variant.every
    if not k.variant.checkpoints:
        k.add(*[f"s{j}_0 = " + k.load(f"first{j}_ptr + base + lane", "mask") for j in range(n_s)])
        return
    k.add("later = tl.where(t0 > 0, room, none)")
    for j in range(n_s):
        saved = k.load(f"saved{j}_ptr + ((t0 // {every} - 1) * size + base) + lane", "lane < later")
        k.add(
            f"s{j}_0 = tl.where(t0 > 0, {saved}, " + k.load(f"first{j}_ptr + base + lane", "lane < room - later") + ")"
        )
