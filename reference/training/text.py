"""Prompts of different lengths through the text encoder in one batch: `UMT5Encoder.embed`, masked instead of one by one."""

import torch
import torch.nn.functional as F

from .fast import few_tokens


def embed(encoder, prompts, text_len):
    """Lists of ids -> [B, text_len, d_model], zeros behind each prompt's last token. Equal prompts are encoded once."""
    device, unique = encoder.shared.weight.device, {}
    index = torch.tensor([unique.setdefault(tuple(ids), len(unique)) for ids in prompts], device=device)
    longest = max(len(ids) for ids in unique)
    ids = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in unique], device=device)
    lengths = torch.tensor([len(ids) for ids in unique], device=device)
    there = torch.arange(longest, device=device) < lengths[:, None]
    x = encoder.shared(ids)
    for block in encoder.encoder.block:
        x = x + attend(block.layer[0], x, there)
        x = block.layer[1](x)
    x = encoder.encoder.final_layer_norm(x) * there[..., None]
    return F.pad(x, (0, 0, 0, text_len - longest))[index]


def attend(sublayer, x, there):
    """The self-attention of a block, to the tokens that are there."""
    attention, h = sublayer.SelfAttention, sublayer.layer_norm(x)
    heads = attention.config["num_heads"]
    q, k, v = (f(h).unflatten(2, (heads, -1)) for f in (attention.q, attention.k, attention.v))
    bias = attention.bias(x.shape[1])[None].masked_fill(~there[:, None, None], -1e9)
    return attention.o(few_tokens(q, k, v, 1.0, bias))
