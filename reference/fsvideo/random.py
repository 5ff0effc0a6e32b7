"""Counter-based normal random numbers: Philox 4x32-10 and Box-Muller, equal on every machine (models/FORMAT.md).

Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import numpy as np
import torch

BASE_NOISE, REFINER_NOISE = 0, 1  # streams of a request
BASE_RENOISE, REFINER_RENOISE, DECODER_NOISE = 2, 1 << 16, 1 << 32  # first of a row of streams

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(seed, stream, first, count):
    """Four 32-bit words for each counter (first .. first + count - 1, stream): uint64 [count, 4]."""
    counter = np.arange(first, first + count, dtype=np.uint64)
    stream = np.full(count, stream, np.uint64)
    c0, c1, c2, c3 = counter & LOW, counter >> HALF, stream & LOW, stream >> HALF
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ np.uint64(k0), p1 & LOW, (p0 >> HALF) ^ c3 ^ np.uint64(k1), p0 & LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], 1)


def normals(seed, stream, count):
    """Elements 0 .. count - 1 of a stream: float64 [count]."""
    u = philox(seed, stream, 0, -(-count // 4)).astype(np.float64).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log((u[:, 0] + 0.5) * 2.0**-32))
    angle = 2 * np.pi * u[:, 1] * 2.0**-32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:count]


def video_noise(seed, stream, shape, dtype=torch.float32):
    """One sample of noise [1, C, T, H, W]; elements are counted in the engine's order [T, H, W, C]."""
    channels, t, h, w = shape
    values = torch.from_numpy(normals(seed, stream, channels * t * h * w)).to(torch.float32).to(dtype)
    return values.view(1, t, h, w, channels).permute(0, 4, 1, 2, 3)


def decoder_noise(seed, dtype=torch.float32):
    """The `noise` argument of `Decoder.forward` for a request with this seed."""

    def noise(j, height, width):
        values = torch.from_numpy(normals(seed, DECODER_NOISE + j, height * width))
        return values.to(torch.float32).to(dtype).view(height, width)

    return noise
