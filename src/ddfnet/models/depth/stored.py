"""The files in which depth networks are kept: weights as .safetensors, and the constructor's options as metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from ddfnet.atomic import whole_or_absent

Network = TypeVar("Network", bound=nn.Module)


class HasOptions(Protocol):
    """A network whose constructor's arguments are known."""

    @property
    def options(self) -> dict[str, Any]: ...


def read_network(path: Path | str, create: type[Network]) -> Network:
    """Return the network of a file of `write_network`, in eval mode, in the constructor's dtype.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or not one of this class.
    """
    from safetensors import SafetensorError, safe_open

    path, name = Path(path), create.__name__
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            options = (file.metadata() or {}).get("options")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged, or not a .safetensors file ({error})") from None
    if options is None:
        raise ValueError(f"{path}: expected metadata with the network's options, as `save` writes, got none")
    try:
        network = create(**json.loads(options))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the options of a {name}, got {options} ({error})") from None
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: expected the weights of a {name} ({reason})") from None
    return network.eval()


def write_network(network: HasOptions, path: Path | str, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write a network's state with its options and a card, whole or not at all.

    Raises:
        ValueError: a name that does not end in .safetensors, or a card with "options" in it.
        TypeError: a value of the card that is not JSON.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a name that ends in .safetensors, got {path}")
    if "options" in card:
        raise ValueError("card: expected names other than 'options', which are the network's")
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in card.items()}
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with whole_or_absent(path) as partial:
        save_file(kept, partial, {"format": "pt", "options": json.dumps(network.options), **texts})
