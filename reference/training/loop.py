"""Runs one phase of training: steps until its time budget is used up, with checkpoints, a log and a guard.

A step is a function of its number alone (seeds, noise), so a run that was stopped and resumed goes the same way. On CPU
cores every core computes a part of the batch in a thread of its own with one-threaded operators, which is nearly twice
as fast on two cores as two-threaded operators are.
"""

import contextlib
import json
import math
import os
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .optim import Optimizer, rate_at

CHECKPOINT_SECONDS, LOG_SECONDS, SCORE_SECONDS = 150, 10, 240


class NotFinite(RuntimeError):
    """Three steps in a row had a gradient norm that is not finite."""


class Draw:
    """The random numbers of one worker in one step. clip(i, n) is the number of the step's i-th clip of n."""

    def __init__(self, phase_seed, step, worker, workers, device):
        self.step, self.worker, self.workers, self.first = step, worker, workers, phase_seed * 10_000_000
        self.numpy = np.random.default_rng([phase_seed, step, worker])
        self.torch = torch.Generator(device).manual_seed(int(self.numpy.integers(1 << 62)))

    def clip(self, i, n):
        return self.first + ((self.step * self.workers + self.worker) * n + i) % 10_000_000

    def uniform(self, *shape):
        return torch.rand(*shape, generator=self.torch, device=self.torch.device)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.torch, device=self.torch.device)


class Workers:
    """Threads that compute parts of a batch: one a CPU core, or a single one for a GPU."""

    def __init__(self, device, count=None):
        self.device = device
        self.count = count or (1 if device.type == "cuda" else len(os.sched_getaffinity(0)))
        self.pool = None
        if self.count > 1:
            torch.set_num_threads(1)  # threads made later take this over, and each is told again
            self.pool = ThreadPoolExecutor(self.count, initializer=lambda: torch.set_num_threads(1))

    def run(self, function, items):
        return list(self.pool.map(function, items)) if self.pool else [function(item) for item in items]


def precision(device):
    """bfloat16 where operators allow it. No cache of casts, because it would be shared by the threads."""
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def atomically(path, write):
    """A file is there whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write(path + ".part")
    os.replace(path + ".part", path)


@contextlib.contextmanager
def asked_to_stop():
    """An event that SIGTERM and SIGINT set."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {s: signal.signal(s, lambda *_: event.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


