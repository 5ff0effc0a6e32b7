"""UMT5 encoder: token numbers of a prompt -> text embeddings of the DITs. Hugging Face parameter names.

A T5 encoder whose every block has its own table of relative position biases. Attention is not scaled.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from .layers import RMSNorm, attention


def position_buckets(length, buckets, max_distance):
    """T5's bidirectional buckets [query, key] of key - query: exact up to buckets / 4, then logarithmic."""
    position = torch.arange(length)
    relative = position[None, :] - position[:, None]
    half, exact = buckets // 2, buckets // 4
    distance = relative.abs()
    far = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + far.long()).clamp(max=half - 1)
    return half * (relative > 0).long() + torch.where(distance < exact, distance, far)


class SelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        inner = config["num_heads"] * config["d_kv"]
        self.config = config
        self.q, self.k, self.v = (nn.Linear(config["d_model"], inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config["d_model"], bias=False)
        self.relative_attention_bias = nn.Embedding(config["relative_attention_num_buckets"], config["num_heads"])

    def bias(self, length):
        """Position bias [heads, query, key]."""
        config = self.config
        distance = config["relative_attention_max_distance"]
        buckets = position_buckets(length, config["relative_attention_num_buckets"], distance)
        return self.relative_attention_bias(buckets.to(self.q.weight.device)).permute(2, 0, 1)

    def forward(self, x):
        q, k, v = (f(x).unflatten(2, (self.config["num_heads"], -1)) for f in (self.q, self.k, self.v))
        return self.o(attention(q, k, v, scale=1.0, bias=self.bias(x.shape[1])))


class GatedFeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wi_0, self.wi_1 = (nn.Linear(config["d_model"], config["d_ff"], bias=False) for _ in range(2))
        self.wo = nn.Linear(config["d_ff"], config["d_model"], bias=False)

    def forward(self, x):
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class Sublayer(nn.Module):
    """x + f(norm(x)); f sits under the name that Hugging Face gives it."""

    def __init__(self, name, f, config):
        super().__init__()
        self.name = name
        self.add_module(name, f)
        self.layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])

    def forward(self, x):
        return x + self._modules[self.name](self.layer_norm(x))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.Sequential(
            Sublayer("SelfAttention", SelfAttention(config), config),
            Sublayer("DenseReluDense", GatedFeedForward(config), config),
        )

    def forward(self, x):
        return self.layer(x)


class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.block = nn.Sequential(*(Block(config) for _ in range(config["num_layers"])))
        self.final_layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])

    def forward(self, x):
        return self.final_layer_norm(self.block(x))


class UMT5Encoder(nn.Module):
    """ids [B, N] -> [B, N, d_model]; all ids are the prompt's own, nothing is masked."""

    def __init__(self, config):
        super().__init__()
        self.shared = nn.Embedding(config["vocab_size"], config["d_model"])
        self.encoder = Stack(config)

    def forward(self, ids):
        return self.encoder(self.shared(ids))

    def embed(self, prompts, text_len):
        """Lists of ids -> [B, text_len, d_model], zeros behind each prompt's last token."""
        device = self.shared.weight.device
        rows = [self(torch.tensor([ids], device=device))[0] for ids in prompts]
        return torch.stack([F.pad(row, (0, 0, 0, text_len - len(row))) for row in rows])
