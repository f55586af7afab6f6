"""Weights that a run begins with: those of another run, of a checkpoint or of an exported folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ddfnet.models.classification.checkpoints import read_released


def weights_of(source: Path | str) -> dict[str, Tensor]:
    """Read the weights of a network, by the network's names.

    Args:
        source: the folder of a run, whose best epoch is taken, or of `ddfnet export --hub`; or a file of weights.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged, or holds no weights.
    """
    path = Path(source)
    if path.is_dir():
        path /= "model.safetensors" if (path / "model.safetensors").is_file() else "best.ckpt"
    return read_released(path)


def start_from(network: nn.Module, source: Path | str, head: Sequence[str]) -> list[str]:
    """Give `network` the weights of another of the same kind, all but a head that scores other classes.

    Args:
        source: of `weights_of`.
        head: names of the modules that depend on the number of classes: `network` keeps its weights of other shapes.

    Returns:
        The names of the weights that were kept.

    Raises:
        FileNotFoundError, ValueError: as `weights_of`, or the weights are those of another network.
    """
    found, expected = weights_of(source), network.state_dict()
    within = tuple(f"{name}." for name in head)
    kept = [
        name
        for name, tensor in found.items()
        if name in expected and expected[name].shape != tensor.shape and name.startswith(within)
    ]
    try:
        network.load_state_dict({**found, **{name: expected[name] for name in kept}})
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise ValueError(f"start: {source}: weights of another network: {first}") from None
    return kept


def channels_of(state: Mapping[str, Any]) -> int:
    """Return the channels of the images: those of the first convolution."""
    return next((int(value.shape[1]) for value in state.values() if value.dim() == 4), 3)
