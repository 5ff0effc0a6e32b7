"""Faster forwards of the networks' modules for training on CPU cores: same results, fewer passes over memory.

`install()` puts them in the place of the plain ones of `fsvideo`; test_fast.py holds the two against one another, gradients
too. What costs time in the plain ones, measured with two cores at 128 x 128 x 17: gradients of slices (a full-size tensor of
zeros each), pixel norms (three times as many passes), shuffles whose output is not channels-last (slow convolutions behind
them), and 3D convolutions of a single frame, where all taps see the same frame and their sum is a 2D convolution.
"""

import torch
import torch.nn.functional as F

from fsvideo import autoencoder, dit, layers

LAST = torch.channels_last_3d


class PadTime(torch.autograd.Function):
    """Copies of the outermost frames in front and behind. The gradient adds theirs to them in place."""

    @staticmethod
    def forward(ctx, x, left, right):
        ctx.sides = left, right
        return torch.cat([x[:, :, :1]] * left + [x] + [x[:, :, -1:]] * right, 2)

    @staticmethod
    def backward(ctx, g):
        left, right = ctx.sides
        end = g.shape[2] - right
        inner = g[:, :, left:end].clone(memory_format=LAST)
        for t in range(left):
            inner[:, :, 0] += g[:, :, t]
        for t in range(end, g.shape[2]):
            inner[:, :, -1] += g[:, :, t]
        return inner, None, None


class Normalize(torch.autograd.Function):
    """x / sqrt(mean over `dim` of x^2 + eps), in x's precision but for the mean."""

    @staticmethod
    def forward(ctx, x, dim, eps):
        n = x.shape[dim]
        mean = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=layers.wide(x[:0]).dtype).square_().div_(n)
        r = mean.add_(eps).rsqrt_().to(x.dtype)
        y = x * r
        ctx.save_for_backward(y, r)
        ctx.dim = dim
        return y

    @staticmethod
    def backward(ctx, g):
        y, r = ctx.saved_tensors
        along = (g * y).mean(ctx.dim, keepdim=True)
        return torch.addcmul(g, y, along, value=-1).mul_(r), None, None


