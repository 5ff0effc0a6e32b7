"""Training losses and quality figures of videos [B, 3, T, H, W] in [-1, 1] against truth, with masks [B, 1, T, H, W]."""

import torch
import torch.nn.functional as F

FOREGROUND, OUTLINE = 0.5, 0.7  # what the shapes and their outlines count beside the whole picture


def importance(mask):
    """Weights of the pixels, 1 in the mean of a clip. A clip's shapes count as much however small they are, and so do their
    outlines, which tell a small star from a disc."""
    outline = F.max_pool3d(mask, (1, 3, 3), 1, (0, 1, 1)) + F.max_pool3d(-mask, (1, 3, 3), 1, (0, 1, 1))
    parts = [part / part.mean((1, 2, 3, 4), keepdim=True).clamp(min=1e-2) for part in (mask, outline)]
    weight = 1 + FOREGROUND * parts[0] + OUTLINE * parts[1]
    return weight / weight.mean((1, 2, 3, 4), keepdim=True)


def video_loss(output, video, mask, sharp):
    """Squared error and absolute error weighted by `importance`, squared error of means over 4 and 16 pixels, and with weight
    `sharp` the error of differences. Without the first two small shapes stay away: the median of a patch is the ground."""
    error = output.float() - video
    loss = ((4 * error.square() + error.abs()) * importance(mask)).mean()
    coarse = F.avg_pool3d(error, (1, 4, 4))
    loss = loss + 4 * coarse.square().mean() + 4 * F.avg_pool3d(coarse, (1, 4, 4)).square().mean()
    if sharp:
        slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        if error.shape[2] > 1:
            slopes = slopes + 0.5 * error.diff(dim=2).abs().mean()
        loss = loss + sharp * slopes
    return loss


def psnr(square):
    """Decibels of a mean squared error of values in [0, 1]."""
    return -10 * torch.log10(square.clamp(min=1e-10))


def ssim(a, b):
    """Mean SSIM of grey pictures in [0, 1], [N, 1, H, W], over 7 x 7 windows of equal weight."""
    mean_a, mean_b = F.avg_pool2d(a, 7, 1), F.avg_pool2d(b, 7, 1)
    var_a = F.avg_pool2d(a * a, 7, 1) - mean_a**2
    var_b = F.avg_pool2d(b * b, 7, 1) - mean_b**2
    both = F.avg_pool2d(a * b, 7, 1) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return value.mean(dim=(1, 2, 3))


def quality(output, video, mask):
    """-> {"psnr", "mask_psnr", "first_psnr", "ssim"}, means over the clips; the output is rounded to bytes before."""
    output = (((output.float().clamp(-1, 1) + 1) * 127.5).round() / 255).double()
    truth = ((video.float() + 1) / 2).double()
    square = (output - truth).square()
    grey = [y.mean(1).flatten(0, 1)[:, None].float() for y in (output, truth)]
    inside = (square * mask).sum((1, 2, 3, 4)) / (3 * mask.sum((1, 2, 3, 4)))
    return {
        "psnr": psnr(square.mean((1, 2, 3, 4))).mean().item(),
        "mask_psnr": psnr(inside).mean().item(),
        "first_psnr": psnr(square[:, :, 0].mean((1, 2, 3))).mean().item(),
        "ssim": ssim(*grey).mean().item(),
    }
