"""`replace_conv2d` and `replace_upsample`: plug and play, layers of ours in the places of any network's."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ddfnet.nn.ddf import DDF
from ddfnet.nn.upsamplers.contract import Upsampler
from ddfnet.nn.upsamplers.ddf_up import DDFUp

Match = str | Callable[[str, Any], bool] | None  # of a name and a layer


@dataclass(frozen=True)
class Replacement:
    """One layer that was, or with `dry_run` would be, replaced."""

    name: str
    old: nn.Module
    new: nn.Module
    flops: tuple[int, int] | None  # before and after, in one forward pass of the network; None without `input_shape`

    @property
    def parameters(self) -> tuple[int, int]:
        """Before and after."""
        old, new = (sum(p.numel() for p in module.parameters()) for module in (self.old, self.new))
        return old, new


@dataclass(frozen=True)
class Refusal:
    """One layer that could not be replaced, and why."""

    name: str
    old: nn.Module
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
    """Replace the k x k convolutions (k > 1) of any network by DDF layers, in place.

    By default those with as many channels out as in and one group, but not the network's first convolution. Stride,
    dilation, bias, device, dtype and training mode are kept. New layers start with random weights, with one exception:
    `functools.partial(DDF, norm="none", init="depthwise")` keeps the weight and the bias of a depthwise convolution, so the
    network computes the same as before and fine-tuning begins where training ended.

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
    _check_arguments(model, match, layer, input_shape)
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
    return _replaced(model, made, refused, input_shape, dry_run)


def replace_upsample(
    model: nn.Module,
    *,
    match: Match = None,
    layer: Callable[..., nn.Module] = DDFUp,
    input_shape: Sequence[int] | None = None,
    dry_run: bool = False,
) -> Replacements:
    """Replace the upsampling layers of any network, such as a U-Net, by DDF-Up, in place.

    Those are `nn.Upsample` of a whole factor, whatever its mode, and transposed convolutions of stride s that make a map s
    times as large. Where a transposed convolution changes the number of channels, a 1x1 convolution does before the new
    layer. Device, dtype and training mode are kept; the new layers start with random weights. `DDFUp` has no bias.

    Args:
        model: any network; it is changed unless `dry_run`.
        match: which layers, as in `replace_conv2d`.
        layer: makes the new layer, called as `DDFUp` is: `layer(channels, scale_factor, device=, dtype=)`.
        input_shape: of the network's input, such as (1, 3, 224, 224): to find out how many channels an `nn.Upsample` meets,
            which it does not say, and to count FLOPs with.
        dry_run: changes nothing and returns what would be done.

    Returns:
        As `replace_conv2d`. Refused are an `nn.Upsample` to a given size, of a broken factor, or of channels that differ or
        are not known; transposed convolutions that make maps of another size or have groups, hooks or shared weights;
        and subclasses. A network that passes an `output_size` to a transposed convolution can't be told from others: keep
        that one by `match`. Calls of `F.interpolate` are no layers.

    Raises:
        TypeError, ValueError: as `replace_conv2d`.

    Example:
        >>> import torch
        >>> from ddfnet.nn import replace_upsample
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Upsample(scale_factor=2))
        >>> print(replace_upsample(model, input_shape=(1, 3, 16, 16)))
        layer  old          new        parameters  FLOPs
        1      Upsample x2  DDFUp 8x2  0 -> 1,485  0 -> 395,728
    """
    _check_arguments(model, match, layer, input_shape)
    named = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Upsample | _ConvTransposeNd)]
    if any(module is model for _, module in named):
        raise ValueError("model: expected a network, got an upsampling layer, which has no place to be replaced in")
    uses = Counter(_weight_id(conv) for _, conv in named if isinstance(conv, _ConvTransposeNd))
    named = [(name, module) for name, module in named if _matches(match, name, module)]
    shapes = {} if input_shape is None else _shapes(model, [name for name, _ in named], input_shape)
    made: list[tuple[str, nn.Module, nn.Module]] = []
    refused: list[Refusal] = []
    like = next(model.parameters(), torch.empty(()))
    for name, module in named:
        if isinstance(module, nn.Upsample):
            channels = {shape[1] for shape in shapes.get(name, [])}
            reason = _refusal_of_upsample(module, channels)
        else:
            reason = _refusal_of_transposed(module, uses[_weight_id(module)])
        if reason:
            refused.append(Refusal(name, module, reason))
        elif isinstance(module, nn.Upsample):
            new = layer(channels.pop(), _factor(module), device=like.device, dtype=like.dtype)
            made.append((name, module, new.train(module.training)))
        else:
            made.append((name, module, _make_for_transposed(module, layer)))
    if not made:
        why = (
            "; ".join(f"{r.name}: {r.reason}" for r in refused[:3])
            or "no nn.Upsample or transposed convolution matches"
        )
        raise ValueError(f"model: found no upsampling layer to replace ({why})")
    return _replaced(model, made, refused, input_shape, dry_run)


