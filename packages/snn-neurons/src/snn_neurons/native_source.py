"""The C source of a program: one template of loops over neurons and time, filled with the step and its backward."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from snn_neurons.builder import narrowed, prune
from snn_neurons.program import Graph, Program, Ref

FORWARD_BLOCK = 512
BACKWARD_BLOCK = 256


class Variant(NamedTuple):
    """What is fixed when the source is printed; T, the number of neurons, strides and values are run-time arguments.

    Types are C types of the prelude: ``f32``, ``f64``, ``f16``, ``bf16``, ``u8``, ``b8``. ``vector`` tells which
    parameters vary over neurons, ``zero`` which are numbers that are 0 (a reset value, most often) and take their
    operations with them, ``want`` which need a gradient.
    """

    program: Program
    x_type: str
    out_type: str
    memory_type: str
    vector: tuple[bool, ...]
    zero: tuple[bool, ...]
    want: tuple[bool, ...] | None  # None: the forward kernel


PRELUDE = r"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef float f32;
typedef double f64;
typedef uint16_t f16;
typedef uint16_t bf16;
typedef uint8_t u8;
typedef uint8_t b8;
#define STRIP 64 /* neurons; blocks are multiples of it */
#define INLINE static inline __attribute__((always_inline))
INLINE float bits_f(uint32_t b) { float f; memcpy(&f, &b, 4); return f; }
INLINE uint32_t f_bits(float f) { uint32_t b; memcpy(&b, &f, 4); return b; }
INLINE float load_f32(f32 a) { return a; }
INLINE f32 store_f32(float a) { return a; }
INLINE double load_f64(f64 a) { return a; }
INLINE f64 store_f64(double a) { return a; }
INLINE float load_u8(u8 a) { return a; }
INLINE u8 store_u8(float a) { return (u8)(int)a; }
INLINE float load_b8(b8 a) { return a; }
INLINE b8 store_b8(float a) { return a != 0.0f; }
INLINE float load_bf16(bf16 a) { return bits_f((uint32_t)a << 16); }
INLINE bf16 store_bf16(float a) {
  uint32_t b = f_bits(a);
  uint32_t r = (b + 0x7fffu + ((b >> 16) & 1u)) >> 16;
  return (bf16)((b & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : r);
}
INLINE float load_f16(f16 a) {
  uint32_t sign = (uint32_t)(a & 0x8000u) << 16, rest = a & 0x7fffu;
  float normal = bits_f(rest << 13) * 0x1p112f; /* exact, also for subnormal halves */
  uint32_t special = 0x7f800000u | (rest << 13);
  return bits_f(sign | (rest >= 0x7c00u ? special : f_bits(normal)));
}
INLINE f16 store_f16(float a) {
  uint32_t b = f_bits(a), sign = (b >> 16) & 0x8000u, rest = b & 0x7fffffffu;
  uint32_t normal = (rest - 0x38000000u + 0xfffu + ((rest >> 13) & 1u)) >> 13;
  uint32_t small = f_bits(bits_f(rest) + 0.5f) - 0x3f000000u; /* the addition rounds to multiples of 2^-24 */
  uint32_t r = rest < 0x38800000u ? small : normal;
  r = rest >= 0x477ff000u ? 0x7c00u : r;
  r = rest > 0x7f800000u ? 0x7e00u : r;
  return (f16)(sign | r);
}
/* Branch-free, so that loops that call them are vectorised. */
INLINE float exp_f32(float x) {
  float c = x > 89.0f ? 89.0f : x;
  c = c < -105.0f ? -105.0f : c;
  float n = floorf(c * 1.44269504088896341f + 0.5f);
  float r = (c - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  int k = (int)n, half = k >> 1;
  return p * bits_f((uint32_t)(half + 127) << 23) * bits_f((uint32_t)(k - half + 127) << 23);
}
INLINE float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }
INLINE float tanh_f32(float x) {
  float a = x < 0.0f ? -x : x, z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float small = p * z * x + x;
  float large = 1.0f - 2.0f / (exp_f32(2.0f * a) + 1.0f);
  return a < 0.625f ? small : (x < 0.0f ? -large : large);
}
INLINE double exp_f64(double x) { return exp(x); }
INLINE double sigmoid_f64(double x) { return 1.0 / (1.0 + exp(-x)); }
INLINE double tanh_f64(double x) { return tanh(x); }
#define MAXIMUM(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define MINIMUM(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))

#define FETCH(row, write) \
  for (size_t byte = 0; byte < STRIP * sizeof *(row); byte += 64) \
    __builtin_prefetch((const char *)(row) + byte, write);

static int64_t block_count(const int64_t *a);
static void run_block(const int64_t *a, const double *scalars, double *partial, void *scratch, int64_t block);
static int64_t scratch_bytes(const int64_t *a);

typedef struct { const int64_t *a; const double *scalars; double *partial; int64_t blocks, next, workers; } Job;
static void work(void *argument) {
  Job *job = argument;
  void *scratch = malloc(scratch_bytes(job->a));
  if (scratch == NULL) return;
  __atomic_fetch_add(&job->workers, 1, __ATOMIC_RELAXED);
  for (;;) {
    int64_t block = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
    if (block >= job->blocks) break;
    run_block(job->a, job->scalars, job->partial, scratch, block);
  }
  free(scratch);
}
/* One parallel region, whose threads take blocks as they come, so that a busy core delays one block. */
typedef void (*Region)(void (*body)(void *), void *argument, unsigned threads, unsigned flags);
int run(const int64_t *a, const double *scalars, double *partial, Region region) {
  Job job = {a, scalars, partial, block_count(a), 0, 0};
  int64_t threads = a[3] < job.blocks ? a[3] : job.blocks;
  if (threads > 1 && region) region(work, &job, (unsigned)threads, 0);
  else work(&job);
  return job.workers == 0;
}
"""

