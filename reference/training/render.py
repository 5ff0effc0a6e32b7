"""Renders a scene. Pure: the same scene, frame and size give the same picture, and a port in another language agrees.

With N = size in pixels, frame f of F, u = f / (F - 1) (0 if F = 1), in double precision:

* Pixel (column i, row j) stands at x = (i + 0.5) / N, y = (j + 0.5) / N.
* Ground: from + (to - from) * clamp(0.5 + 0.7 * ((x - 0.5) * cos(angle) + (y - 0.5) * sin(angle)), 0, 1).
* Motion of a shape, at u: centre c = start, radius r = radius, turn a = angle, but for
    a direction d   c = start + u * travel * d        (d as in scenes.DIRECTIONS)
    bounce          c_y = start_y - travel * |sin(2 pi u)|
    rotate          a = angle + 0.75 pi u              (clockwise on the screen)
    grow            r = radius * (1 + 0.7 u)
    shrink          r = radius * (1 - 0.5 u)
* In the shape's frame: dx = x - c_x, dy = y - c_y, p = dx cos a + dy sin a, q = -dx sin a + dy cos a. Signed distance s
  (negative inside, in parts of the side):
    circle     sqrt(p^2 + q^2) - r
    square     max(|p|, |q|) - 0.87 r
    triangle   max(0.866025404 |p| - 0.5 q, q) - 0.575 r
    star       R = 1.15 r, m = 0.5 R, w = pi / 5; rho = sqrt(p^2 + q^2), phi = atan2(p, -q), psi = |mod(phi + w, 2 w) - w|
               (mod is never negative); e = (m cos w - R, m sin w), n = (e_y, -e_x) / |e|;
               s = n_x (rho cos psi - R) + n_y rho sin psi
* Coverage: clamp(0.5 - s * N / softness, 0, 1). Shapes are laid over the ground in order: f + (rgb - f) * coverage.
* Vignette v > 0: times 1 - 2 v ((x - 0.5)^2 + (y - 0.5)^2).
* To bytes: floor(f + 0.5), which may differ by one where another precision was used.

The mask of a clip is the largest coverage of its shapes.
"""

import math

import numpy as np

from .scenes import DIRECTIONS

FRAMES = 17


def shape_at(shape, u):
    """Where a shape is at progress u: (centre x, centre y, radius, turn)."""
    x, y = shape["start"]
    radius, turn, motion, travel = shape["radius"], shape["angle"], shape["motion"], shape["travel"]
    if motion in DIRECTIONS:
        dx, dy = DIRECTIONS[motion]
        x, y = x + u * travel * dx, y + u * travel * dy
    elif motion == "bounce":
        y -= travel * abs(math.sin(2 * math.pi * u))
    elif motion == "rotate":
        turn += 0.75 * math.pi * u
    elif motion == "grow":
        radius *= 1 + 0.7 * u
    elif motion == "shrink":
        radius *= 1 - 0.5 * u
    return x, y, radius, turn


def distance(kind, p, q, r):
    """Signed distance of points in the shape's own frame, negative inside."""
    if kind == "circle":
        return np.sqrt(p * p + q * q) - r
    if kind == "square":
        return np.maximum(np.abs(p), np.abs(q)) - 0.87 * r
    if kind == "triangle":
        return np.maximum(0.866025404 * np.abs(p) - 0.5 * q, q) - 0.575 * r
    outer, wedge = 1.15 * r, math.pi / 5
    inner = 0.5 * outer
    rho = np.sqrt(p * p + q * q)
    psi = np.abs(np.mod(np.arctan2(p, -q) + wedge, 2 * wedge) - wedge)
    edge_x, edge_y = inner * math.cos(wedge) - outer, inner * math.sin(wedge)
    length = math.hypot(edge_x, edge_y)
    return (edge_y * (rho * np.cos(psi) - outer) - edge_x * rho * np.sin(psi)) / length


def ground(scene, size):
    """The background [size, size, 3]."""
    background = scene["background"]
    first, last = (np.array(background[end], float) for end in ("from", "to"))
    at = (np.arange(size) + 0.5) / size - 0.5
    ramp = 0.5 + 0.7 * (at[None] * math.cos(background["angle"]) + at[:, None] * math.sin(background["angle"]))
    return first + (last - first) * np.clip(ramp, 0, 1)[..., None]


def coverage(shape, u, size, softness):
    """-> (rows, columns, coverage of that window) of one shape at progress u; it covers nothing elsewhere."""
    x, y, r, turn = shape_at(shape, u)
    reach = 1.16 * r + softness / size
    j0, i0 = (min(max(int((c - reach) * size), 0), size) for c in (y, x))
    j1, i1 = (min(max(int((c + reach) * size) + 2, 0), size) for c in (y, x))
    dx = ((np.arange(i0, i1) + 0.5) / size - x)[None]
    dy = ((np.arange(j0, j1) + 0.5) / size - y)[:, None]
    p = dx * math.cos(turn) + dy * math.sin(turn)
    q = -dx * math.sin(turn) + dy * math.cos(turn)
    s = distance(shape["shape"], *np.broadcast_arrays(p, q), r)
    return slice(j0, j1), slice(i0, i1), np.clip(0.5 - s * size / softness, 0, 1)


def render(scene, size, frames=FRAMES, only=None):
    """-> (uint8 [T, size, size, 3], mask float32 [T, size, size]) of all frames of the clip, or of the list `only`."""
    chosen = range(frames) if only is None else only
    video = np.repeat(ground(scene, size)[None].astype(np.float32), len(chosen), 0)
    mask = np.zeros((len(chosen), size, size), np.float32)
    for picture, covered, frame in zip(video, mask, chosen):
        u = frame / (frames - 1) if frames > 1 else 0.0
        for shape in scene["shapes"]:
            rows, columns, alpha = coverage(shape, u, size, scene["softness"])
            window = picture[rows, columns]
            window += (np.array(shape["rgb"]) - window) * alpha[..., None]
            np.maximum(covered[rows, columns], alpha, out=covered[rows, columns])
    if scene["vignette"]:
        at = (np.arange(size) + 0.5) / size - 0.5
        video *= (1 - 2 * scene["vignette"] * (at[None] ** 2 + at[:, None] ** 2))[..., None].astype(np.float32)
    video += 0.5
    return video.astype(np.uint8), mask  # all values lie in 0..255.5, where the cast is a floor


def tracks(scene, frames=FRAMES):
    """Ground truth [shapes, T, 4]: centre x, y, radius, turn."""
    progress = [f / (frames - 1) if frames > 1 else 0.0 for f in range(frames)]
    return np.array([[shape_at(shape, u) for u in progress] for shape in scene["shapes"]])
