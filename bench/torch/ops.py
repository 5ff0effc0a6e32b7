"""What the PyTorch peer computes: `OPS` makes of a spec's op {name: way}, every way that PyTorch knows to do it.

A spec is what lib/bench/spec.ts says, and what is computed is what lib/bench/inputs.ts computes. Inputs are N(0, 1).
"""
from collections import namedtuple

import torch
import torch.nn.functional as F

TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
DEVICE, ON_CARD = torch.device("cpu"), False


def use(device):
    """Where all that follows is computed."""
    global DEVICE, ON_CARD
    DEVICE, ON_CARD = device, device.type == "cuda"


class Absent(Exception):
    """This PyTorch cannot do it, for the reason given."""


def noise(dtype, *shape):
    return torch.randn(*shape, device=DEVICE).to(TYPES[dtype])


# A way to compute something: a function, and what makes a new set of arguments for it.
Way = namedtuple("Way", "function arguments")


def eager(function, arguments, name="eager"):
    return {name: Way(function, arguments)}


def eager_and_compiled(function, arguments, name=None):
    """Ways for what PyTorch does in several kernels: as it stands, and fused by torch.compile where there is a card."""
    named = lambda way: f"{name}, {way}" if name else way
    ways = {named("eager"): Way(function, arguments)}
    if ON_CARD:
        ways[named("torch.compile")] = Way(torch.compile(function, dynamic=False, fullgraph=True), arguments)
    return ways


def linear(s):
    m, n, k, dtype, epilogue = s["m"], s["n"], s["k"], s["dtype"], s["epilogue"]
    if dtype == "f8e4m3":
        return scaled_linear(m, n, k, epilogue, s["op"] == "linearFp8")

    def operands():
        return noise(dtype, m, k), noise(dtype, n, k), None if epilogue == "none" else noise(dtype, n)

    if epilogue in ("none", "bias"):
        return eager(F.linear, operands, "cuBLAS" if ON_CARD else "F.linear")
    return with_epilogue(F.linear, operands, m, n, epilogue, dtype)


def with_epilogue(product, operands, m, n, epilogue, dtype, name=None):
    """GELU, or residual + gate * product: PyTorch fuses it, if at all, by torch.compile."""
    if epilogue == "gelu":
        return eager_and_compiled(lambda *a: F.gelu(product(*a), approximate="tanh"), operands, name)
    return eager_and_compiled(
        lambda gate, residual, *a: residual + gate * product(*a),
        lambda: (noise(dtype, 1, n), noise(dtype, m, n), *operands()),
        name,
    )


def row_scaled(x):
    scale = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / 448
    return (x.float() / scale).to(torch.float8_e4m3fn), scale


def group_scaled(x):
    """A scale for every 128 channels."""
    y = F.pad(x.float(), (0, -x.shape[-1] % 128)).unflatten(-1, (-1, 128))
    scale = y.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 448
    return (y / scale).to(torch.float8_e4m3fn).flatten(-2)[..., : x.shape[-1]], scale.squeeze(-1)


def scaled_linear(m, n, k, epilogue, quantised):
    """Row scales on both sides, which is what PyTorch has for any weight. Fast accumulation keeps fewer bits than ours does; it is a way
    all the same. `quantised`: GELU of the result, and that in fp8."""
    if not ON_CARD:
        raise Absent("torch._scaled_mm with row scales is measured on cards only")
    if not hasattr(torch, "_scaled_mm"):
        raise Absent("this PyTorch has no torch._scaled_mm")

    def operands():
        bias = None if epilogue == "none" else noise("bf16", n)
        return *row_scaled(noise("bf16", m, k)), *row_scaled(noise("bf16", n, k)), bias

    def product_of(fast):
        def product(x, x_scale, weight, weight_scale, bias):
            return torch._scaled_mm(
                x,
                weight.t(),
                scale_a=x_scale,
                scale_b=weight_scale.t(),
                bias=bias,
                out_dtype=torch.bfloat16,
                use_fast_accum=fast,
            )

        return product

    ways = {}
    for name, fast in (("_scaled_mm", False), ("_scaled_mm with fast accumulation", True)):
        if quantised:
            ways |= eager_and_compiled(
                lambda *a, product=product_of(fast): group_scaled(F.gelu(product(*a), approximate="tanh")), operands, name
            )
        elif epilogue in ("none", "bias"):
            ways |= eager(product_of(fast), operands, name)
        else:
            ways |= with_epilogue(product_of(fast), operands, m, n, epilogue, "bf16", name)
    return ways