# Positions in the array of integer arguments.
HEADER = ("T", "M", "K", "threads", "x", "x_stride", "g_x", "g_x_stride")

_C = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}",
    "reciprocal": "ONE / {0}", "maximum": "MAXIMUM({0}, {1})", "minimum": "MINIMUM({0}, {1})",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}",
    "ne": "{0} != {1}", "and": "{0} & {1}", "or": "{0} | {1}", "not": "!{0}", "float": "{0} ? ONE : ZERO",
    "where": "{0} ? {1} : {2}", "sign": "({0} > ZERO ? ONE : ZERO) - ({0} < ZERO ? ONE : ZERO)",
    "rsqrt": "ONE / SQRT({0})", "exp": "EXP({0})", "sigmoid": "SIGMOID({0})", "tanh": "TANH({0})",
    "abs": "FABS({0})", "round": "RINT({0})",
}  # fmt: skip
_LIBM = ("sqrt", "expm1", "log", "log1p", "sin", "cos", "erf", "atan", "floor", "ceil", "trunc", "pow", "fmod")


def _macros(memory_type: str) -> str:
    f = "f" if memory_type == "f32" else ""
    lines = [f"typedef {memory_type} F;", "#define ONE ((F)1)\n#define ZERO ((F)0)"]
    lines += [f"#define {n.upper()}(a) {n}_{memory_type}(a)" for n in ("exp", "sigmoid", "tanh")]
    lines += [f"#define {n.upper()} {n}{f}" for n in (*_LIBM, "fabs", "rint")]
    return "\n".join(lines)


class _Printer:
    """Prints the operations of a graph; those that follow from scalar parameters alone stand before the loops."""

    def __init__(self, graph: Graph, names: list[str], hoisted_inputs: frozenset[int], prefix: str) -> None:
        self.graph, self.names, self.prefix = graph, names, prefix
        self.hoisted = graph.depends_only_on(hoisted_inputs)

    def ref(self, ref: Ref) -> str:
        if isinstance(ref, float):
            return _constant(ref)
        return self.names[ref] if ref < self.graph.n_inputs else f"{self.prefix}{ref}"

    def lines(self, hoisted: bool) -> str:
        out = []
        for i, op in enumerate(self.graph.ops):
            number = self.graph.n_inputs + i
            if (number in self.hoisted) != hoisted:
                continue
            template = _C.get(op.name) or f"{op.name.upper()}({', '.join(f'{{{i}}}' for i in range(len(op.args)))})"
            kind = "int" if op.is_bool else "F"
            out.append(f"const {kind} {self.prefix}{number} = {template.format(*map(self.ref, op.args))};")
        return "\n".join(out)