class Run:
    """A phase on its way.

    networks: name -> module to train. loss(draw, fraction) -> (scalar, {name: number}) of one worker's part of the batch,
    fraction being the used part of the budget; `rate` multiplies the optimizer's rates. score() -> {name: number}, called
    now and then with the averaged weights.
    """

    def __init__(
        self, name, seed, networks, loss, folder, workers, budget, score=None, weight_decay=0.0, clock=None, rate=1.0
    ):
        self.name, self.seed, self.networks, self.loss, self.score = name, seed, networks, loss, score
        self.folder, self.workers, self.budget, self.clock = folder, workers, budget, clock or time.monotonic
        self.rate = rate
        named = [(f"{kind}.{n}", p) for kind, m in networks.items() for n, p in m.named_parameters()]
        self.parameters = [p for _, p in named]
        self.optimizer = Optimizer(named, weight_decay)
        self.average = [p.detach().clone() for p in self.parameters]
        self.step, self.elapsed, self.skipped, self.rounds = 0, 0.0, 0, 1
        self.path = os.path.join(folder, "checkpoints", f"{name}.pt")

    @property
    def fraction(self):
        return self.elapsed / self.budget

    def resume(self):
        """Goes on from the checkpoint, if there is one."""
        if not os.path.exists(self.path):
            return False
        saved = torch.load(self.path, map_location=self.workers.device, weights_only=True)
        with torch.no_grad():
            for mine, theirs in ((self.parameters, saved["parameters"]), (self.average, saved["average"])):
                for a, b in zip(mine, theirs):
                    a.copy_(b)
        self.optimizer.load(saved["optimizer"])
        for key in ("step", "elapsed", "skipped", "rounds", "budget"):
            setattr(self, key, saved[key])
        return True

    def prolong(self, budget):
        """A warm restart with a new budget."""
        self.elapsed, self.budget, self.rounds = 0.0, budget, self.rounds + 1

    def save(self):
        state = {
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimizer": self.optimizer.state(),
            **{key: getattr(self, key) for key in ("step", "elapsed", "skipped", "rounds", "budget")},
        }
        atomically(self.path, lambda path: torch.save(state, path))
        with self.averaged():
            for kind, module in self.networks.items():
                weights = {n: p.detach().clone() for n, p in module.state_dict().items()}
                target = os.path.join(self.folder, "networks", f"{kind}.pt")
                atomically(target, lambda path, weights=weights: torch.save(weights, path))

    @contextlib.contextmanager
    def averaged(self):
        """The averaged weights in the networks for a while."""
        own = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
            yield
            torch._foreach_copy_(self.parameters, own)

    def log(self, **values):
        line = {
            "phase": self.name,
            "round": self.rounds,
            "step": self.step,
            "elapsed": round(self.elapsed, 1),
            **values,
        }
        text = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()})
        print(text, flush=True)
        with open(os.path.join(self.folder, "log.jsonl"), "a") as file:
            file.write(text + "\n")

    def gradients(self):
        """-> (loss, numbers, gradients) of the step, the mean over the workers."""
        count = self.workers.count

        def part(worker):
            draw = Draw(self.seed, self.step, worker, count, self.workers.device)
            loss, numbers = self.loss(draw, self.fraction)
            return loss.item(), numbers, torch.autograd.grad(loss, self.parameters, allow_unused=True)

        parts = self.workers.run(part, range(count))
        gradients = []
        for several in zip(*(g for _, _, g in parts)):
            there = [g for g in several if g is not None]
            gradients.append(torch.stack(there).sum(0).div_(count) if there else None)
        numbers = {key: statistics.fmean(float(n[key]) for _, n, _ in parts) for key in parts[0][1]}
        return statistics.fmean(loss for loss, _, _ in parts), numbers, gradients

    @torch.no_grad()
    def update(self, gradients):
        """Clips, steps and averages; False if the gradient norm was not finite and nothing was done."""
        there = [g for g in gradients if g is not None]
        norm = torch.stack(torch._foreach_norm(there)).norm().item()
        if not math.isfinite(norm):
            return False, norm
        torch._foreach_mul_(there, min(1.0, 1.0 / (norm + 1e-6)))
        self.optimizer.step(gradients, self.rate * rate_at(self.fraction), self.workers.run)
        forget = max(0.001, 1 / (2 + 0.05 * self.step))
        torch._foreach_lerp_(self.average, self.parameters, forget)
        return True, norm

    def train(self):
        """Steps until the budget is used up (-> True) or somebody asks to stop (-> False); both leave a checkpoint."""
        mean, bad, times = None, 0, []
        saved = logged = scored = self.clock()
        with asked_to_stop() as stop:
            while self.elapsed < self.budget and not stop.is_set():
                start = self.clock()
                loss, numbers, gradients = self.gradients()
                done, norm = self.update(gradients)
                self.step += 1
                bad = 0 if done else bad + 1
                self.skipped += not done
                if bad == 3:
                    raise NotFinite(
                        f"{self.name}: gradient norm {norm} in three steps in a row, the last is {self.step}"
                    )
                times = [*times[-30:], self.clock() - start]
                self.elapsed += min(
                    times[-1], 10 * statistics.median(times)
                )  # a process that was stopped loses no time
                mean = loss if mean is None or not done else 0.95 * mean + 0.05 * loss
                now = self.clock()
                if now - logged > LOG_SECONDS:
                    logged = now
                    rest = {
                        "norm": norm,
                        "rate": self.rate * rate_at(self.fraction),
                        "seconds_per_step": statistics.median(times),
                    }
                    self.log(loss=mean, **numbers, **rest, skipped=self.skipped)
                if self.score and now - scored > SCORE_SECONDS:
                    self.log_score()
                    scored = self.clock()
                if now - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = self.clock()
        self.save()
        if self.score and self.elapsed >= self.budget:
            self.log_score()
        return self.elapsed >= self.budget

    def log_score(self):
        with self.averaged():
            self.log(score=True, **self.score())