def attention(s):
    def heads(tokens):
        return noise(s["dtype"], s["batch"], tokens, s["heads"], s["headDim"]).transpose(1, 2)

    def operands():
        return heads(s["queries"]), heads(s["keys"]), heads(s["keys"])

    if not ON_CARD:
        return eager(F.scaled_dot_product_attention, operands, "scaled_dot_product_attention")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def by(backend):
        def run(q, k, v):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v)

        return run

    names = {"flash": "FLASH_ATTENTION", "cuDNN": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
    known = {name: getattr(SDPBackend, backend) for name, backend in names.items() if hasattr(SDPBackend, backend)}
    return {name: Way(by(backend), operands) for name, backend in known.items()}


def layerMemory(s):
    """Eager, as papers write it: the bank is one tensor, read for the product with the weights."""
    count, tokens, dim, dtype = s["states"], s["tokens"], s["dim"], s["dtype"]

    def run(bank, router, scale, shift):
        w = F.linear(bank[-1], router).float().softmax(-1).to(bank.dtype)
        mixed = torch.einsum("nl,lnc->nc", w, bank)
        y = F.layer_norm(mixed, (dim,)) * (1 + scale) + shift
        return group_scaled(y) if s["op"] == "layerMemoryFp8" else y

    return eager(
        run, lambda: (noise(dtype, count, tokens, dim), noise(dtype, count, dim), noise(dtype, dim), noise(dtype, dim))
    )


def qkNormRope(s):
    tokens, heads, dim, dtype = s["tokens"], s["heads"], s["headDim"], s["dtype"]

    def run(x, weight, cos, sin):
        a, b = F.rms_norm(x, weight.shape, weight, 1e-6).view(1, tokens, heads, dim // 2, 2).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)

    def operands():
        turns = [noise(dtype, tokens, 1, dim // 2) for _ in range(2)]
        return noise(dtype, 1, tokens, heads * dim), noise(dtype, heads * dim), *turns

    return eager_and_compiled(run, operands)


def linearAttention(s):
    frames, tokens, heads, dim = s["frames"], s["tokens"], s["heads"], s["headDim"]

    def run(qkv):
        q, k, v = qkv.view(frames, tokens, heads, 3 * dim).transpose(1, 2).chunk(3, -1)
        q, k = q.relu(), k.relu()
        state = k.transpose(-1, -2) @ F.pad(v, (0, 1), value=1.0)
        mixed = (q @ state).float()
        out = mixed[..., :-1] / (mixed[..., -1:] + 1e-15)
        return out.to(qkv.dtype).transpose(1, 2).reshape(frames, tokens, heads * dim)

    return eager_and_compiled(run, lambda: (noise(s["dtype"], frames, tokens, heads * 3 * dim),))


def conv3d(s):
    """Both memory formats. cuDNN searches for its fastest algorithm in the first call."""
    kernel, groups, dtype = s["kernel"], s["groups"], s["dtype"]
    padding = [k // 2 for k in kernel]

    def plain(x, weight):
        return F.conv3d(x, weight, padding=padding, groups=groups)

    def fused(x, weight, bias, texture):
        return F.silu(F.conv3d(x, weight, bias, padding=padding, groups=groups) + texture)

    def normed(x, weight, texture, residual):
        y = F.conv3d(x, weight, padding=padding, groups=groups) + texture
        return y * torch.rsqrt((y * y).mean(1, keepdim=True) + 1e-8) + residual

    def operands(memory):
        x = noise(dtype, 1, s["channels"], s["frames"], s["height"], s["width"])
        weight = noise(dtype, s["out"], s["channels"] // groups, *kernel)
        both = x.contiguous(memory_format=memory), weight.contiguous(memory_format=memory)
        texture = 0.05 * noise(dtype, s["height"], s["width"])
        if s.get("norm"):
            residual = noise(dtype, 1, s["out"], s["frames"], s["height"], s["width"])
            return *both, texture, residual.contiguous(memory_format=memory)
        return (*both, noise(dtype, s["out"]), texture) if s["fused"] else both

    follows = normed if s.get("norm") else fused if s["fused"] else None

    ways = {}
    for name, memory in (("channels_last_3d", torch.channels_last_3d), ("contiguous", torch.contiguous_format)):
        name = f"{'cuDNN ' if ON_CARD else ''}{name}"
        arguments = lambda memory=memory: operands(memory)
        ways |= eager_and_compiled(follows, arguments, name) if follows else eager(plain, arguments, name)
    return ways


def shuffle3d(s):
    t, h, w, c, out = s["frames"], s["height"], s["width"], s["channels"], s["out"]
    over_time, space = s["time"], s["space"]
    repeats = out * over_time * space * space // c

    def run(x):
        y = x.repeat_interleave(repeats, -1) if repeats > 1 else x
        y = y.view(t, h, w, out, over_time, space, space).permute(0, 4, 1, 5, 2, 6, 3)
        return y.reshape(1, t * over_time, h * space, w * space, out)

    return eager_and_compiled(run, lambda: (noise(s["dtype"], 1, t, h, w, c),))


def unshuffle3d(s):
    t, h, w, c, out = s["frames"], s["height"], s["width"], s["channels"], s["out"]
    over_time, space = s["time"], s["space"]
    averaged = c * over_time * space * space // out

    def run(x):
        y = x.view(t // over_time, over_time, h // space, space, w // space, space, c).permute(0, 2, 4, 6, 1, 3, 5)
        y = y.reshape(1, t // over_time, h // space, w // space, out, averaged)
        return y.mean(-1)

    return eager_and_compiled(run, lambda: (noise(s["dtype"], 1, t, h, w, c),))


# ---- ops of one tensor


def data(s, count=1):
    """Makes arguments: tensors of the spec's shape."""
    return lambda: tuple(noise(s["dtype"], *s["shape"]) for _ in range(count))


def data_and_vectors(s, count):
    """Vectors are of the data's type, as in a PyTorch model of that type; f32 ones, as ours take, would cost it a conversion."""
    return lambda: (noise(s["dtype"], *s["shape"]), *(noise(s["dtype"], s["shape"][-1]) for _ in range(count)))


def normModulate(s):
    return eager_and_compiled(
        lambda x, scale, shift: F.layer_norm(x, scale.shape, eps=1e-6) * (1 + scale) + shift, data_and_vectors(s, 2)
    )


def normModulateFp8(s):
    return eager_and_compiled(
        lambda x, scale, shift: group_scaled(F.layer_norm(x, scale.shape, eps=1e-6) * (1 + scale) + shift),
        data_and_vectors(s, 2),
    )


def pixelNorm(s):
    return eager_and_compiled(lambda x: F.silu(F.rms_norm(x, x.shape[-1:], eps=1e-8)), data(s))


def groupNorm(s):
    """Channels-last in memory, as ours."""

    def run(x, weight, bias):
        return F.silu(F.group_norm(x.movedim(-1, 1), 32, weight, bias))

    return eager_and_compiled(run, data_and_vectors(s, 2))


def combine(s):
    return eager_and_compiled(lambda a, b: 0.5 * a + 0.5 * b, data(s, 2))


def randn(s):
    return eager(lambda: torch.randn(*s["shape"], dtype=TYPES[s["dtype"]], device=DEVICE), tuple)


def fill(s):
    return eager(lambda: torch.full(s["shape"], 1.0, dtype=TYPES[s["dtype"]], device=DEVICE), tuple)


def cast(s):
    to = torch.bfloat16 if s["dtype"] == "f32" else torch.float32
    return eager(lambda x: x.to(to), data(s))


def concat(s):
    return eager(lambda *parts: torch.cat(parts, -1), data(s, 2))


def slice_(s):
    return eager(torch.clone, data(s), "clone")


def permute(s):
    return eager(lambda x: x.transpose(1, 2).contiguous(), data(s))


def embedding(s):
    ids = (torch.arange(512, device=DEVICE) * 7919) % s["shape"][0]
    return eager(lambda table: F.embedding(ids, table), data(s))


def modulation(s):
    count, channels = s["shape"]
    return eager_and_compiled(
        lambda table, embedded: table[:, None] + embedded.view(-1, 1, channels),
        lambda: (noise("f32", count, channels), noise("f32", 1, count * channels)),
    )


def affine(s):
    return eager_and_compiled(lambda x, scale, shift: x * scale + shift, data_and_vectors(s, 2))


def activate(s):
    return eager(F.silu, data(s))


def glu(s):
    def run(x):
        a, b = x.chunk(2, -1)
        return a * F.silu(b)

    return eager_and_compiled(run, data(s))


def fromRgb8(s):
    to = TYPES[s["dtype"]]
    return eager_and_compiled(
        lambda x: (x.float() / 127.5 - 1).to(to),
        lambda: (torch.randint(256, s["shape"], dtype=torch.uint8, device=DEVICE),),
    )


def toRgb8(s):
    return eager_and_compiled(lambda x: ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), data(s))


def quantizeFp8(s):
    return eager_and_compiled(group_scaled, data(s))


def dequantizeFp8(s):
    to = TYPES[s["dtype"]]

    def run(x, scale):
        wide = scale.repeat_interleave(128, -1)[..., : x.shape[-1]]
        return (x.float() * wide).to(to)

    return eager_and_compiled(run, lambda: group_scaled(noise("bf16", *s["shape"])))


def allFinite(s):
    return eager_and_compiled(lambda x: torch.isfinite(x).all(), data(s))


OPS = {
    "linear": linear,
    "linearFp8": linear,
    "attention": attention,
    "layerMemory": layerMemory,
    "layerMemoryFp8": layerMemory,
    "qkNormRope": qkNormRope,
    "linearAttention": linearAttention,
    "conv3d": conv3d,
    "shuffle3d": shuffle3d,
    "unshuffle3d": unshuffle3d,
    "normModulate": normModulate,
    "normModulateFp8": normModulateFp8,
    "pixelNorm": pixelNorm,
    "groupNorm": groupNorm,
    "combine": combine,
    "randn": randn,
    "fill": fill,
    "cast": cast,
    "concat": concat,
    "slice": slice_,
    "permute": permute,
    "embedding": embedding,
    "modulation": modulation,
    "affine": affine,
    "activate": activate,
    "glu": glu,
    "fromRgb8": fromRgb8,
    "toRgb8": toRgb8,
    "quantizeFp8": quantizeFp8,
    "dequantizeFp8": dequantizeFp8,
    "allFinite": allFinite,
}