def _check_arguments(model: object, match: object, layer: object, input_shape: Sequence[int] | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not (match is None or isinstance(match, str) or callable(match)):
        raise TypeError(f"match: expected a pattern, a function of name and layer, or None, got {match!r}")
    if not callable(layer):
        raise TypeError(f"layer: expected a function that makes a layer, such as DDF, got {layer!r}")
    if input_shape is not None and len(input_shape) != 4:
        raise ValueError(f"input_shape: expected (B, C, H, W), got {tuple(input_shape)}")


def _replaced(
    model: nn.Module,
    made: Sequence[tuple[str, nn.Module, nn.Module]],
    refused: Sequence[Refusal],
    input_shape: Sequence[int] | None,
    dry_run: bool,
) -> Replacements:
    """Puts the new of each (name, old, new) into the old one's places, unless `dry_run`, and reports."""
    flops = _flops(model, made, input_shape) if input_shape is not None else [None] * len(made)
    if not dry_run:
        new_by_old = {old: new for _, old, new in made}
        for parent in list(model.modules()):
            for child_name, child in list(parent._modules.items()):  # named_children leaves out a module's second name
                if child in new_by_old:
                    setattr(parent, child_name, new_by_old[child])
    return Replacements(
        [Replacement(name, old, new, count) for (name, old, new), count in zip(made, flops, strict=True)], refused
    )


def _weight_id(conv: _ConvNd) -> int:
    """Equal for convolutions that share their weight; of parametrized ones the weight is not computed."""
    return id(conv._parameters.get("weight"))


def _matches(match: Match, name: str, module: nn.Module) -> bool:
    if match is None:
        return True
    return fnmatchcase(name, match) if isinstance(match, str) else bool(match(name, module))


def _refusal_of_any(module: nn.Module, kind: type[nn.Module], uses: int) -> str | None:
    """Why a layer that should be of `kind`, whose weight `uses` layers hold, can't be replaced, whatever it computes."""
    if type(module) is not kind:
        return f"{type(module).__name__} computes something of its own"
    if module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks:
        return "it has hooks, weight_norm's perhaps, which a new layer would not run"
    return f"its weight is that of {uses} convolutions" if uses > 1 else None


def _refusal(
    conv: nn.Conv2d, layer: Callable[..., nn.Module], grouped: bool, change_channels: bool, uses: int
) -> str | None:
    """Why `conv`, whose weight `uses` convolutions hold, can't be replaced under these options; None where it can."""
    (k, k_width), (stride, stride_width), (d, d_width) = conv.kernel_size, conv.stride, conv.dilation
    if reason := _refusal_of_any(conv, nn.Conv2d, uses):
        return reason
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


def _refusal_of_upsample(module: nn.Upsample, channels: set[int]) -> str | None:
    """Why a layer that meets maps of these `channels` can't be replaced."""
    if reason := _refusal_of_any(module, nn.Upsample, 1):
        return reason
    if module.size is not None:
        return f"it upsamples to the size {module.size}, not by a factor"
    if _factor(module) is None:
        return f"the factor {module.scale_factor} is no whole number > 1, or differs by direction"
    if len(channels) > 1:
        return f"it meets maps of {', '.join(map(str, sorted(channels)))} channels"
    return None if channels else "how many channels it meets is not known: pass an input_shape that reaches it"


def _refusal_of_transposed(conv: _ConvTransposeNd, uses: int) -> str | None:
    if not isinstance(conv, nn.ConvTranspose2d):
        return f"{type(conv).__name__} is no ConvTranspose2d"
    if reason := _refusal_of_any(conv, nn.ConvTranspose2d, uses):
        return reason
    if len(set(conv.stride)) > 1 or conv.stride[0] == 1:
        return f"stride {conv.stride} is 1 or differs by direction"
    directions: Any = zip(conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.output_padding, strict=True)
    for k, s, p, d, more in directions:
        grown = d * (k - 1) + 1 + more - 2 * p
        if grown != s:
            return f"its map is not {s} times as large: {grown - s:+d} rows or columns"
    return f"{conv.groups} groups" if conv.groups != 1 else None


def _factor(module: nn.Upsample) -> int | None:
    """The whole factor > 1 of both directions, or None."""
    scale = module.scale_factor
    factors = set(scale) if isinstance(scale, tuple) else {scale}
    (factor,) = factors if len(factors) == 1 else (None,)
    return int(factor) if factor is not None and factor > 1 and factor == int(factor) else None


def _make_for_transposed(conv: Any, layer: Callable[..., nn.Module]) -> nn.Module:
    """What stands in for a transposed convolution: a 1x1 convolution where the number of channels changes, and a layer."""
    common: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    new = layer(conv.out_channels, conv.stride[0], **common)
    if conv.in_channels != conv.out_channels:
        new = nn.Sequential(
            nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=conv.bias is not None, **common), new
        )
    return new.train(conv.training)


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
    elif isinstance(new, DDF) and new.weight is not None and conv.groups == conv.in_channels:
        with torch.no_grad():
            new.weight.copy_(conv.weight[:, 0])
            if new.bias is not None and conv.bias is not None:
                new.bias.copy_(conv.bias)
    return new.train(conv.training)


