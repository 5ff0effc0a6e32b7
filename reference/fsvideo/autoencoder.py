"""FSAE: the video autoencoder. The encoder is causal, the decoders "Standard" (non-causal) and "Lite" (group-causal).

Paper sections 2.2.1 and 2.2.3: DC-AE (sana f32c32) with one more transformer stage, its convolutions 3D, pixel norm
everywhere, attention within a frame; the decoder looks at the encoder's first-frame features and adds fixed noise.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from .layers import Conv, PixelNorm, PointLinear, Time, attention, shuffle, unshuffle, wide


class ResidualBlock(nn.Module):
    """x + norm(conv2(silu(conv1(x)))); `noise` is applied behind each convolution."""

    def __init__(self, channels, config, time):
        super().__init__()
        self.conv1 = Conv(channels, channels, (3, 3, 3), time)
        self.conv2 = Conv(channels, channels, (3, 3, 3), time, bias=False)
        self.norm = PixelNorm(channels, config["norm_eps"], config["norm_affine"])

    def forward(self, x, noise=lambda h: h):
        h = F.silu(noise(self.conv1(x)))
        return x + self.norm(noise(self.conv2(h)))


class Branch(nn.Module):
    """A multi-scale branch: qkv of a k x k neighbourhood, mixed within each head's q, k or v."""

    def __init__(self, channels, head_dim, k):
        super().__init__()
        self.proj_in = nn.Conv3d(
            channels, channels, (1, k, k), padding=(0, k // 2, k // 2), groups=channels, bias=False
        )
        self.proj_out = nn.Conv3d(channels, channels, 1, groups=channels // head_dim, bias=False)

    def forward(self, qkv):
        return self.proj_out(self.proj_in(qkv))


class LinearAttention(nn.Module):
    """ReLU linear attention of EfficientViT over H * W, each frame alone."""

    def __init__(self, channels, config):
        super().__init__()
        scales = config["qkv_scales"]
        self.head_dim, self.eps = config["head_dim"], config["linear_attention_eps"]
        self.to_qkv = PointLinear(channels, 3 * channels, bias=False)
        self.to_qkv_multiscale = nn.ModuleList(Branch(3 * channels, self.head_dim, k) for k in scales)
        self.to_out = PointLinear((1 + len(scales)) * channels, channels, bias=False)
        self.norm_out = PixelNorm(channels, config["norm_eps"], config["norm_affine"])

    def forward(self, x):
        qkv = self.to_qkv(x)
        qkv = torch.cat([qkv] + [branch(qkv) for branch in self.to_qkv_multiscale], 1)
        b, c, t, h, w = qkv.shape
        d = self.head_dim
        qkv = wide(qkv).reshape(b, c // (3 * d), 3, d, t, h * w)
        q, k, v = qkv.permute(2, 0, 1, 4, 3, 5)  # each [B, heads, T, d, N]
        q, k = q.relu(), k.relu()
        v = F.pad(v, (0, 0, 0, 1), value=1.0)  # a row of ones gives the denominator
        out = v @ k.transpose(-1, -2) @ q
        out = out[..., :d, :] / (out[..., d:, :] + self.eps)
        out = out.permute(0, 1, 3, 2, 4).reshape(b, c // 3, t, h, w).to(x.dtype)
        return self.norm_out(self.to_out(out))


class GatedConv(nn.Module):
    """GLU-MBConv: widen, depth-wise 3x3x3, gate, narrow, norm."""

    def __init__(self, channels, config, time):
        super().__init__()
        wider = config["glu_expand"] * channels
        self.conv_inverted = PointLinear(channels, 2 * wider)
        self.conv_depth = Conv(2 * wider, 2 * wider, (3, 3, 3), time, groups=2 * wider)
        self.conv_point = PointLinear(wider, channels, bias=False)
        self.norm = PixelNorm(channels, config["norm_eps"], config["norm_affine"])

    def forward(self, x):
        value, gate = self.conv_depth(F.silu(self.conv_inverted(x))).chunk(2, 1)
        return self.norm(self.conv_point(value * F.silu(gate)))


class AttentionBlock(nn.Module):
    """x + linear attention, then x + gated convolution."""

    def __init__(self, channels, config, time):
        super().__init__()
        self.attn = LinearAttention(channels, config)
        self.conv_out = GatedConv(channels, config, time)

    def forward(self, x):
        x = x + self.attn(x)
        return x + self.conv_out(x)


def average(x, channels):
    """Averaging shortcut: the mean of each run of C / channels consecutive channels."""
    return x.unflatten(1, (channels, -1)).mean(2)


def repeat_frame0(x, factors):
    """1 + 2k frames get frame 0 once more on the left before a step that halves time."""
    return torch.cat([x[:, :, :1], x], 2) if factors[0] == 2 else x


def drop_frame0(x, factors):
    """The way back: without the first frame after a step that doubles time."""
    return x[:, :, 1:] if factors[0] == 2 else x


class Downsample(nn.Module):
    """[B, C, 1 + 2k, H, W] -> [B, C', 1 + k, H / 2, W / 2] (T kept if factors[0] is 1), plus the averaging shortcut."""

    def __init__(self, inputs, outputs, factors, config, time):
        super().__init__()
        self.factors, self.outputs, self.strided = factors, outputs, config["resample"] == "strided"
        kernel = (3 if factors[0] == 2 else config["resample_time_kernel"], 3, 3)
        if self.strided:
            self.conv = Conv(inputs, outputs, kernel, time, stride=factors)
        else:
            self.conv = Conv(inputs, outputs // math.prod(factors), kernel, time)

    def forward(self, x):
        h = self.conv(x)
        if not self.strided:
            h = unshuffle(repeat_frame0(h, self.factors), self.factors)
        return h + average(unshuffle(repeat_frame0(x, self.factors), self.factors), self.outputs)


class Upsample(nn.Module):
    """[B, C, 1 + k, H, W] -> [B, C', 1 + 2k, 2H, 2W] (T kept if factors[0] is 1), plus the duplicating shortcut.
    `time` is that of the resolution where the convolution runs."""

    def __init__(self, inputs, outputs, factors, config, time):
        super().__init__()
        self.factors, self.interpolate = factors, config["resample"] == "interpolate"
        kernel = (3 if factors[0] == 2 else config["resample_time_kernel"], 3, 3)
        self.copies = outputs * math.prod(factors) // inputs
        self.conv = Conv(inputs, outputs if self.interpolate else outputs * math.prod(factors), kernel, time)

    def forward(self, x):
        if self.interpolate:
            h = x
            for dim, factor in zip((2, 3, 4), self.factors):
                h = h.repeat_interleave(factor, dim)
            h = self.conv(drop_frame0(h, self.factors))
        else:
            h = drop_frame0(shuffle(self.conv(x), self.factors), self.factors)
        shortcut = shuffle(x.repeat_interleave(self.copies, 1), self.factors)
        return h + drop_frame0(shortcut, self.factors)


class FirstFrameAttention(nn.Module):
    """x + attention of all T * H * W positions to the encoder's features of frame 0, f [B, F, 1, H, W]."""

    def __init__(self, channels, feature_channels, config):
        super().__init__()
        self.head_dim = config["cross_head_dim"]
        self.norm = PixelNorm(channels, config["norm_eps"])
        self.norm_kv = PixelNorm(feature_channels, config["norm_eps"]) if config["cross_norm_kv"] else nn.Identity()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(feature_channels, channels, bias=False)
        self.to_v = nn.Linear(feature_channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x, f):
        x_tokens, f_tokens = (y.flatten(2).transpose(1, 2) for y in (self.norm(x), self.norm_kv(f)))
        q = self.to_q(x_tokens).unflatten(2, (-1, self.head_dim))
        k = self.to_k(f_tokens).unflatten(2, (-1, self.head_dim))
        v = self.to_v(f_tokens).unflatten(2, (-1, self.head_dim))
        out = self.to_out(attention(q, k, v))
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


def step_factors(config, stage):
    """Factors (time, height, width) between stage and stage + 1."""
    return (2 if stage in config["temporal_stages"] else 1, 2, 2)


class Stage(nn.Module):
    """Blocks "0", "1", ... of a stage. The other parts of the stage hang beside them."""

    def __init__(self, stage, config, time):
        super().__init__()
        self.depth, self.residual = config["depths"][stage], stage < config["attention_from_stage"]
        block = ResidualBlock if self.residual else AttentionBlock
        for b in range(self.depth):
            self.add_module(str(b), block(config["widths"][stage], config, time))

    def forward_blocks(self, x, *noise):
        for b in range(self.depth):
            x = self._modules[str(b)](x, *(noise if self.residual else ()))
        return x


class EncoderStage(Stage):
    """Blocks, then the step down (none in the last stage)."""

    def __init__(self, stage, config, time):
        super().__init__(stage, config, time)
        widths = config["widths"]
        self.downsample = nn.Identity()
        if stage + 1 < len(widths):
            factors = step_factors(config, stage)
            self.downsample = Downsample(widths[stage], widths[stage + 1], factors, config, time)

    def forward(self, x):
        return self.downsample(self.forward_blocks(x))


class Encoder(nn.Module):
    """Video [B, 3, 1 + 4k, H, W] in [-1, 1] -> latents [B, latent, 1 + k, H / 64, W / 64]."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        widths, latent = config["widths"], config["latent_channels"]
        time = Time(config["conv"], config["time_padding"])
        self.conv_in = Conv(config["in_channels"], widths[0], (3, 3, 3), time)
        self.down_blocks = nn.ModuleList(EncoderStage(s, config, time) for s in range(len(widths)))
        self.conv_out = Conv(widths[-1], latent, (config["latent_time_kernel"], 3, 3), time)
        mean, std = config["latents_mean"] or [0.0] * latent, config["latents_std"] or [1.0] * latent
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1, 1), persistent=False)

    def forward(self, video):
        """Latents in the autoencoder's own units, and per stage its output for frame 0, [B, C, 1, h, w]."""
        x = self.conv_in(video)
        features = []
        for stage in self.down_blocks:
            x = stage(x)
            features.append(x[:, :, :1])
        return self.conv_out(x) + average(x, self.config["latent_channels"]), features

    def normalize(self, latents):
        """From the autoencoder's units to those of the DITs."""
        return (latents - self.mean) / self.std * self.config["scaling_factor"]

    def denormalize(self, latents):
        """From the DITs' units back to those of the autoencoder."""
        return latents / self.config["scaling_factor"] * self.std + self.mean


class DecoderStage(Stage):
    """First-frame attention and the step up, where the stage has them, then the blocks."""

    def __init__(self, stage, config, time, time_below):
        super().__init__(stage, config, time)
        widths, encoder_widths = config["widths"], config["encoder_widths"]
        below = min(stage + 1, len(widths) - 1)
        self.cross_attn = None
        if stage in config["first_frame_attention_stages"]:
            self.cross_attn = FirstFrameAttention(widths[below], encoder_widths[below], config)
        self.upsample = nn.Identity()
        if below > stage:
            time_conv = time if config["resample"] == "interpolate" else time_below
            self.upsample = Upsample(widths[below], widths[stage], step_factors(config, stage), config, time_conv)

    def forward(self, x, feature, noise):
        if self.cross_attn is not None:
            x = self.cross_attn(x, feature)
        return self.forward_blocks(self.upsample(x), noise)


class Decoder(nn.Module):
    """Latents [B, latent, 1 + k, h, w] -> video [B, 3, 1 + 4k, 64h, 64w]."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        widths = config["widths"]

        def time_of(stage):  # the group grows with every temporal step that is undone
            group = math.prod(step_factors(config, s)[0] for s in range(stage, len(widths) - 1))
            return Time(config["conv"], config["time_padding"], group)

        stages = range(len(widths))
        kernel = (config["latent_time_kernel"], 3, 3)
        self.conv_in = Conv(config["latent_channels"], widths[-1], kernel, time_of(len(widths)))
        self.up_blocks = nn.ModuleList(DecoderStage(s, config, time_of(s), time_of(s + 1)) for s in stages)
        self.norm_out = PixelNorm(widths[0], config["norm_eps"], config["norm_affine"])
        self.conv_out = Conv(widths[0], config["out_channels"], (3, 3, 3), time_of(0))

    def forward(self, latents, features, noise=None):
        """features: the encoder's, a list over its stages. noise(j, H, W): map j, broadcast to [B, C, T, H, W];
        None decodes without noise. Latents are in the autoencoder's own units."""
        weight, maps = self.config["noise_weight"], 0

        def add_noise(h):
            nonlocal maps
            if noise is not None:
                h = h + weight * noise(maps, *h.shape[-2:])
                maps += 1
            return h

        x = self.conv_in(latents) + latents.repeat_interleave(self.conv_in.out_channels // latents.shape[1], 1)
        for stage in reversed(range(len(self.up_blocks))):
            x = self.up_blocks[stage](x, features[stage], add_noise)
        return self.conv_out(F.relu(self.norm_out(x)))
