"""The latent upsampler: latents of the base's size to latents of twice the height and width (paper section 2.4.1).

Projection, pixel shuffle, residual blocks, in the order of the paper's figure 8; the blocks are LTX-Video's.
"""

import torch.nn as nn
import torch.nn.functional as F

from .layers import Conv, Time, shuffle


class ResBlock(nn.Module):
    """silu(x + norm2(conv2(silu(norm1(conv1(x))))))."""

    def __init__(self, config, time):
        super().__init__()
        channels, groups, eps = config["mid_channels"], config["norm_groups"], config["norm_eps"]
        self.conv1 = Conv(channels, channels, (3, 3, 3), time)
        self.norm1 = nn.GroupNorm(groups, channels, eps)
        self.conv2 = Conv(channels, channels, (3, 3, 3), time)
        self.norm2 = nn.GroupNorm(groups, channels, eps)

    def forward(self, x):
        h = F.silu(self.norm1(self.conv1(x)))
        return F.silu(x + self.norm2(self.conv2(h)))


class LatentUpsampler(nn.Module):
    """[B, C, T, H, W] -> [B, C, T, scale * H, scale * W], both in the autoencoder's own units."""

    def __init__(self, config):
        super().__init__()
        channels, mid, self.scale = config["in_channels"], config["mid_channels"], config["scale"]
        time = Time("noncausal", config["time_padding"])
        self.initial_conv = Conv(channels, mid * self.scale**2, (3, 3, 3), time)
        self.res_blocks = nn.ModuleList(ResBlock(config, time) for _ in range(config["blocks"]))
        self.final_conv = Conv(mid, channels, (3, 3, 3), time)

    def forward(self, latents):
        x = shuffle(self.initial_conv(latents), (1, self.scale, self.scale))
        for block in self.res_blocks:
            x = block(x)
        return self.final_conv(x)