def _constant(value: float) -> str:
    if value != value:
        return "((F)NAN)"
    if value in (float("inf"), float("-inf")):
        return "((F)INFINITY)" if value > 0 else "(-(F)INFINITY)"
    return f"((F){value!r})" if value >= 0 else f"(-(F){-value!r})"


def out_types(variant: Variant) -> list[str]:
    """The C type of every output."""
    p = variant.program
    kept = p.n_outputs - p.memory_outputs
    return [variant.out_type if i < kept else variant.memory_type for i in range(p.n_outputs)]


def _params(variant: Variant, position: int) -> tuple[str, list[str], list[str], int]:
    """Declarations before the block, names inside the loops, and the next free argument position."""
    lines, names = [], []
    for j, vector in enumerate(variant.vector):
        if not vector:
            lines.append(f"const F p{j} = (F)scalars[{j}];")
            names.append(f"p{j}")
            continue
        lines.append(
            f"F p{j}[BLOCK];\n{{ const F *values = (const F *)a[{position}]; const int64_t inner = a[{position + 1}], "
            f"count = a[{position + 2}];\n  int64_t q = (n0 / inner) % count, r = n0 % inner;\n"
            f"  for (int64_t i = 0; i < w; i++) {{\n    p{j}[i] = values[q];\n"
            f"    if (++r == inner) {{ r = 0; if (++q == count) q = 0; }}\n  }} }}"
        )
        names.append(f"p{j}[i]")
        position += 3
    return "\n".join(lines), names, [], position


def _without_zeros(program: Program, zero: tuple[bool, ...]) -> Program:
    inputs = frozenset(1 + len(program.states) + j for j, is_zero in enumerate(zero) if is_zero)
    step, vjp = (narrowed(g, frozenset(), inputs, range(len(g.outputs))) for g in (program.step, program.vjp))
    return dataclasses.replace(program, step=step, vjp=vjp)


def print_source(variant: Variant) -> str:
    """The C source of one kernel: `run(a, scalars, partial)`."""
    variant = variant._replace(program=_without_zeros(variant.program, variant.zero))
    body = _forward(variant) if variant.want is None else _backward(variant, variant.want)
    return f"{PRELUDE}\n{_macros(variant.memory_type)}\n{body}"


_BLOCKS = """
static int64_t block_count(const int64_t *a) { return (a[1] + BLOCK - 1) / BLOCK; }
INLINE void block(const int64_t *a, const double *scalars, double *partial, F *scratch, int64_t n0, int64_t w,
                  int64_t b) {
const int64_t T = a[0], M = a[1], K = a[2];
"""
_RUN = """
}
static void run_block(const int64_t *a, const double *scalars, double *partial, void *scratch, int64_t b) {
  const int64_t n0 = b * BLOCK, w = a[1] - n0;
  if (w >= BLOCK) block(a, scalars, partial, scratch, n0, BLOCK, b);
  else block(a, scalars, partial, scratch, n0, w, b);
}
"""


def _loop(ahead: str, rows: Sequence[tuple[str, str, bool]]) -> str:
    """A loop over the neurons of a block that fetches the row each row is followed by; it ends with two braces.

    That row is too far away for the processor to see it coming.

    Args:
        ahead: the C expression of how far on it is, with ``{0}`` for the stride between steps.
        rows: pointer, stride and whether it is written, of every row in memory.
    """
    fetches = [f"FETCH({row} + {ahead.format(stride)} + strip, {int(written)})" for row, stride, written in rows]
    return "\n".join([
        "for (int64_t strip = 0; strip < w; strip += STRIP) {",
        "const int64_t end = strip + STRIP < w ? strip + STRIP : w;",
        *fetches,
        "#pragma GCC ivdep",
        "for (int64_t i = strip; i < end; i++) {",
    ])  # fmt: skip


