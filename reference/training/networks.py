"""The networks of the model `shapes`: their configurations (models/FORMAT.md) and their first weights.

Full-resolution stages cost nearly all the time of an autoencoder on CPU cores, so its first stages are narrow and
without blocks: encoder stages 0 and 1 and decoder stage 0 only resample.
"""

import torch
import torch.nn as nn

from fsvideo import DIT, Decoder, Encoder, LatentUpsampler, UMT5Encoder
from fsvideo.layers import PixelNorm

from .words import PIECES, TEXT_LEN

LATENT = 128
BLOCK_GAIN = 0.3
AUTOENCODER = {
    "latent_channels": LATENT,
    "attention_from_stage": 3,
    "head_dim": 32,
    "qkv_scales": [3],
    "glu_expand": 2,
    "linear_attention_eps": 1e-3,
    "temporal_stages": [0, 1],
    "resample_time_kernel": 1,
    "latent_time_kernel": 1,
    "norm_affine": True,
    "norm_eps": 1e-4,
    "time_padding": "replicate",
}
ENCODER = {
    **AUTOENCODER,
    "in_channels": 3,
    "widths": [8, 32, 64, 64, 128, 128, 128],
    "depths": [0, 0, 1, 1, 1, 2, 1],
    "resample": "strided",
    "conv": "causal",
    "latents_mean": None,
    "latents_std": None,
    "scaling_factor": 1.0,
}
DECODER = {
    **AUTOENCODER,
    "out_channels": 3,
    "widths": [8, 16, 64, 64, 128, 128, 128],
    "encoder_widths": ENCODER["widths"],
    "depths": [0, 1, 1, 1, 2, 2, 1],
    "resample": "shuffle",
    "conv": "noncausal",
    "noise_weight": 0.05,
    "first_frame_attention_stages": [2, 3, 4, 5, 6],
    "cross_head_dim": 32,
    "cross_norm_kv": True,
}
DECODER_LITE = {
    **DECODER,
    "widths": [4, 16, 64, 64, 128, 128, 128],
    "depths": [0, 0, 1, 1, 1, 1, 1],
    "conv": "group_causal",
}
TEXT = {
    "vocab_size": len(PIECES),
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
BASE = {
    "dim": 192,
    "layers": 6,
    "heads": 6,
    "ffn_dim": 512,
    "patch_size": [1, 1, 1],
    "in_channels": 2 * LATENT + 4,
    "out_channels": LATENT,
    "mask_channels": 4,
    "freq_dim": 128,
    "text_len": TEXT_LEN,
    "text_dim": TEXT["d_model"],
    "image_len": None,
    "image_dim": None,
    "eps": 1e-6,
    "rope": [12, 10, 10],
    "rope_theta": 10000,
    "memory": {"enabled": True, "norm": "post_mix", "bias": True},
}
BASE_WITHOUT_MEMORY = {**BASE, "memory": {**BASE["memory"], "enabled": False}}
REFINER = {**BASE, "layers": 5}
UPSAMPLER = {
    "in_channels": LATENT,
    "mid_channels": 32,
    "blocks": 1,
    "scale": 2,
    "norm_groups": 8,
    "norm_eps": 1e-5,
    "time_padding": "replicate",
}
KINDS = {
    "encoder": (Encoder, ENCODER),
    "decoder": (Decoder, DECODER),
    "decoder_lite": (Decoder, DECODER_LITE),
    "text_encoder": (UMT5Encoder, TEXT),
    "transformer": (DIT, BASE),
    "transformer_plain": (DIT, BASE_WITHOUT_MEMORY),
    "latent_upsampler": (LatentUpsampler, UPSAMPLER),
    "refiner": (DIT, REFINER),
}


def quiet_blocks(network):
    """Blocks add a vector of length BLOCK_GAIN instead of one of length 1 at first, so that the shortcuts lead."""
    for name, module in network.named_modules():
        if isinstance(module, PixelNorm) and module.affine and name != "norm_out":
            nn.init.constant_(module.weight, BLOCK_GAIN)


def build(name, seed=0):
    """A component with first weights that depend on its name and the seed only."""
    torch.manual_seed(seed + 1000 * (1 + list(KINDS).index(name)))
    kind, config = KINDS[name]
    network = kind(config)
    if kind in (Encoder, Decoder):
        quiet_blocks(network)
    if name == "text_encoder":
        for module in network.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.5 if module is network.shared else 0.1)
    return network


def size(network):
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())
