"""`replace_conv2d`: plug and play, DDF layers in the place of any network's k x k convolutions."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ddfnet.nn.ddf import DDF

Match = str | Callable[[str, Any], bool] | None  # of a name and a convolution


@dataclass(frozen=True)
class Replacement:
    """One layer that was, or with `dry_run` would be, replaced."""

    name: str
    old: nn.Conv2d
    new: nn.Module
    flops: tuple[int, int] | None  # before and after, in one forward pass of the network; None without `input_shape`

    @property
    def parameters(self) -> tuple[int, int]:
        """Before and after."""
        old, new = (sum(p.numel() for p in module.parameters()) for module in (self.old, self.new))
        return old, new


@dataclass(frozen=True)
class Refusal:
    """One convolution that could not be replaced, and why."""

    name: str
    old: _ConvNd
    reason: str


class Replacements(list[Replacement]):
    """The replacements, in the network's order; prints as a table. `refused` holds what could not be replaced."""

    def __init__(self, replaced: Sequence[Replacement] = (), refused: Sequence[Refusal] = ()) -> None:
        super().__init__(replaced)
        self.refused = list(refused)

    def __str__(self) -> str:
        rows = [("layer", "old", "new", "parameters", "FLOPs")]
        rows += [
            (r.name, _describe(r.old), _describe(r.new), _change(r.parameters), _change(r.flops) if r.flops else "")
            for r in self
        ]
        if len(self) > 1:
            totals = [sum(values) for values in zip(*(r.parameters for r in self), strict=True)]
            counted = [r.flops for r in self if r.flops]
            flops = [sum(values) for values in zip(*counted, strict=True)]
            rows.append(("total", "", "", _change(totals), _change(flops) if flops else ""))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"kept {r.name}: {r.reason}" for r in self.refused]
        return "\n".join(lines)

    __repr__ = __str__


