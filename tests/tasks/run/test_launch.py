"""What torchrun and srun say of a process, in their environment variables."""

import pytest

from ddfnet.cli import main
from ddfnet.tasks.run.launch import launched_processes, placed, rank, restarted

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
SLURM = {
    "SLURM_NTASKS": "6",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "3",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "0",
    "SLURM_JOB_NAME": "train",
}


def test_nothing_launched_this_process() -> None:
    assert launched_processes() is None
    assert rank() == 0
    assert not restarted()
    assert placed({"devices": "auto"}) == {"devices": "auto"}


@pytest.mark.parametrize(("variables", "number", "found"), [(TORCHRUN, 5, (4, 2)), (SLURM, 4, (2, 3))])
def test_a_launched_process(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], number: int, found: tuple[int, int]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched_processes() == found
    assert rank() == number
    a_node, nodes = found
    assert placed({"devices": "auto", "num_nodes": 1, "precision": 32}) == {
        "devices": a_node,
        "num_nodes": nodes,
        "precision": 32,
    }
    assert placed({"devices": str(a_node), "num_nodes": nodes})["devices"] == a_node
    with pytest.raises(ValueError, match=f"trainer.devices: expected {a_node}, as launched, or auto, got 1"):
        placed({"devices": 1})


def test_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert restarted()
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert restarted()


def test_launched_processes_need_a_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert main(["train"]) == 1
    assert "--run: expected a folder, since the processes that were launched share it" in capsys.readouterr().err
