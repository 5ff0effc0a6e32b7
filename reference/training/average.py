"""The mean of several rounds' weights of one network, which often does what each of them does best.

    python3 -m training.average --of A/networks/decoder.pt B/networks/decoder.pt --to DIR/networks/decoder.pt
"""

import argparse

import torch

from .loop import atomically


def average(several):
    """several: state dicts of the same network."""
    if any(weights.keys() != several[0].keys() for weights in several):
        raise ValueError("these are not weights of the same network")
    return {key: torch.stack([weights[key].float() for weights in several]).mean(0) for key in several[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", required=True)
    parser.add_argument("--to", required=True)
    options = parser.parse_args()
    mean = average([torch.load(path, map_location="cpu", weights_only=True) for path in options.of])
    atomically(options.to, lambda path: torch.save(mean, path))


if __name__ == "__main__":
    main()