def replace_conv2d(
    model: nn.Module,
    *,
    match: Match = None,
    layer: Callable[..., nn.Module] = DDF,
    grouped: bool = False,
    change_channels: bool = False,
    skip_first: bool = True,
    input_shape: Sequence[int] | None = None,
    dry_run: bool = False,
) -> Replacements:
    """Replaces the k x k convolutions (k > 1) of any network by DDF layers, in place.

    By default those with as many channels out as in and one group, but not the network's first convolution. Stride,
    dilation, bias, device, dtype and training mode are kept; the new layers start with random weights.

    Args:
        model: any network; it is changed unless `dry_run`.
        match: which convolutions, of those the options admit: a pattern of names ("layer3.*.conv2"; * matches dots too), a
            function of name and convolution, or None for all.
        layer: makes the new layer, called as `DDF` is: `layer(channels, kernel_size, stride=, dilation=, bias=, device=,
            dtype=)`. `functools.partial(DDF, heads=2)` passes options on. For a convolution without padding it is given
            padding="valid" too, and padding_mode= for one that does not pad with zeros.
        grouped: also convolutions with several groups, depthwise ones among them.
        change_channels: also convolutions with other channels out than in: a DDF layer, then a 1x1 convolution.
        skip_first: keeps the network's first convolution.
        input_shape: of the network's input, such as (1, 3, 224, 224), to count FLOPs with.
        dry_run: changes nothing and returns what would be done.

    Returns:
        A list of `Replacement`s that prints as a table; its `refused` lists the convolutions that can't be replaced (even,
        oblong or unequally padded kernels, a padding that `layer` has no option for, subclasses of Conv2d, shared weights,
        hooks; transposed, 1-D and 3-D ones), with the reason. A module that reads a convolution's weight in place of calling
        it can't be told from others: keep its convolution by `match`.

    Raises:
        TypeError: `model` is no module, `match` or `layer` nothing to call.
        ValueError: `input_shape` does not have four sizes, `model` is itself a convolution, or nothing at all is left to
            replace; says why.

    Example:
        >>> import torch, ddfnet
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, padding=1))
        >>> print(ddfnet.replace_conv2d(model))
        layer  old              new    parameters  FLOPs
        2      Conv2d 8->8 3x3  DDF 8  584 -> 314
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not (match is None or isinstance(match, str) or callable(match)):
        raise TypeError(f"match: expected a pattern, a function of name and convolution, or None, got {match!r}")
    if not callable(layer):
        raise TypeError(f"layer: expected a function that makes a layer, such as DDF, got {layer!r}")
    if input_shape is not None and len(input_shape) != 4:
        raise ValueError(f"input_shape: expected (B, C, H, W), got {tuple(input_shape)}")
    if isinstance(model, nn.Conv2d):
        raise ValueError("model: expected a network, got a convolution, which has no place to be replaced in")

    named = [(name, module) for name, module in model.named_modules() if isinstance(module, _ConvNd)]
    first = next((conv for _, conv in named if isinstance(conv, nn.Conv2d)), None)
    uses = Counter(_weight_id(conv) for _, conv in named)
    candidates: list[tuple[str, nn.Conv2d]] = []
    refused: list[Refusal] = []
    for name, conv in named:
        if (skip_first and conv is first) or max(conv.kernel_size) == 1 or not _matches(match, name, conv):
            continue
        if not isinstance(conv, nn.Conv2d):
            refused.append(Refusal(name, conv, f"{type(conv).__name__} is no Conv2d"))
        elif reason := _refusal(conv, layer, grouped, change_channels, uses[_weight_id(conv)]):
            refused.append(Refusal(name, conv, reason))
        else:
            candidates.append((name, conv))
    if not candidates:
        why = "; ".join(f"{r.name}: {r.reason}" for r in refused[:3]) or "no other k x k convolution matches"
        raise ValueError(f"model: found no convolution to replace ({why})")

    made = [(name, conv, _make(conv, layer)) for name, conv in candidates]
    flops = _flops(model, made, input_shape) if input_shape is not None else [None] * len(made)
    if not dry_run:
        new_by_old = {conv: new for _, conv, new in made}
        for parent in list(model.modules()):
            for child_name, child in list(parent._modules.items()):  # named_children leaves out a module's second name
                if isinstance(child, nn.Conv2d) and child in new_by_old:
                    setattr(parent, child_name, new_by_old[child])
    return Replacements(
        [Replacement(name, conv, new, count) for (name, conv, new), count in zip(made, flops, strict=True)], refused
    )


def _weight_id(conv: _ConvNd) -> int:
    """Equal for convolutions that share their weight; of parametrized ones the weight is not computed."""
    return id(conv._parameters.get("weight"))


def _matches(match: Match, name: str, conv: _ConvNd) -> bool:
    if match is None:
        return True
    return fnmatchcase(name, match) if isinstance(match, str) else bool(match(name, conv))


def _refusal(
    conv: nn.Conv2d, layer: Callable[..., nn.Module], grouped: bool, change_channels: bool, uses: int
) -> str | None:
    """Why `conv`, whose weight `uses` convolutions hold, can't be replaced under these options; None where it can."""
    (k, k_width), (stride, stride_width), (d, d_width) = conv.kernel_size, conv.stride, conv.dilation
    if type(conv) is not nn.Conv2d:
        return f"{type(conv).__name__} computes something of its own"
    if conv._forward_pre_hooks or conv._forward_hooks or conv._backward_pre_hooks or conv._backward_hooks:
        return "it has hooks, weight_norm's perhaps, which a new layer would not run"
    if uses > 1:
        return f"its weight is that of {uses} convolutions"
    if k != k_width or stride != stride_width or d != d_width:
        return f"kernel {conv.kernel_size}, stride {conv.stride} or dilation {conv.dilation} differs by direction"
    if k % 2 == 0:
        return f"the kernel size {k} is even"
    same = k // 2 * d
    if conv.padding not in ((same, same), "same", (0, 0), "valid"):
        return f"padding {conv.padding}, neither 0 nor {same}, which keeps the size"
    for option, value in _padding_options(conv).items():
        if not _takes(layer, option):
            return f"{option} {value!r}, for which {getattr(layer, '__name__', layer)} has no option"
    if conv.groups != 1 and not grouped:
        return f"{conv.groups} groups (grouped=True replaces it)"
    if conv.in_channels != conv.out_channels and not change_channels:
        return f"{conv.in_channels} channels in, {conv.out_channels} out (change_channels=True replaces it)"
    return None


