"""Noise levels and solvers of the rectified flow x = (1 - sigma) x_0 + sigma noise, v = noise - x_0.

`velocity(x, sigma)` is the network; `sigmas` fall from the start to 0. UniPC is the bh2 variant of order 2 that
Wan2.1 samples with (Zhao et al. 2023), in its prediction form m = x - sigma v.
"""

import math


def make_sigmas(solver, steps, shift, sigma_start=1.0):
    """steps + 1 levels, the last one 0. Wan's grid for UniPC begins a thousandth lower."""
    start = sigma_start * (0.999 if solver == "unipc" else 1.0)
    levels = [start * (1 - i / steps) for i in range(steps)]
    return [shift * u / (1 + (shift - 1) * u) for u in levels] + [0.0]


def guide(conditional, unconditional, scale):
    """Classifier-free guidance."""
    return unconditional + scale * (conditional - unconditional)


def euler(velocity, x, sigmas):
    for sigma, following in zip(sigmas, sigmas[1:]):
        x = x + (following - sigma) * velocity(x, sigma)
    return x


def renoise(velocity, x, sigmas, noise):
    """Predict x_0, noise it afresh to the following level. noise(j): standard normal of x's shape for step j."""
    for j, (sigma, following) in enumerate(zip(sigmas, sigmas[1:])):
        clean = x - sigma * velocity(x, sigma)
        x = (1 - following) * clean + following * noise(j) if following > 0 else clean
    return x


def log_snr(sigma):
    """lambda = ln(alpha / sigma), -inf at sigma = 1 and inf at 0."""
    if sigma >= 1:
        return -math.inf
    return math.inf if sigma <= 0 else math.log((1 - sigma) / sigma)


def unipc(velocity, x, sigmas):
    """Predictor-corrector: each prediction m first corrects the x it was made at (without a new evaluation), then
    leads to the next x. The last step returns the last m."""
    snr = [log_snr(sigma) for sigma in sigmas]
    previous, earlier, before = None, None, x  # m_{i-1}, m_{i-2}, and x_{i-1} that the predictor started from
    for i, sigma in enumerate(sigmas[:-1]):
        m = x - sigma * velocity(x, sigma)
        if i > 0:
            x = correct(before, sigmas, snr, i, m, previous, earlier)
        before, x = x, predict(x, sigmas, snr, i, m, previous)
        previous, earlier = m, previous
    return x


def predict(x, sigmas, snr, i, m, previous):
    """x_{i+1} from x_i and m_i; of order 2 but for the first and the last step."""
    if sigmas[i + 1] == 0:
        return m
    h = snr[i + 1] - snr[i]
    phi = math.expm1(-h)
    slope = 0.0
    if previous is not None and i + 2 < len(sigmas):
        r = (snr[i - 1] - snr[i]) / h
        slope = 0.5 * (previous - m) / r
    return (sigmas[i + 1] / sigmas[i]) * x - (1 - sigmas[i + 1]) * phi * (m + slope)


def correct(x, sigmas, snr, i, m, previous, earlier):
    """x_i again, from x_{i-1} and now also m_i; of the order of the prediction that it corrects."""
    h = snr[i] - snr[i - 1]
    phi = math.expm1(-h)
    if earlier is None:
        slope = 0.5 * (m - previous)
    else:
        r = (snr[i - 2] - snr[i - 1]) / h
        first = -phi / h - 1
        b1, b2 = first / phi, 2 * (-first / h - 0.5) / phi
        rho1 = (b2 - b1) / (r - 1)
        slope = rho1 * (earlier - previous) / r + (b1 - rho1) * (m - previous)
    return (sigmas[i] / sigmas[i - 1]) * x - (1 - sigmas[i]) * phi * (previous + slope)


def sample(solver, velocity, x, sigmas, noise=None):
    """Run a solver by the name that a model's scheduler configuration gives it."""
    if solver == "renoise":
        return renoise(velocity, x, sigmas, noise)
    return {"euler": euler, "unipc": unipc}[solver](velocity, x, sigmas)
