"""Run one kernel call on several threads: those of PyTorch if possible, else a small pool of Python threads.

A network alternates between these kernels and PyTorch's, whose OpenMP threads spin for a while after each of its calls.
Other threads would have to share the cores with them, which costs small calls more than they take. So the kernel is
handed to the very OpenMP runtime that libtorch_cpu is linked with, through GOMP_parallel, which both GCC's libgomp and
LLVM's libomp have on Linux: about two microseconds a call.

Where that is missing (macOS, Windows, a PyTorch without OpenMP), and in a forked child, in which OpenMP's threads do
not exist and libgomp would wait for them for ever, a pool of Python threads does the same: the kernels give up the
interpreter lock. numba's thread layers are no choice: "omp" loads a second OpenMP runtime, and "workqueue" aborts
the process when two Python threads call at once.
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

_CTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # gives up the interpreter lock while it runs


class Kernel:
    """Compiled code of the signature `kernel(address)`, of which any number of threads can run the same call."""

    def __init__(self, owner: object, address: int) -> None:
        self.owner = owner  # of the code
        self.address = address
        self.function = _CTYPE(address)


def run(kernel: Kernel, call: int, threads: int) -> None:
    """Run `kernel(call)` on the calling thread and up to `threads` - 1 others; return when all are done."""
    if threads == 1:
        kernel.function(call)
    elif not _state.forked and (parallel := _gomp_parallel()) is not None:
        parallel(kernel.address, call, threads, 0)
    else:
        _state.pool.run(kernel.function, call, threads)


@cache
def _gomp_parallel() -> Any:
    """Return OpenMP's entry point in the runtime that PyTorch uses, or None."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        parallel = ctypes.CDLL(str(library)).GOMP_parallel  # looked up in all that the library is linked with
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


class _Task:
    """A call that `waiting` more threads may join."""

    def __init__(self, function: Callable[[int], None], call: int, waiting: int) -> None:
        self.function, self.call = function, call
        self.waiting = self.unfinished = waiting
        self.lock = threading.Lock()
        self.done = threading.Lock()
        self.done.acquire()

    def join(self) -> bool:
        """Help, unless all helpers have come or the caller no longer needs one."""
        with self.lock:
            if not self.waiting:
                return False
            self.waiting -= 1
        self.function(self.call)
        self._leave(1)
        return True

    def end(self) -> None:
        """Wait for the helpers at work; the caller calls this when its part is done, so that no work is left."""
        with self.lock:
            left, self.waiting = self.waiting, 0
        if left:
            self._leave(left)
        self.done.acquire()

    def _leave(self, helpers: int) -> None:
        with self.lock:
            self.unfinished -= helpers
            if not self.unfinished:
                self.done.release()


class _Pool:
    """Python threads that help with calls, from any thread; none waits for a helper that has not begun."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted = threading.Semaphore(0)
        self.tasks: deque[_Task] = deque()
        self.threads = 0

    def run(self, function: Callable[[int], None], call: int, threads: int) -> None:
        self._grow(threads - 1)
        task = _Task(function, call, threads - 1)
        for _ in range(threads - 1):
            self.tasks.append(task)
            self.wanted.release()
        function(call)
        task.end()

    def _grow(self, threads: int) -> None:
        if self.threads >= threads:
            return
        with self.lock:
            while self.threads < threads:
                threading.Thread(target=self._serve, name="ddfnet", daemon=True).start()
                self.threads += 1

    def _serve(self) -> None:
        while True:
            self.wanted.acquire()
            self.tasks.popleft().join()


class _State:
    def __init__(self, forked: bool) -> None:
        self.forked, self.pool = forked, _Pool()


_state = _State(forked=False)


def _after_fork() -> None:
    global _state
    _state = _State(forked=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
