"""`Layer`: the base of every layer here, which prints it, and the checks of options and inputs."""

import inspect
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ddfnet.ops.registry import is_wrapper, leaf


class Layer(nn.Module):
    """A module that prints its constructor's arguments: the positional ones, and options that are not their defaults."""

    def __prepare_scriptable__(self) -> None:
        raise RuntimeError(
            f"torch.jit.script can't compile {type(self).__name__}: use torch.export.export, or torch.jit.trace with an "
            "example input"
        )

    def extra_repr(self) -> str:
        parts = []
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name in ("self", "device", "dtype"):
                continue
            value = getattr(self, name)
            value = value is not None if isinstance(parameter.default, bool) and not isinstance(value, bool) else value
            if parameter.default is inspect.Parameter.empty:
                parts.append(str(value))
            elif parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD or value != parameter.default:
                parts.append(f"{name}={value!r}")
        return ", ".join(parts)


# Options


def check_positive(**options: int) -> None:
    """Raise ValueError, by the option's name, unless each is an int >= 1."""
    for name, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {value!r}")


def check_odd(**options: int) -> None:
    """Raise ValueError, by the option's name, unless each is an odd int >= 1."""
    for name, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1 or value % 2 == 0:
            raise ValueError(f"{name}: expected an odd number, got {value!r}")


def check_divides(channels: int, **options: int) -> None:
    """Raise ValueError, by the option's name, unless each divides `channels`."""
    for name, value in options.items():
        if channels % value:
            raise ValueError(f"{name}: expected a divisor of channels = {channels}, got {value}")


def check_choice(choices: Any, **options: Any) -> None:
    """Raise ValueError, by the option's name, unless each is one of a Literal's values."""
    *most, last = map(repr, get_args(choices))
    for name, value in options.items():
        if value not in get_args(choices):
            raise ValueError(f"{name}: expected {', '.join(most)} or {last}, got {value!r}")


# Inputs


@leaf
def check_channels(x: Tensor, channels: int, name: str = "x") -> None:
    """Raise an error by the argument's name: TypeError unless `x` is a tensor, ValueError unless (B, channels, H, W)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(x).__name__}")
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"{name}: expected (B, {channels}, H, W), got {tuple(x.shape)}")


@leaf
def check_dtype(x: Tensor, weight: Tensor | None, name: str = "x") -> None:
    """Raise TypeError unless `x` has the dtype of the layer's `weight` or autocast brings both to one.

    Weights that are quantised are no floats, and those that FSDP shards have another dtype while they are in use. Neither
    are compared.
    """
    if weight is None or x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type):
        return
    if weight.is_floating_point() and not is_wrapper(weight):
        raise TypeError(f"{name}: expected {weight.dtype}, the layer's dtype, or autocast, got {x.dtype}")
