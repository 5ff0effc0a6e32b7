"""The PyTorch peer of `npm run bench`: the same cases in its best memory format. Reads one JSON request a line,
{"case": "matmul:bf16:MxNxK", "seconds": 1}, answers one JSON line. The first line it prints is its version."""
import json
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(1)
torch.set_grad_enabled(False)
TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def noise(dtype, *shape):
    return (0.1 * torch.randn(*shape)).to(dtype)


def sizes(text):
    return [int(n) for n in text.split("x")]


def matmul(dtype, shape):
    m, n, k = sizes(shape)
    x, w = noise(dtype, m, k), noise(dtype, n, k)
    return lambda: F.linear(x, w)


def conv(dtype, x, w):
    b, t, h, width, c = sizes(x)
    o, *kernel = sizes(w)
    last = torch.channels_last_3d
    data = noise(dtype, b, c, t, h, width).contiguous(memory_format=last)
    weight = noise(dtype, o, c, *kernel).contiguous(memory_format=last)
    padding = [k // 2 for k in kernel]
    return lambda: F.conv3d(data, weight, padding=padding)


def attention(dtype, shape):
    n, heads, d = sizes(shape)
    q, k, v = (noise(dtype, 1, n, heads, d).transpose(1, 2) for _ in range(3))
    if hasattr(F, "scaled_dot_product_attention"):
        return lambda: F.scaled_dot_product_attention(q, k, v)
    return lambda: torch.softmax(q @ k.transpose(-1, -2) * d**-0.5, -1) @ v


def layer_memory(dtype, shape):
    count, n, c = sizes(shape)
    bank, router = noise(dtype, count, n, c), noise(dtype, count, c)
    scale, shift = noise(dtype, c), noise(dtype, c)

    def run():
        w = F.linear(bank[-1], router).float().softmax(-1).to(dtype)
        mixed = torch.einsum("nl,lnc->nc", w, bank)
        return F.layer_norm(mixed, (c,)) * (1 + scale) + shift

    return run


def norm_modulate(dtype, shape):
    n, c = sizes(shape)
    x, scale, shift = noise(dtype, n, c), noise(dtype, c), noise(dtype, c)
    return lambda: F.layer_norm(x, (c,)) * (1 + scale) + shift


def measure(name, seconds):
    kind, dtype, *shape = name.split(":")
    run = globals()[kind](TYPES[dtype], *shape)
    run()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    times.sort()
    at = lambda q: times[round(q * (len(times) - 1))]
    return {"medianMs": at(0.5), "p10Ms": at(0.1), "p90Ms": at(0.9), "reps": len(times)}


print(json.dumps({"version": f"PyTorch {torch.__version__}"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(measure(request["case"], request["seconds"])), flush=True)
