"""Peak memory of one call: what it holds at its worst beyond what was held before.

On CUDA: the peak of PyTorch's caching allocator. On the CPU: the peak of the running sum of allocations and frees that
PyTorch's CPU allocator reports to the profiler, from inside every operator. It counts bytes asked for, not resident
pages, so it repeats exactly; it does not see memory that others allocate (NumPy, oneDNN's scratch).
"""

import os

import torch

from ddfnet.bench.timers import Call


def peak_bytes(call: Call, device: str) -> int:
    """Return the bytes that `call` holds at its peak beyond those held before it; its result counts."""
    return _peak_on_cuda(call) if device == "cuda" else _peak_on_cpu(call)


def _peak_on_cuda(call: Call) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_on_cpu(call: Call) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to stderr each time it starts and stops
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = call()
    del result
    recorded = profile.profiler.kineto_results.events() if profile.profiler is not None else []
    held = peak = 0
    for event in sorted((e for e in recorded if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
