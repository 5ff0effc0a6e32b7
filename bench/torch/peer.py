"""The PyTorch peer of `fsvideo bench`: the same cases, each in every way that PyTorch knows to do it, of which the fastest counts.

    python3 peer.py DEVICE THREADS        DEVICE: cpu, cuda:0

What is computed stands in ops.py; here it is timed. The first line is {"version": ..}, or {"absent": ..} with the reason why it cannot
work here. Then it reads one request a line, {"spec": {"op": .., "dtype": .., sizes}, "seconds": 1, "rotate": bytes}, and answers one
line: {"medianMs": .., "way": .., "refused": [ways that do not work here]} or {"absent": ..}.

Copies of the inputs and the last results take turns so that no cache holds them, as on our side. On a card times are of
events around each call; before each sample a gigabyte is written, so that all calls are queued while the card is busy and its L2
holds nothing of them. One sample is the mean of `QUEUED` calls there, one call on the CPU.
"""
import json
import sys
import time

try:
    import torch
except ImportError as error:
    print(json.dumps({"absent": f"no torch: {error}"}), flush=True)
    sys.exit()

import ops
from ops import OPS, Absent

QUEUED = 8
MOST_COPIES = 64


class CpuClock:
    """Milliseconds of one call."""

    @staticmethod
    def sample(call):
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)

    def settle(self):
        pass


class CudaClock:
    """Milliseconds a call of several queued ones, by events around each. What is written first keeps the card busy meanwhile."""

    def __init__(self):
        self.plug = torch.empty(2**28, dtype=torch.float32, device=ops.DEVICE)
        self.events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(QUEUED)]

    def sample(self, call):
        self.plug.zero_()
        for start, end in self.events:
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in self.events) / QUEUED

    def settle(self):
        torch.cuda.synchronize()


class Case:
    """A spec's fastest way, with copies of its arguments, kept from round to round."""

    def __init__(self, spec, rotate):
        ways = OPS[spec["op"]](spec)
        self.name, size, self.refused = self.fastest(ways)
        self.function, arguments = ways[self.name]
        copies = max(1, min(MOST_COPIES, -(-rotate // max(1, size)), room_for(size)))
        self.copies = [arguments() for _ in range(copies)]
        self.results = [None] * copies
        self.next = 0
        for _ in range(copies):
            self.call()
        CLOCK.settle()

    @staticmethod
    def fastest(ways):
        """The name of the fastest way, the bytes of its arguments and result, and which ways do not work here. Each has a call to
        warm up before it is timed."""
        tried, refusals = {}, []
        for name, (function, arguments) in ways.items():
            try:
                operands = arguments()
                result = function(*operands)
                CLOCK.settle()
                call = lambda: function(*operands)
                seconds = min(CLOCK.sample(call) for _ in range(3)) if len(ways) > 1 else 0
                tried[name] = seconds, bytes_of(operands) + bytes_of(result)
            except Exception as error:  # a backend that does not take this shape says so in many ways
                refusals.append(f"{name}: {first_line(error)}")
            operands = result = call = None
        if not tried:
            raise Absent("; ".join(refusals))
        name = min(tried, key=lambda way: tried[way][0])
        return name, tried[name][1], refusals

    def call(self):
        at = self.next % len(self.copies)
        self.next += 1
        self.results[at] = None  # its memory may be taken again, as ours is
        self.results[at] = self.function(*self.copies[at])

    def measure(self, seconds):
        times = []
        end = time.perf_counter() + seconds
        least = 5
        while time.perf_counter() < end or len(times) < least:
            times.append(CLOCK.sample(self.call))
            if times[-1] > 1000:
                least = 3
        times.sort()
        at = lambda q: times[round(q * (len(times) - 1))]
        answer = {"medianMs": at(0.5), "p10Ms": at(0.1), "p90Ms": at(0.9), "reps": len(times), "way": self.name}
        return answer | ({"refused": self.refused} if self.refused else {})


def bytes_of(tensors):
    every = tensors if isinstance(tensors, tuple) else (tensors,)
    return sum(t.numel() * t.element_size() for t in every if t is not None)


def room_for(size):
    """Copies that a quarter of the card's free memory holds."""
    if not ops.ON_CARD:
        return MOST_COPIES
    return torch.cuda.mem_get_info()[0] // 4 // max(1, size)


def first_line(error):
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


KEPT = {}


def answer(request):
    spec = request["spec"]
    key = json.dumps(spec, sort_keys=True)
    try:
        if spec["op"] not in OPS:
            raise Absent(f"PyTorch has nothing like {spec['op']}")
        if key not in KEPT:
            KEPT.clear()  # one case at a time has memory
            if ops.ON_CARD:
                torch.cuda.empty_cache()
                torch._dynamo.reset()  # it compiles a function for so many shapes only
            KEPT[key] = Case(spec, request["rotate"])
        return KEPT[key].measure(request["seconds"])
    except Absent as why:
        return {"absent": str(why)}
    except Exception as error:  # out of memory, most likely; the other cases can be measured
        KEPT.clear()
        return {"absent": first_line(error)}


if __name__ == "__main__":
    ops.use(torch.device(sys.argv[1]))
    torch.set_num_threads(int(sys.argv[2]))
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    version = f"PyTorch {torch.__version__}"
    if ops.ON_CARD:
        if not torch.cuda.is_available():
            print(json.dumps({"absent": f"{version} finds no CUDA card"}), flush=True)
            sys.exit()
        import torch._dynamo

        torch.cuda.set_device(ops.DEVICE)
        torch.backends.cudnn.benchmark = True
        version += f", cuDNN {torch.backends.cudnn.version()}"
    CLOCK = CudaClock() if ops.ON_CARD else CpuClock()
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
