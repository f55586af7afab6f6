"""A small pool of Python threads that share out the work items of one kernel call.

numba's own thread layers are no choice here: "omp" loads a second OpenMP runtime, which kills a forked child that uses
it after its parent did, and "workqueue" aborts the process when two Python threads call at once. The kernels give up
the interpreter lock and write only where their own items lie, so plain threads will do: the caller takes the first
share, pool threads the others. A forked child has none of its parent's threads and so begins with a new pool; callers
from several threads share one pool, and none waits for work that no thread has begun: it does that itself.
"""

import os
import threading
from collections import deque
from collections.abc import Callable

Share = Callable[[int], None]


class _Task:
    """Shares 1 to n-1 of one call; whoever is free takes the next."""

    def __init__(self, share: Share, shares: int) -> None:
        self.share = share
        self.waiting = deque(range(1, shares))
        self.unfinished = shares - 1
        self.lock = threading.Lock()
        self.done = threading.Lock()
        self.done.acquire()
        self.error: BaseException | None = None

    def work(self) -> None:
        """Takes shares until none waits."""
        while True:
            try:
                index = self.waiting.popleft()
            except IndexError:
                return
            try:
                self.share(index)
            except BaseException as error:
                self.error = error
            with self.lock:
                self.unfinished -= 1
                if not self.unfinished:
                    self.done.release()


class _Pool:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted = threading.Semaphore(0)
        self.tasks: deque[_Task] = deque()
        self.threads = 0

    def run(self, share: Share, shares: int) -> None:
        task = _Task(share, shares)
        self._grow(shares - 1)
        for _ in range(shares - 1):
            self.tasks.append(task)
            self.wanted.release()
        try:
            share(0)
        finally:
            task.work()
            task.done.acquire()
        if task.error is not None:
            raise task.error

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
            self.tasks.popleft().work()


_pool = _Pool()


def _renew() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def run(share: Share, shares: int) -> None:
    """Calls `share(i)` once for each i in range(shares), from several threads, and returns when all have returned."""
    if shares == 1:
        share(0)
    else:
        _pool.run(share, shares)
