"""CLIP's vision transformer: the input image -> the image tokens of the DITs. Hugging Face parameter names."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .layers import attention

ACTIVATIONS = {"gelu": F.gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}


class Embeddings(nn.Module):
    """Patches of the picture behind a class token, plus learned positions."""

    def __init__(self, config):
        super().__init__()
        width, p = config["hidden_size"], config["patch_size"]
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.patch_embedding = nn.Conv3d(3, width, (1, p, p), (1, p, p), bias=False)
        self.position_embedding = nn.Embedding((config["image_size"] // p) ** 2 + 1, width)

    def forward(self, pixels):
        patches = self.patch_embedding(pixels[:, :, None]).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([first, patches], 1) + self.position_embedding.weight


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).unflatten(2, (self.heads, -1)) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(q, k, v))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.fc1 = nn.Linear(config["hidden_size"], config["intermediate_size"])
        self.fc2 = nn.Linear(config["intermediate_size"], config["hidden_size"])
        self.act = ACTIVATIONS[config["hidden_act"]]

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Layer(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config):
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.self_attn = SelfAttention(width, config["num_attention_heads"])
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.mlp = MLP(config)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionModel(nn.Module):
    """Only the blocks up to the asked hidden state are built: those behind it are never read."""

    def __init__(self, config):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])
        layers = config["num_hidden_layers"] + 1 + config["output_layer"]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(Layer(config) for _ in range(layers))})

    def forward(self, pixels):
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder["layers"]:
            x = layer(x)
        return x


class CLIPVision(nn.Module):
    """Pixels [B, 3, S, S], CLIP-normalised -> hidden state `output_layer`, [B, (S / patch)^2 + 1, hidden]."""

    def __init__(self, config):
        super().__init__()
        self.vision_model = VisionModel(config)

    def forward(self, pixels):
        return self.vision_model(pixels)