class Depthwise(torch.autograd.Function):
    """Depth-wise convolution of [B, C, T, H, W] that is already padded in time, with an odd k x k kernel.

    oneDNN's 3D gradients of it are some fifteen times slower than need be (62 against 4 ms at 256 channels of 7 x 16 x 16):
    here the gradient of the input is a forward convolution with the flipped kernel, that of the kernel one 2D call a tap.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.conv3d(x, weight, bias, 1, (0, weight.shape[3] // 2, weight.shape[4] // 2), 1, len(weight))

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        c, _, kt, kh, kw = weight.shape
        b, t, pad = x.shape[0], g.shape[2], (kh // 2, kw // 2)
        g = g.contiguous(memory_format=LAST)
        wide = F.pad(g, (0, 0, 0, 0, kt - 1, kt - 1)) if kt > 1 else g
        dx = F.conv3d(wide, weight.flip(2, 3, 4), None, 1, (0, *pad), 1, c)
        flat = g.transpose(1, 2).reshape(b * t, c, *g.shape[3:])
        taps = []
        if g.shape[3] * g.shape[4] <= 4:  # the 2D call takes milliseconds however small its input
            return dx, small_taps(x, g, weight.shape), g.sum((0, 2, 3, 4)) if ctx.needs_input_grad[2] else None
        for k in range(kt):
            seen = x[:, :, k : k + t].transpose(1, 2).reshape(b * t, c, *x.shape[3:])
            arguments = (flat, seen, weight[:, :, 0], None, (1, 1), pad, (1, 1), False, (0, 0), c, (False, True, False))
            taps.append(torch.ops.aten.convolution_backward(*arguments)[1])
        return dx, torch.stack(taps, 2), g.sum((0, 2, 3, 4)) if ctx.needs_input_grad[2] else None


def small_taps(x, g, shape):
    """Gradient of a depth-wise kernel by one product and sum a tap."""
    c, _, kt, kh, kw = shape
    t, h, w = g.shape[2:]
    x = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2))
    taps = []
    for k in range(kt):
        for i in range(kh):
            for j in range(kw):
                taps.append((x[:, :, k : k + t, i : i + h, j : j + w] * g).sum((0, 2, 3, 4)))
    return torch.stack(taps, 1).view(shape)


def depthwise(x, weight, bias=None):
    """The same under autocast, whose casts a custom gradient does not see."""
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = (None if y is None else y.to(kind) for y in (x, weight, bias))
    return Depthwise.apply(x, weight, bias)


def norm_forward(self, x):
    y = Normalize.apply(x, 1, self.eps)
    if self.affine:
        y = y * self.weight.view(-1, 1, 1, 1) + self.bias.view(-1, 1, 1, 1)
    return y


def conv_forward(self, x):
    kt = self.kernel_size[0]
    if self.time.conv == "group_causal" and kt == 3 and x.shape[2] > 1 and self.time.padding == "replicate":
        return groups_forward(self, x)
    if self.groups > 1 and kt == 3:
        single = x.shape[2] == 1 and self.time.padding == "replicate"
        weight = self.weight.sum(2, keepdim=True) if single else self.weight
        return depthwise(x if single else plain_pad(self, x), weight, self.bias)
    if x.shape[2] == 1 and kt in (1, 3) and self.time.padding == "replicate":
        weight = self.weight.sum(2) if kt == 3 else self.weight[:, :, 0]
        return F.conv2d(x[:, :, 0], weight, self.bias, self.stride[1:], self.padding[1:], 1, self.groups)[:, :, None]
    if kt == 1:
        return self._conv_forward(x, self.weight, self.bias)
    if self.time.conv == "group_causal":  # padded with zeros
        return PLAIN["conv"](self, x)
    return self._conv_forward(plain_pad(self, x), self.weight, self.bias)


class Windows(torch.autograd.Function):
    """Groups of g frames behind the first, each between the frame before it and a copy of its own last:
    [B, C, 1 + n g, H, W] -> [B, C, n (g + 2), H, W]. In one row, since oneDNN's bfloat16 gradients of a convolution over fewer than
    nine large frames write beyond their memory on cores with AMX (torch 2.13)."""

    @staticmethod
    def forward(ctx, x, g):
        ctx.shape, ctx.group = x.shape, g
        b, c, t, h, w = x.shape
        frames = x.permute(0, 2, 3, 4, 1)
        out = frames.new_empty(b, (t - 1) // g, g + 2, h, w, c)
        out[:, :, 1:-1] = frames[:, 1:].unflatten(1, (-1, g))
        out[:, :, 0], out[:, :, -1] = frames[:, :-1:g], frames[:, g::g]
        return out.flatten(1, 2).permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx, gradient):
        b, c, t, h, w = ctx.shape
        g = gradient.permute(0, 2, 3, 4, 1).unflatten(1, (-1, ctx.group + 2))
        frames = g.new_empty(b, t, h, w, c)
        frames[:, 0] = 0
        frames[:, 1:] = g[:, :, 1:-1].flatten(1, 2)
        frames[:, : -1 : ctx.group] += g[:, :, 0]
        frames[:, ctx.group :: ctx.group] += g[:, :, -1]
        return frames.permute(0, 4, 1, 2, 3), None


def groups_forward(self, x):
    """Group-causal. In groups of one frame, own frame and copy fall together: two taps. The first frame sees itself only."""
    weight, g = self.weight, self.time.group
    if g == 1:
        weight = torch.stack([weight[:, :, 0], weight[:, :, 1] + weight[:, :, 2]], 2)
        padded = PadTime.apply(x, 1, 0)
        if self.groups > 1:
            return depthwise(padded, weight, self.bias)
        return self._conv_forward(padded, weight, self.bias)
    first = F.conv2d(x[:, :, 0], weight.sum(2), self.bias, self.stride[1:], self.padding[1:], 1, self.groups)[
        :, :, None
    ]
    rest = F.pad(self._conv_forward(Windows.apply(x, g), weight, self.bias), (0, 0, 0, 0, 0, 2))
    rest = rest.permute(0, 2, 3, 4, 1).unflatten(1, (-1, g + 2))[:, :, :g]  # without what lies across two groups
    rest = rest.flatten(1, 2).permute(0, 4, 1, 2, 3)
    return torch.cat([first, rest], 2)


def plain_pad(self, x):
    causal, kt = self.time.conv == "causal", self.kernel_size[0]
    left, right = (kt - 1, 0) if causal else (kt // 2, kt // 2)
    return (
        PadTime.apply(x, left, right) if self.time.padding == "replicate" else layers.pad_time(x, left, right, "zeros")
    )


def unshuffle(x, factors):
    return plain_unshuffle(x, factors).contiguous(memory_format=LAST)


def shuffle(x, factors):
    return plain_shuffle(x, factors).contiguous(memory_format=LAST)


plain_unshuffle, plain_shuffle = layers.unshuffle, layers.shuffle


def averaged(x, factors, outputs):
    """`average(unshuffle(x, factors), outputs)`: the averaged run of channels is a part of the last axes."""
    run = x.shape[1] * factors[0] * 4 // outputs
    if run == 2:
        return unshuffle(x.unflatten(4, (-1, 2)).mean(5), (*factors[:2], 1))
    if run == 4:
        return unshuffle(x.unflatten(4, (-1, 2)).mean(5).unflatten(3, (-1, 2)).mean(4), (factors[0], 1, 1))
    return autoencoder.average(unshuffle(x, factors), outputs)


def down_forward(self, x):
    """The strided step; its two frames on the left serve the shortcut as well."""
    if not self.strided:
        return plain_down(self, x)
    if self.factors[0] == 1 or x.shape[2] == 1:
        return self.conv(x) + averaged(autoencoder.repeat_frame0(x, self.factors), self.factors, self.outputs)
    padded = PadTime.apply(x, 2, 0)
    h = self.conv._conv_forward(padded, self.conv.weight, self.conv.bias)
    return h + averaged(padded[:, :, 1:], self.factors, self.outputs)


def up_forward(self, x):
    """The shuffling step: the shortcut is added before the shuffle, where it is a repeat of channels."""
    if self.interpolate:
        return plain_up(self, x)
    h = shuffle(self.conv(x) + x.repeat_interleave(self.copies, 1), self.factors)
    return autoencoder.drop_frame0(h, self.factors)


def attention_forward(self, x):
    """ReLU linear attention with its heads in channels-last order, products in float32."""
    b, c, t, h, w = x.shape
    d, branches = self.head_dim, self.to_qkv_multiscale
    tokens = x.permute(0, 2, 3, 4, 1)
    qkv = F.linear(tokens, self.to_qkv.weight)
    flat = qkv.permute(0, 4, 1, 2, 3)
    parts = [qkv.reshape(b * t, h * w, -1, 3, d)]
    for branch in branches:
        y = depthwise(flat, branch.proj_in.weight).permute(0, 2, 3, 4, 1).reshape(-1, 3 * c // d, d)
        y = torch.bmm(y.transpose(0, 1), branch.proj_out.weight.view(-1, d, d).transpose(1, 2)).transpose(0, 1)
        parts.append(y.reshape(b * t, h * w, -1, 3, d))
    q, k, v = layers.wide(torch.cat(parts, 2)).permute(3, 0, 2, 1, 4)  # [B * T, heads, N, d]
    with torch.autocast(x.device.type, enabled=False):
        q, k = F.relu(q), F.relu(k)
        out = q @ (k.transpose(-1, -2) @ v)
        out = out / (q @ k.sum(-2)[..., None] + self.eps)
    out = out.transpose(1, 2).reshape(b, t, h, w, -1).to(tokens.dtype)
    return self.norm_out(F.linear(out, self.to_out.weight).permute(0, 4, 1, 2, 3))


def rms_forward(self, x):
    return Normalize.apply(x, -1, self.eps) * self.weight.to(x.dtype)


def few_tokens(q, k, v, scale=None, bias=None):
    """`layers.attention` by plain products: the fused one is slow to differentiate where tokens are few."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (x.transpose(1, 2) for x in (q * scale, k, v))
    scores = layers.wide(q @ k.transpose(2, 3))
    scores = scores if bias is None else scores + bias
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


