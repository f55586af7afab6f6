"""The authors' weights: checkpoints of DDF ResNets as their training script (timm 0.4) saved them.

Parameters have the same names here, so the file's tensors are what is needed. Beside them lie the training script's
options, a pickled `argparse.Namespace`: it is read as the bag of plain values that it is, and nothing else is.
"""

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.atomic import whole_or_absent
from ddfnet.models.classification.resnet import RUN_PREFIX, create_model
from ddfnet.ops.ddf.geometry import Combine

_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")  # where the weights may be, the averaged ones first
_DEPTHS: dict[tuple[int, ...], str] = {
    (False, 2, 2, 2, 2): "resnet18",
    (False, 3, 4, 6, 3): "resnet34",
    (True, 3, 4, 6, 3): "resnet50",
    (True, 3, 4, 23, 3): "resnet101",
    (True, 3, 8, 36, 3): "resnet152",
}
_SQUEEZE_RATIOS = (0.2, 0.3, 0.4, 0.5)


def read_released(path: Path | str, *, ema: bool = True) -> dict[str, Tensor]:
    """Return the weights in a checkpoint of the authors', of timm's training script or of a run of `ddfnet train`.

    Names are the network's: the prefixes `module.` and `network.` are removed.

    Args:
        path: of the file: a state dict, or a dict that holds one as "state_dict" or "model".
        ema: take "state_dict_ema" or "model_ema" where there is one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, without weights, or holding what loading would have to run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return without_prefix(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path}: damaged, or not a .safetensors file ({error})") from None
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("WeightsUnpickler error:")[2].strip().splitlines()
        raise ValueError(
            f"{path}: not a checkpoint, or one that holds more than tensors and plain data, which is refused"
            f" ({reason[0] if reason else 'unreadable'})"
        ) from None
    except Exception as error:  # torch.load raises whatever the damage leads it to
        raise ValueError(f"{path}: damaged checkpoint ({type(error).__name__})") from None
    if isinstance(checkpoint, Mapping):
        keys = [key for key in _KEYS if isinstance(checkpoint.get(key), Mapping) and (ema or not key.endswith("ema"))]
        weights = checkpoint[keys[0]] if keys else checkpoint
        state = {name.removeprefix("module."): t for name, t in weights.items() if isinstance(t, Tensor)}
        state = without_prefix(state)
        if state:
            return state
    raise ValueError(f"{path}: expected a state_dict, got {_kind(checkpoint)}")


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights by the network's names, where those of a run of `ddfnet train` all begin with `network.`."""
    prefix = RUN_PREFIX if all(name.startswith(RUN_PREFIX) for name in state) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _kind(found: object) -> str:
    return f"a dict of {', '.join(map(str, list(found)[:5]))}" if isinstance(found, Mapping) else type(found).__name__


def load_released(path: Path | str, *, combine: Combine = "mul", ema: bool = True) -> nn.Module:
    """Return the DDF ResNet of a released checkpoint, with its weights, in eval mode.

    Depth, width, stem, squeeze ratio and the number of classes are read off the weights' shapes. How the filters are
    combined leaves no trace in them and has to be given.

    Args:
        path, ema: as in `read_released`.
        combine: "mul" for the authors' ddf_mul weights, "add" for their ddf_add ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or not the weights of a DDF ResNet.

    Example:
        >>> from ddfnet.models import load_released
        >>> model = load_released("ddf_mul_resnet50.pth")  # doctest: +SKIP
    """
    state = read_released(path, ema=ema)
    blocks = [
        1 + max((int(n.split(".")[1]) for n in state if n.startswith(f"layer{i}.")), default=-1) for i in (1, 2, 3, 4)
    ]
    depth = _DEPTHS.get(("layer1.0.conv3.weight" in state, *blocks))
    if depth is None or "fc.weight" not in state:
        raise ValueError(f"{path}: expected the weights of a DDF ResNet of depth 18 to 152, got {blocks} blocks")
    layer = "layer1.0.conv2" if "layer1.0.conv3.weight" in state else "layer1.0.conv2.0"
    squeeze, spatial = state.get(f"{layer}.channel_branch.1.weight"), state.get(f"{layer}.spatial_branch.0.weight")
    if squeeze is None and spatial is None:
        raise ValueError(f"{path}: expected the weights of a DDF ResNet, got a ResNet without DDF layers")
    layer_args: dict[str, Any] = {"combine": combine}
    if squeeze is None or spatial is None:
        layer_args["branches"] = "spatial" if squeeze is None else "channel"
    if squeeze is not None:
        squeezed, channels = squeeze.shape[:2]
        ratios = [ratio for ratio in _SQUEEZE_RATIOS if max(1, int(ratio * channels)) == squeezed]
        layer_args["squeeze_ratio"] = ratios[0] if ratios else (squeezed + 0.5) / channels
    if depth == "resnet50" and state["layer1.0.conv1.weight"].shape[0] == 128:
        depth = "wide_resnet50d" if "conv1.0.weight" in state else "wide_resnet50"
    name = f"ddf_mul_{depth}"
    model: nn.Module = create_model(
        name, num_classes=state["fc.weight"].shape[0], block_args={"layer_args": layer_args}
    )
    expected = model.state_dict()
    for key, tensor in expected.items():
        if key in state and state[key].shape != tensor.shape and state[key].numel() == tensor.numel():
            state[key] = state[key].reshape(tensor.shape)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}: not the weights of {name}: {' '.join(str(error).split())[:300]}") from None
    return model.eval()


def convert_released(path: Path | str, out: Path | str, *, ema: bool = True) -> int:
    """Write the weights of a released checkpoint as .safetensors, whole or not at all; return the number of tensors."""
    from safetensors.torch import save_file

    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: expected a name that ends in .safetensors")
    state = read_released(path, ema=ema)
    with whole_or_absent(out) as partial:
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, partial, {"format": "pt"})
    return len(state)
