"""`ddfnet` as the tests launch it: a process can be told to kill itself at a step, once, as a machine that fails would.

DDFNET_TEST_KILL=RANK/EPOCH/BATCH names the process and the step; it holds for the launcher's first attempt.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import torch


def main(argv: Sequence[str]) -> int:
    from ddfnet.cli import main as ddfnet
    from ddfnet.tasks.classification.task import Classification

    torch.set_num_threads(1)
    rank, epoch, batch = map(int, os.environ.get("DDFNET_TEST_KILL", "-1/0/0").split("/"))
    step = Classification.training_step

    def killed(self: Classification, batch_of: Any, batch_idx: int) -> Any:
        here = (self.trainer.global_rank, self.trainer.current_epoch, batch_idx)
        if here == (rank, epoch, batch) and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch_of, batch_idx)

    Classification.training_step = killed  # type: ignore[method-assign]
    return ddfnet(list(argv))


def launch(processes: int, port: int, argv: Sequence[str], *, restarts: int = 0) -> list[list[int]]:
    """What torchrun does, with forked processes, which need not import everything again: their exit codes, by attempt.

    When a process ends in failure the others are killed, and all are started again, `restarts` times at most.
    """
    attempts: list[list[int]] = []
    while True:
        children: list[int] = []
        for rank in range(processes):
            child = os.fork()
            if child == 0:
                os.environ.update(
                    RANK=str(rank),
                    LOCAL_RANK=str(rank),
                    GROUP_RANK="0",
                    WORLD_SIZE=str(processes),
                    LOCAL_WORLD_SIZE=str(processes),
                    MASTER_ADDR="127.0.0.1",
                    MASTER_PORT=str(port + len(attempts)),
                    TORCHELASTIC_RUN_ID="test",
                    TORCHELASTIC_RESTART_COUNT=str(len(attempts)),
                )
                code = 70
                try:
                    code = main(argv)
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(code)
            children.append(child)
        codes: dict[int, int] = {}
        while len(codes) < processes:
            child, status = os.wait()
            codes[child] = os.waitstatus_to_exitcode(status)
            if codes[child] != 0:
                for other in children:
                    if other not in codes:
                        os.kill(other, signal.SIGKILL)
        attempts.append([codes[child] for child in children])
        if not any(attempts[-1]) or len(attempts) > restarts:
            return attempts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
