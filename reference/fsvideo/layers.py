"""Layers that more than one network uses: attention, norms, convolutions with a context in time, pixel shuffles.

Sources: LTX-Video (pixel norm, replicated frames), IV-VAE (group-causal convolution), DC-AE (shuffle shortcuts).
"""

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F


def wide(x):
    """x in float32, or as it is if it is float64: the precision of norms, softmax and router."""
    return x if x.dtype == torch.float64 else x.float()


def attention(q, k, v, scale=None, bias=None):
    """softmax(q k^T * scale + bias) v. q [B, Nq, H, D]; k, v [B, Nk, H, D]; bias [H, Nq, Nk] -> [B, Nq, H * D]."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if hasattr(F, "scaled_dot_product_attention"):
        bias = None if bias is None else bias.to(q.dtype)[None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    else:
        scores = wide(q @ k.transpose(2, 3)) * scale
        scores = scores if bias is None else scores + bias
        out = scores.softmax(-1).to(v.dtype) @ v
    return out.transpose(1, 2).flatten(2)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""

    def __init__(self, channels, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(channels)), eps

    def forward(self, x):
        y = wide(x)
        return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class PixelNorm(nn.Module):
    """x / sqrt(mean over channels of x^2 + eps), then weight and bias if affine. x [B, C, T, H, W]."""

    def __init__(self, channels, eps, affine=False):
        super().__init__()
        self.eps, self.affine = eps, affine
        if affine:
            self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        y = wide(x)
        y = (y * torch.rsqrt(y.square().mean(1, keepdim=True) + self.eps)).to(x.dtype)
        if self.affine:
            y = y * self.weight.view(-1, 1, 1, 1) + self.bias.view(-1, 1, 1, 1)
        return y


class PointLinear(nn.Linear):
    """A linear map of the channels of every position (a 1x1x1 convolution). x [B, C, T, H, W]."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Time(NamedTuple):
    """What a convolution sees in time: `conv` and `time_padding` of the configuration, and the group size
    of "group_causal" at the resolution where the convolution runs."""

    conv: str = "causal"
    padding: str = "replicate"
    group: int = 1


def pad_time(x, left, right, padding):
    """x with `left` and `right` frames more: copies of the outermost frames ("replicate") or "zeros"."""
    first, last = x[:, :, :1], x[:, :, -1:]
    if padding == "zeros":
        first, last = torch.zeros_like(first), torch.zeros_like(last)
    return torch.cat([first] * left + [x] + [last] * right, 2)


class Conv(nn.Conv3d):
    """3D convolution of [B, C, T, H, W]: zeros around in space, context in time as `time` says."""

    def __init__(self, inputs, outputs, kernel, time, stride=(1, 1, 1), groups=1, bias=True):
        kt, kh, kw = kernel
        super().__init__(inputs, outputs, kernel, stride, (0, kh // 2, kw // 2), groups=groups, bias=bias)
        self.time = time

    def forward(self, x):
        kt = self.kernel_size[0]
        if kt == 1:
            return super().forward(x)
        if self.time.conv == "causal":
            return super().forward(pad_time(x, kt - 1, 0, self.time.padding))
        if self.time.conv == "noncausal":
            return super().forward(pad_time(x, kt // 2, kt // 2, self.time.padding))
        return self.forward_groups(x)

    def forward_groups(self, x):
        """Frames in groups [1 | g | g ...], kernel 3 in time. Left of a group stands the last frame of the group
        before (for the first group frame 0 itself), right of it a copy of its own last frame or zeros."""
        g, b, t = self.time.group, x.shape[0], x.shape[2]

        def windows(index):  # frame numbers [groups, 1 + size] -> [B * groups, C, 1 + size + 1, H, W]
            frames = x[:, :, index.to(x.device)].transpose(1, 2).flatten(0, 1)
            return pad_time(frames, 0, 1, self.time.padding)

        first = super().forward(windows(torch.zeros(1, 2, dtype=torch.long)))
        if t == 1:
            return first
        start = torch.arange(1, t, g)[:, None]
        rest = super().forward(windows(torch.cat([start - 1, start + torch.arange(g)], 1)))
        rest = rest.unflatten(0, (b, -1)).transpose(1, 2).flatten(2, 3)
        return torch.cat([first, rest], 2)


def unshuffle(x, factors):
    """3D pixel-unshuffle: [B, C, T, H, W] -> [B, C * rt * rh * rw, T / rt, H / rh, W / rw], channels as c, t, h, w."""
    rt, rh, rw = factors
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // rt, rt, h // rh, rh, w // rw, rw)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * rt * rh * rw, t // rt, h // rh, w // rw)


def shuffle(x, factors):
    """3D pixel-shuffle, the inverse of `unshuffle`."""
    rt, rh, rw = factors
    b, c, t, h, w = x.shape
    x = x.reshape(b, c // (rt * rh * rw), rt, rh, rw, t, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // (rt * rh * rw), t * rt, h * rh, w * rw)
