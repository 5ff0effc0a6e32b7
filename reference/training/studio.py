"""The folder of a training run: networks, checkpoints, log, and the plan of its phases."""

import os

import torch

from . import fast
from .autoencoder_phases import build_network
from .loop import Workers

CONVOLUTIONAL = ("encoder", "decoder", "decoder_symmetric", "decoder_lite")


class Studio:
    """What a phase needs to know. `size` is that of the finished video."""

    def __init__(self, folder, device, size=None, workers=None):
        self.folder, self.device = folder, torch.device(device)
        self.gpu = self.device.type == "cuda"
        self.size = size or (256 if self.gpu else 128)
        self.workers = Workers(self.device, workers)
        os.makedirs(folder, exist_ok=True)

    def batch(self, kind):
        """Clips a worker, or samples, in a step."""
        sizes = {"autoencoder": (1, 16), "base": (128, 1024), "upsampler": (96, 512), "refiner": (48, 512)}
        return sizes[kind][self.gpu]

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def has(self, name):
        return os.path.exists(self.path("networks", f"{name}.pt"))

    def network(self, name):
        """A network with its newest averaged weights, or its first ones."""
        network = build_network(name)
        if self.has(name):
            network.load_state_dict(self.weights(name))
        network = network.to(self.device)
        return fast.channels_last(network) if name in CONVOLUTIONAL else network

    def clips_seen(self):
        """Clips that the DITs of the model folder which the run began with were trained on (adopt.py)."""
        if not os.path.exists(self.path("clips_seen")):
            return 0
        with open(self.path("clips_seen")) as file:
            return int(file.read())

    def weights(self, name):
        return torch.load(self.path("networks", f"{name}.pt"), map_location="cpu", weights_only=True)

    def lend(self, name, network):
        """Gives a network those weights of another that have its shapes."""
        own, there = network.state_dict(), self.weights(name)
        fitting = {key: value for key, value in there.items() if key in own and own[key].shape == value.shape}
        network.load_state_dict(fitting, strict=False)
        return len(fitting)