def _forward(v: Variant) -> str:
    program, states, outs = v.program, range(len(v.program.states)), out_types(v)
    declared, names, _, at = _params(v, len(HEADER))
    scalar = frozenset(1 + len(states) + j for j, vector in enumerate(v.vector) if not vector)
    inputs = ["x_", *[f"s{j}_" for j in states], *names]
    p = _Printer(program.step, inputs, scalar, "t")
    first, last, saved, out = at, at + len(states), at + 2 * len(states), at + 3 * len(states)
    text = [f"#define BLOCK {FORWARD_BLOCK}", _BLOCKS, declared, p.lines(hoisted=True)]
    text += [f"F s{j}[BLOCK]; memcpy(s{j}, (const F *)a[{first + j}] + n0, w * sizeof(F));" for j in states]
    text.append("for (int64_t t = 0; t < T; t++) {")
    if states:
        text.append(f"if (a[{saved}] && t && t % K == 0) {{")
        text += [f"memcpy((F *)a[{saved + j}] + (t / K - 1) * M + n0, s{j}, w * sizeof(F));" for j in states]
        text.append("}")
    text.append(f"const {v.x_type} *restrict x = (const {v.x_type} *)a[4] + t * a[5] + n0;")
    text += [
        f"{c} *restrict o{j} = ({c} *)a[{out + 2 * j}] + t * a[{out + 2 * j + 1}] + n0;" for j, c in enumerate(outs)
    ]
    rows = [("x", "a[5]", False), *[(f"o{j}", f"a[{out + 2 * j + 1}]", True) for j in range(len(outs))]]
    text.append(_loop("(t + 1 < T ? {0} : BLOCK - t * {0})", rows))
    text.append(f"const F x_ = load_{v.x_type}(x[i]);")
    text += [f"const F s{j}_ = s{j}[i];" for j in states]
    text.append(p.lines(hoisted=False))
    results = program.step.outputs
    text += [f"o{j}[i] = store_{c}({p.ref(results[j])});" for j, c in enumerate(outs)]
    text += [f"s{j}[i] = {p.ref(results[program.n_outputs + j])};" for j in states]
    text.append("}\n}\n}")
    text += [f"memcpy((F *)a[{last + j}] + n0, s{j}, w * sizeof(F));" for j in states]
    text.append(_RUN)
    text.append("static int64_t scratch_bytes(const int64_t *a) { return 64; }")
    return "\n".join(text)


