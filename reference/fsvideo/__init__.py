"""FSVideo in PyTorch: every network of the model folder, the samplers and the dataflow between them.

Written from the specification and from models/FORMAT.md, never from the engine, so that agreement of the two means
something. Runs on torch 1.13 and later. Videos are [B, C, T, H, W] here; tokens [B, N, C].
"""

from .autoencoder import Decoder, Encoder
from .dit import DIT
from .image_encoder import CLIPVision
from .text_encoder import UMT5Encoder
from .upsampler import LatentUpsampler

__all__ = ["CLIPVision", "DIT", "Decoder", "Encoder", "LatentUpsampler", "UMT5Encoder"]
