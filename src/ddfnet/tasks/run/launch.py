"""The launcher of this process: torchrun or SLURM say how many processes there are, and where.

Restarts by torchrun's --max-restarts are tested and supported on one node. TORCHELASTIC_RESTART_COUNT is that of each
node's agent, which does not raise it where it only sees that other nodes restart: on several nodes the processes may not
agree on the attempt. There, start the job again by `ddfnet train --resume`.
"""

import os
import socket
from typing import Any

from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]


def rank() -> int:
    """Return this process's number among those of the run: 0 where it is the only one."""
    for environment in (TorchElasticEnvironment, SLURMEnvironment):
        if environment.detect() and launched_processes() is not None:
            return int(environment().global_rank())
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def restarted() -> bool:
    """True if the launcher starts this process again after a failure: torchrun's --max-restarts, SLURM's requeueing."""
    counts = (os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    return any(count.isdecimal() and int(count) > 0 for count in counts)


def meet_anew() -> None:
    """Let the processes find each other at a new port after a restart by torchrun.

    torchrun serves one store for all attempts, in which the addresses of processes that are gone still stand: those of the
    next attempt would try to reach them (PyTorch 2.15). Does nothing otherwise.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = PrefixStore(f"ddfnet/{attempt}", TCPStore(address, port, is_master=False))
    if os.environ["RANK"] == "0":
        with socket.socket() as free:
            free.bind(("", 0))
            store.set("port", str(free.getsockname()[1]))
    os.environ["MASTER_PORT"] = store.get("port").decode()
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # the first process serves the new one


def launched_processes() -> tuple[int, int] | None:
    """Return processes per node and nodes, as torchrun or srun started them; None if neither did."""
    environment = os.environ
    if TorchElasticEnvironment.detect():
        a_node = int(environment["LOCAL_WORLD_SIZE"])
        return a_node, int(environment["WORLD_SIZE"]) // a_node
    if SLURMEnvironment.detect() and int(environment.get("SLURM_NTASKS", 1)) > 1:
        nodes = int(environment.get("SLURM_NNODES", 1))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return None


def placed(options: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer's options with the launcher's processes as its devices and nodes.

    Raises:
        ValueError: the options name other numbers.
    """
    processes = launched_processes()
    if processes is None:
        return options
    a_node, nodes = processes
    for name, default, number in (("devices", "auto", a_node), ("num_nodes", 1, nodes)):
        given = options.get(name, default)
        if given not in (default, number, str(number)):
            raise ValueError(f"trainer.{name}: expected {number}, as launched, or {default}, got {given}")
    return {**options, "devices": a_node, "num_nodes": nodes}