def _backward(v: Variant, want: tuple[bool, ...]) -> str:
    program, n_s = v.program, len(v.program.states)
    states, outs = range(n_s), out_types(v)
    declared, names, _, at = _params(v, len(HEADER))
    scalar = frozenset(1 + n_s + j for j, vector in enumerate(v.vector) if not vector)
    wanted = [j for j, w in enumerate(want) if w]
    first, saved = at, at + n_s
    g_last, g_state, g_out = at + 2 * n_s, at + 3 * n_s, at + 4 * n_s
    g_param = g_out + 2 * len(outs)
    step = prune(program.step, [program.step.outputs[program.n_outputs + j] for j in states])
    vjp = prune(
        program.vjp, [program.vjp.outputs[k] for k in (0, *[1 + j for j in states], *[1 + n_s + j for j in wanted])]
    )
    p = _Printer(step, ["x_", *[f"s{j}_" for j in states], *names], scalar, "t")
    g_names = [*[f"go{j}_" for j in range(len(outs))], *[f"gs{j}_" for j in states]]
    q = _Printer(vjp, ["x_", *[f"s{j}_" for j in states], *names, *g_names], scalar, "b")
    text = [f"#define BLOCK {BACKWARD_BLOCK}", "static const double nothing[BLOCK];", _BLOCKS, declared]
    text += [p.lines(hoisted=True), q.lines(hoisted=True)]
    text += [f"F gs{j}[BLOCK];" for j in states]
    text += [
        f"if (a[{g_last + j}]) memcpy(gs{j}, (const F *)a[{g_last + j}] + n0, w * sizeof(F)); "
        f"else memset(gs{j}, 0, sizeof gs{j});"
        for j in states
    ]
    text += [f"double sum{j}[BLOCK]; memset(sum{j}, 0, sizeof sum{j});" for j in wanted]
    text.append(f"{v.x_type} unused[BLOCK];")
    text.append("for (int64_t c = (T + K - 1) / K - 1; c >= 0; c--) {")
    text.append("const int64_t t0 = c * K, steps = (T - t0 < K ? T - t0 : K);")
    text += [
        f"memcpy(scratch + {j} * K * BLOCK, "
        f"c ? (const F *)a[{saved + j}] + (c - 1) * M + n0 : (const F *)a[{first + j}] + n0, w * sizeof(F));"
        for j in states
    ]
    load_x = f"const F x_ = load_{v.x_type}(x[i]);"
    row_x = f"const {v.x_type} *restrict x = (const {v.x_type} *)a[4] + (t0 + k) * a[5] + n0;"
    if n_s:
        text += ["for (int64_t k = 0; k < steps - 1; k++) {", row_x]
        text += [f"const F *restrict h{j} = scratch + ({j} * K + k) * BLOCK;" for j in states]
        text += [f"F *restrict n{j} = scratch + ({j} * K + k + 1) * BLOCK;" for j in states]
        text += [_loop("(k + 1 < steps ? {0} : 0)", [("x", "a[5]", False)]), load_x]
        text += [*[f"const F s{j}_ = h{j}[i];" for j in states], p.lines(hoisted=False)]
        text += [f"n{j}[i] = {p.ref(step.outputs[j])};" for j in states]
        text.append("}\n}\n}")
    text += [f"F part{j}[BLOCK]; memset(part{j}, 0, sizeof part{j});" for j in wanted]
    text += ["for (int64_t k = steps - 1; k >= 0; k--) {", row_x]
    text += [f"const F *restrict h{j} = scratch + ({j} * K + k) * BLOCK;" for j in states]
    text += [
        f"const {c} *restrict g{j} = a[{g_out + 2 * j}] ? (const {c} *)a[{g_out + 2 * j}] "
        f"+ (t0 + k) * a[{g_out + 2 * j + 1}] + n0 : (const {c} *)nothing;"
        for j, c in enumerate(outs)
    ]
    text.append(f"{v.x_type} *restrict gx = a[6] ? ({v.x_type} *)a[6] + (t0 + k) * a[7] + n0 : unused;")
    rows = [("x", "a[5]", False), *[(f"g{j}", f"a[{g_out + 2 * j + 1}]", False) for j in range(len(outs))]]
    text.append(_loop("(k > 0 ? -{0} : 0)", [*rows, ("gx", "a[7]", True)]))
    text += [load_x, *[f"const F s{j}_ = h{j}[i];" for j in states]]
    text += [f"const F go{j}_ = load_{c}(g{j}[i]);" for j, c in enumerate(outs)]
    text += [f"const F gs{j}_ = gs{j}[i];" for j in states]
    text.append(q.lines(hoisted=False))
    text.append(f"gx[i] = store_{v.x_type}({q.ref(vjp.outputs[0])});")
    text += [f"gs{j}[i] = {q.ref(vjp.outputs[1 + j])};" for j in states]
    text += [f"part{j}[i] += {q.ref(vjp.outputs[1 + n_s + i])};" for i, j in enumerate(wanted)]
    text.append("}\n}\n}")
    # Within a segment the sums are kept in the memory's precision, over segments and neurons in double.
    text += [f"for (int64_t i = 0; i < w; i++) sum{j}[i] += part{j}[i];" for j in wanted]
    text.append("}")
    text += [f"memcpy((F *)a[{g_state + j}] + n0, gs{j}, w * sizeof(F));" for j in states]
    for i, j in enumerate(wanted):
        if v.vector[j]:
            text.append(f"for (int64_t i = 0; i < w; i++) ((F *)a[{g_param + i}])[n0 + i] = (F)sum{j}[i];")
        else:
            text.append(
                f"{{ double total = 0; for (int64_t i = 0; i < w; i++) total += sum{j}[i]; "
                f"partial[b * {len(wanted)} + {i}] = total; }}"
            )
    text.append(_RUN)
    text.append(
        f"static int64_t scratch_bytes(const int64_t *a) {{ return {max(1, n_s)} * a[2] * BLOCK * sizeof(F) + 64; }}"
    )
    return "\n".join(text)