def _shapes(model: nn.Module, names: Sequence[str], input_shape: Sequence[int]) -> dict[str, list[torch.Size]]:
    """Shapes of what the layers of these names meet in one pass over an input of this shape, on meta tensors."""
    shapes: dict[str, list[torch.Size]] = {name: [] for name in names}
    on_meta = copy.deepcopy(model).to("meta").eval()
    for name, recorded in shapes.items():

        def record(module: nn.Module, args: tuple[Tensor, ...], recorded: list[torch.Size] = recorded) -> None:
            recorded.append(args[0].shape)

        on_meta.get_submodule(name).register_forward_pre_hook(record)
    _run(on_meta, input_shape, _dtype(model))
    return shapes


def _flops(
    model: nn.Module, made: Sequence[tuple[str, nn.Module, nn.Module]], input_shape: Sequence[int]
) -> list[tuple[int, int] | None]:
    """FLOPs of each layer before and after in one pass over an input of this shape, on meta tensors."""
    from torch.utils.flop_counter import FlopCounterMode

    def count(module: nn.Module, shapes: Sequence[torch.Size]) -> int:
        on_meta = copy.deepcopy(module).to("meta").eval()
        with FlopCounterMode(display=False) as counter:
            for shape in shapes:
                _run(on_meta, shape, _dtype(model))
        return int(counter.get_total_flops())

    shapes = _shapes(model, [name for name, _, _ in made], input_shape)
    return [(count(old, shapes[name]), count(new, shapes[name])) for name, old, new in made]


def _run(module: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
    with torch.no_grad():
        module(torch.empty(tuple(shape), device="meta", dtype=dtype))


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters()), torch.get_default_dtype())


def _describe(module: nn.Module) -> str:
    """A layer in a few words: "Conv2d 64->64 3x3 stride 2"."""

    def parts() -> Iterator[str]:
        yield type(module).__name__
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            yield f"{module.in_channels}->{module.out_channels} {module.kernel_size[0]}x{module.kernel_size[1]}"
            if module.stride[0] > 1:
                yield f"stride {module.stride[0]}"
            if module.dilation[0] > 1:
                yield f"dilation {module.dilation[0]}"
            if module.groups > 1:
                yield f"groups {module.groups}"
        elif isinstance(module, nn.Upsample):
            yield f"x{_factor(module)}"
        elif isinstance(module, Upsampler):
            yield f"{module.channels}x{module.scale_factor}"
        elif isinstance(module, DDF):
            yield str(module.channels)

    if isinstance(module, nn.Sequential):
        return " + ".join(_describe(child) for child in module)
    return " ".join(parts())


def _change(values: Sequence[int]) -> str:
    before, after = values
    return f"{before:,} -> {after:,}"