plain_attention, plain_rms = layers.attention, layers.RMSNorm.forward
plain_down, plain_up = autoencoder.Downsample.forward, autoencoder.Upsample.forward
PLAIN = {
    "norm": layers.PixelNorm.forward,
    "conv": layers.Conv.forward,
    "attention": autoencoder.LinearAttention.forward,
}


def install():
    """From now on every network of this process runs the fast forwards."""
    layers.PixelNorm.forward = norm_forward
    layers.Conv.forward = conv_forward
    autoencoder.LinearAttention.forward = attention_forward
    autoencoder.Downsample.forward, autoencoder.Upsample.forward = down_forward, up_forward
    autoencoder.shuffle, autoencoder.unshuffle = shuffle, unshuffle
    dit.attention, layers.RMSNorm.forward = few_tokens, rms_forward


def remove():
    """Back to the plain forwards."""
    layers.PixelNorm.forward = PLAIN["norm"]
    layers.Conv.forward = PLAIN["conv"]
    autoencoder.LinearAttention.forward = PLAIN["attention"]
    autoencoder.Downsample.forward, autoencoder.Upsample.forward = plain_down, plain_up
    autoencoder.shuffle, autoencoder.unshuffle = plain_shuffle, plain_unshuffle
    dit.attention, layers.RMSNorm.forward = plain_attention, plain_rms


def channels_last(module):
    """Convolution weights in the order that the convolutions want."""
    for p in module.parameters():
        if p.dim() == 5:
            p.data = p.data.contiguous(memory_format=LAST)
    return module
