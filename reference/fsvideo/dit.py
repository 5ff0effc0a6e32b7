"""The diffusion transformer, one class for base and refiner: Wan2.1 I2V with layer memory (paper section 2.3.1).

Parameter names and the order of operations are those of Wan2.1, so that without memory and with patch (1, 2, 2) its
public weights load. With memory, keys and values of block i read a mixture of the states X_0 .. X_i of the token.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from .layers import RMSNorm, attention, wide


def layer_norm(x, eps):
    """LayerNorm without parameters over the last dimension."""
    return F.layer_norm(wide(x), x.shape[-1:], eps=eps)


def modulate(x, shift, scale):
    return x * (1 + scale) + shift


def sinusoid(timestep, channels):
    """timestep [B] -> [B, channels], cosines first."""
    half = channels // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=timestep.device) / half)
    angle = timestep.double()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)


def rope_angles(grid, split, theta, device):
    """Rotation angles [T * H * W, D / 2] of tokens on a grid (T, H, W); `split` = head channels of t, h, w."""
    angles = []
    for axis, (size, channels) in enumerate(zip(grid, split)):
        frequency = theta ** (-torch.arange(0, channels, 2, dtype=torch.float64, device=device) / channels)
        angle = torch.arange(size, device=device)[:, None] * frequency
        shape = [1, 1, 1, channels // 2]
        shape[axis] = size
        angles.append(angle.view(shape).expand(*grid, -1))
    return torch.cat(angles, -1).flatten(0, 2)


def rotate(x, angles):
    """Turn each pair of neighbouring channels of x [B, N, H, D] by its angle."""
    y = wide(x)
    cos, sin = angles.cos().to(y.dtype)[:, None], angles.sin().to(y.dtype)[:, None]
    even, odd = y[..., 0::2], y[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


class SelfAttention(nn.Module):
    """Queries from h, keys and values from m, both [B, N, dim]. `router` chooses what m is made of."""

    def __init__(self, config, states):
        super().__init__()
        dim = config["dim"]
        self.heads = config["heads"]
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim, config["eps"]), RMSNorm(dim, config["eps"])
        self.router = None
        if config["memory"]["enabled"] and states > 1:
            self.router = nn.Linear(dim, states, bias=config["memory"]["bias"])
            nn.init.zeros_(self.router.weight)
            if config["memory"]["bias"]:  # a new network starts close to one without memory
                self.router.bias.data = 3.0 * (torch.arange(states) == states - 1).float()

    def forward(self, h, m, angles):
        q = self.norm_q(self.q(h)).unflatten(2, (self.heads, -1))
        k = self.norm_k(self.k(m)).unflatten(2, (self.heads, -1))
        v = self.v(m).unflatten(2, (self.heads, -1))
        return self.o(attention(rotate(q, angles), rotate(k, angles), v))


class CrossAttention(nn.Module):
    """Attention to the text and, with the same queries, to the image; both summed before `o`."""

    def __init__(self, config):
        super().__init__()
        dim = config["dim"]
        self.heads = config["heads"]
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim, config["eps"]), RMSNorm(dim, config["eps"])
        if config["image_dim"] is not None:
            self.k_img, self.v_img = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.norm_k_img = RMSNorm(dim, config["eps"])

    def forward(self, x, text, image):
        def split(y):
            return y.unflatten(2, (self.heads, -1))

        q = split(self.norm_q(self.q(x)))
        out = attention(q, split(self.norm_k(self.k(text))), split(self.v(text)))
        if image is not None:
            out = out + attention(q, split(self.norm_k_img(self.k_img(image))), split(self.v_img(image)))
        return self.o(out)


class Block(nn.Module):
    """One transformer block; `index` counts from 0, so it sees index + 1 states."""

    def __init__(self, config, index):
        super().__init__()
        dim, self.eps = config["dim"], config["eps"]
        self.pre_mix = config["memory"]["norm"] == "pre_mix"
        self.self_attn = SelfAttention(config, index + 1)
        self.cross_attn = CrossAttention(config)
        self.norm3 = nn.LayerNorm(dim, eps=self.eps)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config["ffn_dim"]), nn.GELU(approximate="tanh"), nn.Linear(config["ffn_dim"], dim)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def remember(self, h, states, shift, scale):
        """Layer memory: per token a softmax-weighted sum of its own states, normalised and modulated like h."""
        weights = wide(self.self_attn.router(h)).softmax(-1).split(1, -1)  # one [B, N, 1] a state
        if self.pre_mix:
            mixed = sum(w * layer_norm(x, self.eps) for w, x in zip(weights, states))
        else:
            mixed = layer_norm(sum(w * wide(x) for w, x in zip(weights, states)), self.eps)
        return modulate(mixed, shift, scale).to(h.dtype)

    def forward(self, states, modulation, text, image, angles):
        """states: X_0 .. X_index, each [B, N, dim]; modulation [B, 6, dim] from the timestep -> X_{index + 1}."""
        x = states[-1]
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + modulation).chunk(6, 1)
        h = m = modulate(layer_norm(x, self.eps), shift1, scale1).to(x.dtype)
        if self.self_attn.router is not None:
            m = self.remember(h, states, shift1, scale1)
        x = x + gate1 * self.self_attn(h, m, angles)
        x = x + self.cross_attn(self.norm3(x), text, image)
        h = modulate(layer_norm(x, self.eps), shift2, scale2).to(x.dtype)
        return x + gate2 * self.ffn(h)


class Head(nn.Module):
    """Final norm, modulated by the un-projected time embedding, and projection to a patch."""

    def __init__(self, config):
        super().__init__()
        dim, self.eps = config["dim"], config["eps"]
        self.head = nn.Linear(dim, config["out_channels"] * math.prod(config["patch_size"]))
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        nn.init.zeros_(self.head.weight)

    def forward(self, x, time):
        shift, scale = (self.modulation + time[:, None]).chunk(2, 1)
        return self.head(modulate(layer_norm(x, self.eps), shift, scale).to(x.dtype))


class ImageProjection(nn.Module):
    """Image tokens of CLIP -> width of the DIT (Wan's MLPProj; its LayerNorms keep torch's eps 1e-5)."""

    def __init__(self, image_dim, dim):
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(image_dim),
            nn.Linear(image_dim, image_dim),
            nn.GELU(),
            nn.Linear(image_dim, dim),
            nn.LayerNorm(dim),
        )

    def forward(self, image):
        return self.proj(image)


class DIT(nn.Module):
    """Velocity of [noise | mask | condition] at a timestep."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        dim, patch = config["dim"], tuple(config["patch_size"])
        self.patch_embedding = nn.Conv3d(config["in_channels"], dim, patch, patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(config["text_dim"], dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(nn.Linear(config["freq_dim"], dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.img_emb = None if config["image_dim"] is None else ImageProjection(config["image_dim"], dim)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config["layers"]))
        self.head = Head(config)

    def forward(self, x, timestep, text, image=None):
        """x [B, in, T, H, W], timestep [B] = 1000 sigma, text [B, text_len, text_dim] (zero-padded),
        image [B, image_len, image_dim] or None -> velocity [B, out, T, H, W]."""
        x = self.patch_embedding(x)
        grid, config = x.shape[2:], self.config
        angles = rope_angles(grid, config["rope"], config["rope_theta"], x.device)
        time = self.time_embedding(sinusoid(timestep, config["freq_dim"]).to(x.dtype))
        modulation = self.time_projection(time).unflatten(1, (6, -1))
        text = self.text_embedding(text)
        image = None if self.img_emb is None else self.img_emb(image)
        states = [x.flatten(2).transpose(1, 2)]
        for block in self.blocks:
            states.append(block(states, modulation, text, image, angles))
        return self.unpatchify(self.head(states[-1], time), grid)

    def unpatchify(self, tokens, grid):
        """[B, N, pt * ph * pw * out], channel fastest -> [B, out, T, H, W]."""
        x = tokens.reshape(-1, *grid, *self.config["patch_size"], self.config["out_channels"])
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(2, 3).flatten(3, 4).flatten(4, 5)
