"""Scenes: what a clip of moving shapes shows, as a small dictionary that can be JSON.

Positions and lengths are in parts of the picture's side (x to the right, y down, the origin in the upper left corner), angles
in radians, colours are RGB from 0 to 255. A scene is rendered at any size by `render.py`, which states the formulas.

    {"background": {"from": [r, g, b], "to": [r, g, b], "angle": a},        plain if both colours are equal
     "shapes": [{"shape": "star", "colour": "red", "rgb": [r, g, b], "size": "large", "radius": 0.17, "motion": "up and left",
                 "start": [x, y], "travel": 0.4, "angle": 0.0}, ...],       later ones are in front
     "softness": 1.0, "vignette": 0.0}
"""

import math

import numpy as np

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (225, 40, 40),
    "orange": (245, 135, 25),
    "yellow": (245, 220, 50),
    "green": (45, 175, 65),
    "cyan": (50, 200, 215),
    "blue": (45, 85, 225),
    "purple": (140, 55, 190),
    "pink": (240, 115, 185),
}
DIAGONAL = math.sqrt(0.5)
DIRECTIONS = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "up and left": (-DIAGONAL, -DIAGONAL),
    "up and right": (DIAGONAL, -DIAGONAL),
    "down and left": (-DIAGONAL, DIAGONAL),
    "down and right": (DIAGONAL, DIAGONAL),
}
MOTIONS = (*DIRECTIONS, "bounce", "rotate", "grow", "shrink", "still")
RADII = {"small": (0.09, 0.125), "large": (0.15, 0.2)}
MARGIN = 0.02  # between a shape's circle and the picture's edge
JITTER = 12  # of a named colour, each channel
CONTRAST = 150  # least sum of the channels' differences between a shape and the ground


def draw_scene(rng, motion=None, count=None):
    """A scene drawn from a numpy Generator; `motion` of the first shape and the number of shapes can be given."""
    if count is None:
        count = 1 if rng.random() < 0.75 else 2
    names = [str(name) for name in rng.permutation(list(COLOURS))[:count]]
    colours = [np.clip(np.array(COLOURS[name]) + rng.integers(-JITTER, JITTER + 1, 3), 0, 255) for name in names]
    shapes = []
    for i, (name, colour) in enumerate(zip(names, colours)):
        wanted = motion if motion and i == 0 else MOTIONS[rng.integers(len(MOTIONS))]
        shape = draw_shape(rng, name, colour, wanted)
        while shapes and hidden(shape, shapes[0]):
            shape = draw_shape(rng, name, colour, wanted)
        shapes.append(shape)
    return {
        "background": draw_background(rng, colours),
        "shapes": shapes,
        "softness": round(float(rng.uniform(1, 2.5)), 3) if rng.random() < 0.2 else 1.0,
        "vignette": round(float(rng.uniform(0.05, 0.3)), 3) if rng.random() < 0.15 else 0.0,
    }


def draw_shape(rng, name, colour, motion):
    """One shape whose whole path stays inside the picture."""
    shape = SHAPES[rng.integers(1, 4) if motion == "rotate" else rng.integers(4)]  # nobody sees a circle turn
    size = "small" if rng.random() < 0.5 else "large"
    radius = rng.uniform(*RADII[size])
    travel, path = 0.0, np.zeros((1, 2))
    if motion in DIRECTIONS:
        travel = rng.uniform(0.3, 0.5)
        path = np.array([(0.0, 0.0), DIRECTIONS[motion]]) * travel
    elif motion == "bounce":
        travel = rng.uniform(0.25, 0.4)
        path = np.array([(0.0, 0.0), (0.0, -travel)])
    low = radius * largest_scale(motion) + MARGIN - path.min(0)
    high = 1 - radius * largest_scale(motion) - MARGIN - path.max(0)
    start = rng.uniform(np.minimum(low, high), np.maximum(low, high))
    tilted = motion == "rotate" or rng.random() < 0.15
    return {
        "shape": shape,
        "colour": name,
        "rgb": [int(c) for c in colour],
        "size": size,
        "radius": round(float(radius), 4),
        "motion": motion,
        "start": [round(float(s), 4) for s in start],
        "travel": round(float(travel), 4),
        "angle": round(float(rng.uniform(0, 2 * math.pi)), 4) if tilted else 0.0,
    }


def hidden(shape, other):
    """Whether two shapes touch in the first frame."""
    between = math.dist(shape["start"], other["start"])
    return between < 1.1 * (shape["radius"] + other["radius"])


def largest_scale(motion):
    """By how much a shape's radius is exceeded in the course of its motion."""
    return 1.7 if motion == "grow" else 1.0


def draw_background(rng, colours):
    """A muted ground, plain or with a linear gradient, that every shape stands out from; paper now and then."""
    while True:
        if rng.random() < 0.15:
            first = rng.uniform(235, 255) + rng.uniform(-5, 5, 3)
            last = first + rng.uniform(-12, 12) * (rng.random() < 0.5)
        else:
            first = rng.uniform(15, 240, 3)
            first = first.mean() + 0.4 * (first - first.mean())
            last = first + rng.uniform(-50, 50, 3) * (rng.random() < 0.5)
        first, last = np.clip(first, 0, 255).round(), np.clip(last, 0, 255).round()
        if all(np.abs(colour - ground).sum() >= CONTRAST for colour in colours for ground in (first, last)):
            angle = round(float(rng.uniform(0, 2 * math.pi)), 4)
            return {"from": [int(c) for c in first], "to": [int(c) for c in last], "angle": angle}


def scene_of(seed, motion=None, count=None):
    """The scene of a seed. Training uses seeds below HELD_OUT, scores those from it on."""
    return draw_scene(np.random.default_rng([7, seed]), motion, count)


HELD_OUT = 1_000_000_000
