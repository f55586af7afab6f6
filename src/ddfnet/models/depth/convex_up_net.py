"""`ConvexUpNet`: depth upsampled under a photograph by convex combinations of its samples, with weights for all ratios.

The network predicts weights, not values: an output pixel is a mean of the 3x3 depth samples around it, weighted by a
softmax. `ddfnet.ddf_up` takes that mean, which is DDF-Up (Fig. 5) with spatial filters alone, applied to the depth map
itself. So no output leaves the range of the samples beside it, and the photograph's texture cannot become depth.
Where samples are averages, what the output's averages miss of them is added at the end, so nothing measured is lost; that
may leave their range.

    rgb ------> encoder: levels of 1/2, 1/4, ... 1/32 of the photograph's resolution
                  |  one skip a level
    depth ----> decoder, from 1/32 up to 1/2: guided `DDFUp`, plus what the 3x3 depth samples are beside a pixel
                  |
                  v  36 logits for every 2x2 pixels: 9 each
                logits + learned bilateral term + log of the bilinear weights --softmax--> weights --ddf_up--> output

The bilateral term compares an embedding of each pixel with those of its nine samples: a joint bilateral filter (Kopf et al.,
SIGGRAPH 2007) whose range kernel is learned. Where samples are unknown, each level of the decoder first fills them from the
next coarser one, by the same kind of convex combination; a ratio of 1 and sparse maps need nothing else.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ddfnet
from ddfnet.models.depth.stored import read_network, write_network
from ddfnet.ops.correlate import correlate
from ddfnet.package_data import package_folder

WEIGHTS = package_folder("models/weights") / "convex_up_net.safetensors"
FLOOR = 0.01  # added to bilinear weights before their logarithm, so that gradients reach all nine samples
QUANTILES = (0.05, 0.95)  # the range between them is a map's scale
OVERSHOOT = 1.0  # of averages, beyond the 3x3 samples around a pixel, in parts of the map's range
SAMPLED = 4096  # values that quantiles are taken from, at least

Samples = Literal["point", "average"]


class Statistics(NamedTuple):
    """What the network takes from a whole depth map: compute it once, and pass it with every window of the map.

    Attributes:
        centre: (B, 1, 1, 1) float32, the middle of the range, in the depth's unit.
        scale: (B, 1, 1, 1) float32, above 0, the range between the 5% and the 95% quantile, in the depth's unit.
    """

    centre: Tensor
    scale: Tensor


class ConvexUpNet(nn.Module):
    """Upsample depth under a photograph by 1, 2, 4, 8, 16 or 32, or fill its holes; the module describes how.

    An output is a * depth + b where the depth is (a > 0): the network sees differences of samples in parts of the map's
    range. It is differentiable in `depth`, `rgb` and its parameters, and works under autocast, where only convolutions run
    in the half type.

    Args:
        widths: channels at 1/2, 1/4, ... of the photograph's resolution; as many levels as there are.
        encoder, decoder: 3x3 convolutions of each level.
        embedding: channels that the bilateral term compares.

    Shape:
        depth (B, 1, h, w) float, NaN where unknown, and rgb (B, 3, H, W), 0 to 1, with h = ceil(H / f) and
        w = ceil(W / f) for a power of two f -> (B, 1, H, W) float32, or float64 where the network and the depth are.

    Example:
        >>> import torch
        >>> from ddfnet.models.depth.convex_up_net import ConvexUpNet
        >>> network = ConvexUpNet()
        >>> network(torch.rand(1, 1, 8, 10), torch.rand(1, 3, 64, 77)).shape
        torch.Size([1, 1, 64, 77])
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 48, 64, 64, 64),
        *,
        encoder: Sequence[int] = (2, 2, 2, 1, 1),
        decoder: Sequence[int] = (2, 2, 2, 2, 1),
        embedding: int = 16,
    ) -> None:
        super().__init__()
        if not len(widths) == len(encoder) == len(decoder) or not widths:
            raise ValueError(
                f"widths: expected as many levels as encoder and decoder, got {len(widths)}, {len(encoder)}, {len(decoder)}"
            )
        self.widths, self.embedding = tuple(widths), embedding
        self.encoder_convolutions, self.decoder_convolutions = tuple(encoder), tuple(decoder)
        inputs = (12, *widths[:-1])  # 2x2 pixels of the photograph are one of the finest level
        self.encoder = nn.ModuleList(
            _convolutions(inputs[i], widths[i], encoder[i], stride=2 if i else 1) for i in range(len(widths))
        )
        self.decoder = nn.ModuleList(
            _convolutions(width + DEPTH_FEATURES, width, count) for width, count in zip(widths, decoder, strict=True)
        )
        self.project = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in itertools.pairwise(widths))
        self.up = nn.ModuleList(
            ddfnet.DDFUp(width, 2, guide_channels=width, guide_scale=2, branches="spatial") for width in widths[:-1]
        )
        kernels = (3, *(1 for _ in widths[1:]))
        self.fill = nn.ModuleList(
            nn.Conv2d(width, 36, kernel, padding=kernel // 2) for width, kernel in zip(widths, kernels, strict=True)
        )
        # Means of 2x2 lie in the middle of their cells, point samples of 2x2 on the first pixel.
        self.fill_start = nn.ParameterList(
            nn.Parameter(torch.stack([_log_bilinear(2, "average" if i else "point").T, _log_bilinear(2, "average").T]))
            for i in range(len(widths))
        )
        self.head = nn.Conv2d(widths[0], 36, 3, padding=1)
        self.embed = nn.Conv2d(widths[0], embedding, 1)
        self._initialise()

    def _initialise(self) -> None:
        """Apply He et al.'s initialisation; heads begin at zero, so the output begins near bilinear interpolation."""
        for module in [*self.encoder.modules(), *self.decoder.modules()]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(_bias(module))
        for module in self.project.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(_bias(module))
        for module in (self.head, *self.fill):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        nn.init.normal_(self.embed.weight, std=0.2 / math.sqrt(self.widths[0]))
        nn.init.zeros_(_bias(self.embed))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that build the same network."""
        return {
            "widths": list(self.widths),
            "encoder": list(self.encoder_convolutions),
            "decoder": list(self.decoder_convolutions),
            "embedding": self.embedding,
        }

    @property
    def stride(self) -> int:
        """Pixels of the photograph to one of the coarsest level: windows begin at its multiples."""
        return int(2 ** len(self.widths))

    @property
    def reach(self) -> int:
        """How far an output pixel sees, in pixels of the photograph; a multiple of `stride`.

        A window of a larger image needs so many pixels around the part that is kept, and begins at a multiple of `stride`;
        then it gives what the whole image gives. The exception are holes of the depth wider than 4 * `stride`.
        """
        levels = len(self.widths)
        pixels = sum(
            2**level * (self.encoder_convolutions[level - 1] + self.decoder_convolutions[level - 1] + 2)
            for level in range(1, levels + 1)
        )
        pixels += 6 * self.stride  # the depth's neighbours, the means that fill it, and the averages' adjustment
        return -(-pixels // self.stride) * self.stride

    def statistics(self, depth: Tensor, rgb: Tensor | None = None) -> Statistics:
        """Return centre and scale of each whole map (B, 1, h, w), NaN where unknown; `rgb` is ignored.

        Raises:
            ValueError: a map without a known value.
        """
        values = depth.detach().float().flatten(1)
        known = ~values.isnan()
        if not known.any(1).all():
            raise ValueError("depth: expected at least one known value in each map, got a map that is NaN everywhere")
        step = max(1, values.shape[1] // SAMPLED)
        levels = values.new_tensor(QUANTILES)
        centres, scales = [], []
        for row, there in zip(values, known, strict=True):
            found = row[there]
            low, high = found[:: min(step, -(-len(found) // SAMPLED))].quantile(levels)
            if high <= low:  # nearly all values are one
                low, high = found.min(), found.max()
            centres.append((low + high) / 2)
            scales.append(torch.where(high > low, high - low, torch.ones_like(high)))
        shape = (-1, 1, 1, 1)
        return Statistics(torch.stack(centres).view(shape), torch.stack(scales).view(shape))

    def forward(
        self,
        depth: Tensor,
        rgb: Tensor,
        *,
        samples: Samples = "point",
        known: Tensor | None = None,
        statistics: Statistics | None = None,
        spread: bool = False,
    ) -> Tensor:
        """Upsample `depth` to the photograph's resolution.

        Args:
            depth: (B, 1, h, w), in any unit; NaN where unknown.
            rgb: (B, 3, H, W), 0 to 1.
            samples: "point" where sample i is the depth of pixel i*f + (f-1)//2, "average" where it is a mean of f x f.
            known: (B, 1, h, w) bool; what is False is unknown, whatever the depth holds there.
            statistics: of the whole map, where this is a window.
            spread: also give the standard deviation of the samples that each output mixes, by their weights.

        Returns:
            (B, 1, H, W), in the unit of `depth`; with `spread` (B, 2, H, W), the second in parts of the map's scale. Known
            point samples, and known pixels at f = 1, come back as they are.

        Raises:
            TypeError: `depth` or `rgb` is not floating.
            ValueError: shapes that are not as described, another name of samples, or a map without a known value.
        """
        factor = _factor(depth, rgb, self.stride)
        if samples not in get_args(Samples):
            raise ValueError(f"samples: expected 'point' or 'average', got {samples!r}")
        if known is not None:
            if known.shape != depth.shape:
                raise ValueError(f"known: expected {tuple(depth.shape)}, got {tuple(known.shape)}")
            depth = depth.where(known, torch.nan)
        centre, scale = self.statistics(depth) if statistics is None else statistics
        height, width = rgb.shape[2:]
        rgb = _padded(rgb, self.stride)
        depth = _padded((depth.to(centre.dtype) - centre) / scale, self.stride // factor)
        if spread:  # means of squares go the same way as means
            depth = torch.cat([depth, depth.square()], 1)
        output = self._upsample(depth, rgb, factor, samples)[:, :, :height, :width]
        return torch.cat([output[:, :1] * scale + centre, output[:, 1:]], 1)

    def _upsample(self, depth: Tensor, rgb: Tensor, factor: int, samples: Samples) -> Tensor:
        """Upsample in parts of the map's range, at sizes that are multiples of `stride`."""
        skips = []
        features = F.pixel_unshuffle(rgb * 4 - 2, 2).contiguous(memory_format=torch.channels_last)
        for encoder in self.encoder:
            features = encoder(features)
            skips.append(features)
        finest = factor.bit_length() - 1  # the level of the samples
        pyramid = _pyramid(depth, len(skips) - finest)
        values = _fill_coarsest(*pyramid[-1])
        given = values
        decoded: Tensor | None = None
        for level in range(len(skips), 0, -1):
            skip = skips[level - 1]
            if level >= finest:
                measured = pyramid[level - finest][1][:, :1]
                beside = _beside(values[:, :1], measured, samples, 2 ** max(finest - level, 0))
            else:
                beside = _between(given[:, :1], samples, factor, 2**level)
            if decoded is not None:
                skip = skip + self.up[level - 1](self.project[level - 1](decoded), skip)
            beside = beside.to(skip.dtype, memory_format=torch.channels_last)
            decoded = self.decoder[level - 1](torch.cat([skip, beside], 1))
            if level - 1 >= finest:
                values = self._filled(level, decoded, values, pyramid[level - 1 - finest], samples)
                given = values
        if decoded is None or finest == 0:
            return _with_spread(given)
        output = _with_spread(self._combined(given, decoded, factor, samples))
        if samples == "point":
            return output
        values, known = (x[:, :1] for x in pyramid[0])
        return torch.cat([_adjusted(output[:, :1], values, known, factor), output[:, 1:]], 1)

    def _filled(
        self, level: int, decoded: Tensor, coarse: Tensor, finer: tuple[Tensor, Tensor], samples: Samples
    ) -> Tensor:
        """Return the next finer level's values, its unknown ones from the coarser level."""
        values, known = finer
        if known.all():
            return values
        start = self.fill_start[level - 1][int(samples == "average")]
        logits = _cells(self.fill[level - 1](decoded).to(coarse.dtype), 1) + start
        return torch.where(known, values, _convex(coarse, logits))

    def _combined(self, values: Tensor, decoded: Tensor, factor: int, samples: Samples) -> Tensor:
        """Return the output (B, 1, H, W): means of 3x3 samples, by weights for every pixel."""
        cells = factor // 2
        start = F.pixel_unshuffle(_log_bilinear(factor, samples).view(9, factor, factor), 2).to(values)
        start = start.unflatten(0, (9, 4)).permute(2, 3, 1, 0)[:, None]  # (cells, 1, cells, 4, 9)
        bilateral = _cells(self._bilateral(decoded, values, cells, samples), cells)
        logits = _cells(self.head(decoded).to(values.dtype), cells) + bilateral
        return _convex(values, logits.add_(start))

    def _bilateral(self, decoded: Tensor, values: Tensor, cells: int, samples: Samples) -> Tensor:
        """Return minus the squared distance of each pixel's embedding to its nine samples', up to a common term."""
        embedded = self.embed(decoded).to(values.dtype)
        if samples == "point":
            first = (cells * 2 - 1) // 2 // 2
            keys = embedded[:, :, first::cells, first::cells]
        else:
            keys = F.avg_pool2d(embedded, cells)
        squared = torch.cat(_neighbours(keys.square().sum(1, keepdim=True)), 1)
        logits = 2 * correlate(keys, embedded, 3, scale_factor=cells)
        return logits - squared.repeat_interleave(cells, 2).repeat_interleave(cells, 3)


DEPTH_FEATURES = 14


def pretrained() -> ConvexUpNet:
    """Return the `ConvexUpNet` whose weights ship with the package, in eval mode, in float32.

    Raises:
        FileNotFoundError: the package was installed without them.
        ValueError: the file is damaged or not one of `save`.
    """
    return load(WEIGHTS)


def load(path: Path | str) -> ConvexUpNet:
    """Return the `ConvexUpNet` of a file of `save`, in eval mode, in float32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or not one of `save`.
    """
    return read_network(path, ConvexUpNet).float()


def save(network: ConvexUpNet, path: Path | str, *, dtype: torch.dtype = torch.float16, **card: Any) -> None:
    """Write the weights as .safetensors, whole or not at all, with the constructor's options as metadata.

    Args:
        network: of any device.
        path: of the file.
        dtype: that the weights are stored in.
        card: further metadata: data, command, scores; what is not a string is written as JSON.

    Raises:
        ValueError: a name that does not end in .safetensors, or a card with "options" in it.
        TypeError: a value of the card that is not JSON.
    """
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    write_network(network, path, state, card)


def _factor(depth: Tensor, rgb: Tensor, most: int) -> int:
    """Return the least power of two that takes the depth's size to the photograph's."""
    for name, tensor, channels in (("depth", depth, 1), ("rgb", rgb, 3)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
        if tensor.dim() != 4 or tensor.shape[1] != channels or not tensor.numel():
            raise ValueError(f"{name}: expected (B, {channels}, height, width), got {tuple(tensor.shape)}")
    if len(depth) != len(rgb):
        raise ValueError(f"rgb: expected a batch of {len(depth)}, as the depth's, got {len(rgb)}")
    factor = 1
    while factor <= most:
        if all(-(-length // factor) == short for length, short in zip(rgb.shape[2:], depth.shape[2:], strict=True)):
            return factor
        factor *= 2
    raise ValueError(
        f"depth: expected the sides of rgb, {tuple(rgb.shape[2:])}, divided by a power of two up to {most} and rounded up,"
        f" got {tuple(depth.shape[2:])}"
    )


def _padded(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column up to a multiple."""
    down, right = (-length % multiple for length in x.shape[2:])
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def _pyramid(depth: Tensor, levels: int) -> list[tuple[Tensor, Tensor]]:
    """Return the depth, 0 where unknown, and what is known, at 1, 1/2, ... of its resolution: means of the known of 2x2."""
    known = ~depth.isnan()
    pyramid = [(depth.where(known, 0), known)]
    for _ in range(levels):
        values, known = pyramid[-1]
        share = F.avg_pool2d(known.to(values.dtype), 2)
        pyramid.append((F.avg_pool2d(values * known, 2) / share.clamp_min(0.25), share > 0))
    return pyramid


def _fill_coarsest(values: Tensor, known: Tensor) -> Tensor:
    """Fill unknown values from the known of the 5x5 around them; with 0, the centre of the range, if there are none."""
    if known.all():
        return values
    weight = F.avg_pool2d(known.to(values.dtype), 5, 1, 2)
    means = F.avg_pool2d(values * known, 5, 1, 2) / weight.clamp_min(0.01)
    return torch.where(known, values, means)


def _neighbours(x: Tensor) -> list[Tensor]:
    """Return the nine neighbours of every pixel, row by row; beyond the border, the border's."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]


def _compressed(x: Tensor) -> Tensor:
    """Bring slopes and edges to one scale, between -1.2 and 1.2."""
    return 1.2 * x / (0.15 + x.abs())


def _constants(like: Tensor, *planes: float | Tensor) -> list[Tensor]:
    return [torch.full_like(like, plane) if isinstance(plane, float) else plane.expand_as(like) for plane in planes]


def _beside(values: Tensor, known: Tensor, samples: Samples, coarser: int) -> Tensor:
    """Return a decoder's input about samples at its resolution or coarser ones, (B, 14, h, w)."""
    differences = _compressed(torch.cat(_neighbours(values), 1) - values)
    planes = _constants(values, known.to(values.dtype), float(samples == "average"), math.log2(coarser) / 4, 0.0, 0.0)
    return torch.cat([differences, *planes], 1)


def _between(values: Tensor, samples: Samples, factor: int, pixel: int) -> Tensor:
    """Return a decoder's input about the samples around its pixels, which lie between them; (B, 14, h, w).

    Args:
        pixel: side of the decoder's pixels, in pixels of the photograph.
    """
    cells = factor // pixel
    offsets = _offsets(factor, pixel, samples).to(values)
    weights = _outer(_taps(offsets))
    around = torch.cat(_neighbours(values), 1)
    batch, _, rows, columns = values.shape
    bilinear = torch.einsum("bthw,tij->bhiwj", around, weights)
    differences = _compressed(around[:, :, :, None, :, None] - bilinear[:, None])
    size = (batch, 1, rows * cells, columns * cells)
    plane = values.new_zeros(()).expand(size)
    down = offsets.repeat(rows).view(1, 1, -1, 1)
    right = offsets.repeat(columns).view(1, 1, 1, -1)
    planes = _constants(plane, 0.0, float(samples == "average"), math.log2(cells) / 4, down, right)
    return torch.cat([differences.reshape(batch, 9, *size[2:]), *planes], 1)


def _offsets(factor: int, pixel: int, samples: Samples) -> Tensor:
    """Return where the pixels of one cell lie beside its sample, in parts of the samples' distance; (factor / pixel,)."""
    position = torch.arange(factor // pixel) * pixel + (pixel - 1) / 2
    sample = (factor - 1) // 2 if samples == "point" else (factor - 1) / 2
    return (position - sample) / factor


def _taps(offsets: Tensor) -> Tensor:
    """Return linear interpolation's weights of the sample before, at and after, (3, N)."""
    return torch.stack([(-offsets).clamp_min(0), 1 - offsets.abs(), offsets.clamp_min(0)])


def _outer(taps: Tensor) -> Tensor:
    """Multiply (3, N) weights of rows and columns to (9, N, N)."""
    return (taps[:, None, :, None] * taps[None, :, None, :]).flatten(0, 1)


def _log_bilinear(factor: int, samples: Samples) -> Tensor:
    """Return logits of bilinear interpolation for a cell's pixels, (9, f*f); a pixel on a point sample has it alone."""
    weights = _outer(_taps(_offsets(factor, 1, samples)))
    return (weights + FLOOR * (weights[4:5] < 1)).log().flatten(1)


def _cells(x: Tensor, cells: int) -> Tensor:
    """Split (B, N*9, cells*h, cells*w) into (B, h, cells, w, cells, N, 9), without a copy if x is channels last."""
    x = x.permute(0, 2, 3, 1).unflatten(3, (-1, 9))
    rows, columns = (length // cells for length in x.shape[1:3])
    return x.unflatten(2, (columns, cells)).unflatten(1, (rows, cells))


def _convex(values: Tensor, logits: Tensor) -> Tensor:
    """Average 3x3 samples with weights from a softmax.

    Args:
        values: (B, 1, h, w).
        logits: (B, h, cells, w, cells, 4, 9), nine for each of 2x2 pixels; changed in place: those of samples beyond the
            border become minus infinity.

    Returns:
        (B, 1, f*h, f*w) with f = 2 * cells.
    """
    batch, rows, cells, columns, _, _, _ = logits.shape
    logits[:, 0, ..., :3] = -torch.inf
    logits[:, -1, ..., 6:] = -torch.inf
    logits[:, :, :, 0, ..., ::3] = -torch.inf
    logits[:, :, :, -1, ..., 2::3] = -torch.inf
    logits = logits.view(batch, rows * cells, columns * cells, 2, 2, 9).permute(0, 5, 1, 3, 2, 4)
    weights = logits.reshape(batch, 9, 2 * rows * cells, 2 * columns * cells).softmax(1)
    with torch.autocast(values.device.type, enabled=False):
        return ddfnet.ddf_up(values.contiguous(), None, weights, scale_factor=2 * cells)


def _with_spread(means: Tensor) -> Tensor:
    """Return means (B, 1, H, W) as they are; of means and means of squares (B, 2, H, W), means and deviations."""
    first, squares = means[:, :1], means[:, 1:]
    return torch.cat([first, (squares - first.square()).clamp_min(0).sqrt()], 1) if squares.shape[1] else means


def _adjusted(output: Tensor, values: Tensor, known: Tensor, factor: int) -> Tensor:
    """Correct the output to the averages it was made from: add what they miss, first smoothly, then by whole cells."""
    least, greatest = (_around(sign * values.where(known, sign * torch.inf), factor) * sign for sign in (1, -1))
    for mode in ("bilinear", "nearest"):
        missed = torch.where(known, values - F.avg_pool2d(output, factor), 0)
        output = output + F.interpolate(missed, scale_factor=float(factor), mode=mode)
    # A value far off from all others must not reach beyond its neighbours.
    within = least.isfinite() & greatest.isfinite()
    return torch.where(within, output.clamp(least - OVERSHOOT, greatest + OVERSHOOT), output)


def _around(values: Tensor, factor: int) -> Tensor:
    """Return the least of the 3x3 values around each (B, 1, h, w), at the pixels (B, 1, f*h, f*w)."""
    return F.interpolate(-F.max_pool2d(-values, 3, 1, 1), scale_factor=float(factor), mode="nearest")


def _convolutions(channels: int, out_channels: int, count: int, *, stride: int = 1) -> nn.Sequential:
    """Return 3x3 convolutions, each with a ReLU; the first has the stride."""
    layers: list[nn.Module] = []
    for number in range(count):
        first = number == 0
        layers += [
            nn.Conv2d(channels if first else out_channels, out_channels, 3, stride if first else 1, padding=1),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _bias(convolution: nn.Conv2d) -> Tensor:
    if convolution.bias is None:
        raise ValueError("bias: expected a convolution with one, got none")
    return convolution.bias