def _padding_options(conv: nn.Conv2d) -> dict[str, str]:
    """Options of the new layer that differ from zeros around which keep the size."""
    if conv.padding in ((0, 0), "valid"):
        return {"padding": "valid"}
    return {} if conv.padding_mode == "zeros" else {"padding_mode": conv.padding_mode}


def _takes(layer: Callable[..., nn.Module], option: str) -> bool:
    parameters = inspect.signature(layer).parameters
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _make(conv: nn.Conv2d, layer: Callable[..., nn.Module]) -> nn.Module:
    """What stands in for `conv`: a layer, and a 1x1 convolution after it where the number of channels changes."""
    common: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    bias = conv.bias is not None
    changes = conv.in_channels != conv.out_channels
    new = layer(
        conv.in_channels,
        conv.kernel_size[0],
        stride=conv.stride[0],
        dilation=conv.dilation[0],
        bias=bias and not changes,
        **_padding_options(conv),
        **common,
    )
    if changes:
        new = nn.Sequential(new, nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=bias, **common))
    return new.train(conv.training)


def _flops(
    model: nn.Module, made: Sequence[tuple[str, nn.Conv2d, nn.Module]], input_shape: Sequence[int]
) -> list[tuple[int, int] | None]:
    """FLOPs of each layer before and after in one pass over an input of this shape, on meta tensors."""
    from torch.utils.flop_counter import FlopCounterMode

    shapes: dict[str, list[torch.Size]] = {name: [] for name, _, _ in made}
    on_meta = copy.deepcopy(model).to("meta").eval()
    for name, recorded in shapes.items():

        def record(module: nn.Module, args: tuple[Tensor, ...], recorded: list[torch.Size] = recorded) -> None:
            recorded.append(args[0].shape)

        on_meta.get_submodule(name).register_forward_pre_hook(record)
    parameter = next(model.parameters())

    def run(module: nn.Module, shape: Sequence[int]) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(torch.empty(tuple(shape), device="meta", dtype=parameter.dtype))
        return int(counter.get_total_flops())

    run(on_meta, input_shape)
    counts: list[tuple[int, int] | None] = []
    for name, old, new in made:
        layers = [copy.deepcopy(module).to("meta").eval() for module in (old, new)]
        before, after = (sum(run(module, shape) for shape in shapes[name]) for module in layers)
        counts.append((before, after))
    return counts


def _describe(module: nn.Module) -> str:
    """A layer in a few words: "Conv2d 64->64 3x3 stride 2"."""

    def parts() -> Iterator[str]:
        yield type(module).__name__
        if isinstance(module, nn.Conv2d):
            yield f"{module.in_channels}->{module.out_channels} {module.kernel_size[0]}x{module.kernel_size[1]}"
            if module.stride[0] > 1:
                yield f"stride {module.stride[0]}"
            if module.dilation[0] > 1:
                yield f"dilation {module.dilation[0]}"
            if module.groups > 1:
                yield f"groups {module.groups}"
        elif isinstance(module, DDF):
            yield str(module.channels)

    if isinstance(module, nn.Sequential):
        return " + ".join(_describe(child) for child in module)
    return " ".join(parts())


def _change(values: Sequence[int]) -> str:
    before, after = values
    return f"{before:,} -> {after:,}"
