"""`AttentionAugmentedConv` (Bello et al., "Attention Augmented Convolutional Networks", ICCV 2019): rows of Table 5."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.nn.layer import check_positive
from ddfnet.nn.rivals.contract import DropIn


class AttentionAugmentedConv(DropIn):
    """A dense convolution that leaves some of its output channels to self-attention over all pixels of the map.

    Queries, keys and values come of one 1x1 convolution. The logit of a pixel for another is query . key plus
    query . (embedding of how many rows apart they are) plus query . (embedding of how many columns), all over the root of
    the head's width; what the heads gather by softmax goes through one more 1x1 convolution. Attention makes
    V = heads * max(1, int(value_ratio * C / heads)) channels, the last, and the k x k convolution the other C - V. Keys
    have heads * max(head_keys, int(key_ratio * C / heads)) channels. The defaults are the paper's kappa = 2 upsilon = 0.2,
    8 heads and least width of keys.

    Where the layer strides, attention sees the input as 3x3 averages at that stride. With `shrink` above 1 it sees a map
    smaller by this factor again, and what it finds is enlarged bilinearly: logits are stored for every pair of pixels, and
    large maps have many.

    Embeddings are learned for maps of `map_size`. On maps of other sizes they are interpolated linearly between the same
    ends, so that one embedding goes on to stand for the same part of the image.

    Args:
        channels, kernel_size, stride, dilation, bias: as in `DropIn`.
        heads: of the attention.
        key_ratio, value_ratio: channels of keys and values per channel of the layer ("kappa", "upsilon").
        head_keys: least channels of a head's keys.
        map_size: side, or height and width, of the maps that attention sees: the layer's output over `shrink`.
        shrink: of what attention sees.

    Shape, raises:
        As `DropIn`; ValueError too where no channels are left to the convolution. Parameters: conv k x k, qkv and project
        1x1, all without bias; relative_height (2h - 1, keys of a head) and relative_width (2w - 1, keys of a head), the
        embedding of -(h - 1) rows first, shared by the heads.

    Example:
        >>> import torch
        >>> from ddfnet.nn.rivals.attention_augmented import AttentionAugmentedConv
        >>> AttentionAugmentedConv(16, stride=2)(torch.randn(2, 16, 9, 12)).shape
        torch.Size([2, 16, 5, 6])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        heads: int = 8,
        key_ratio: float = 0.2,
        value_ratio: float = 0.1,
        head_keys: int = 20,
        map_size: int | tuple[int, int] = 14,
        shrink: int = 1,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(channels, kernel_size, stride=stride, dilation=dilation, bias=bias, **factory)
        height, width = (map_size, map_size) if isinstance(map_size, int) else map_size
        check_positive(heads=heads, head_keys=head_keys, shrink=shrink)
        for side in (height, width):
            check_positive(map_size=side)
        for name, ratio in (("key_ratio", key_ratio), ("value_ratio", value_ratio)):
            if ratio <= 0:
                raise ValueError(f"{name}: expected a number > 0, got {ratio}")
        self.heads = heads
        self.key_ratio = key_ratio
        self.value_ratio = value_ratio
        self.head_keys = head_keys
        self.map_size = map_size
        self.shrink = shrink
        self.keys = heads * max(head_keys, int(key_ratio * channels / heads))
        self.values = heads * max(1, int(value_ratio * channels / heads))
        if self.values >= channels:
            raise ValueError(
                f"heads, value_ratio: expected fewer than channels = {channels} for attention, got {self.values}"
            )
        padding = kernel_size // 2 * dilation
        geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        self.conv = nn.Conv2d(channels, channels - self.values, kernel_size, **geometry, bias=False, **factory)
        self.qkv = nn.Conv2d(channels, 2 * self.keys + self.values, 1, bias=False, **factory)
        self.project = nn.Conv2d(self.values, self.values, 1, bias=False, **factory)
        self.relative_height = nn.Parameter(torch.empty(2 * height - 1, self.keys // heads, **factory))
        self.relative_width = nn.Parameter(torch.empty(2 * width - 1, self.keys // heads, **factory))
        self.draw()

    def draw(self) -> None:
        for table in (self.relative_height, self.relative_width):
            nn.init.normal_(table, std=table.shape[1] ** -0.5)  # so that a logit has the size of its query

    def attend(self, x: Tensor) -> Tensor:
        """Apply multi-head attention of every pixel to all: (B, C, P, Q) -> (B, V, P, Q)."""
        rows, columns = x.shape[2:]
        sizes = [self.keys, self.keys, self.values]
        split = [t.unflatten(1, (self.heads, -1)) for t in self.qkv(x).split(sizes, dim=1)]
        query, key, value = (t.permute(0, 1, 3, 4, 2) for t in split)  # (B, heads, P, Q, channels of a head)
        query = query * (self.keys // self.heads) ** -0.5
        by_row = torch.einsum("bhpqd,pid->bhpqi", query, _relative(self.relative_height, rows))
        by_column = torch.einsum("bhpqd,qjd->bhpqj", query, _relative(self.relative_width, columns))
        logits = query.flatten(2, 3) @ key.flatten(2, 3).transpose(2, 3)  # (B, heads, P*Q, P*Q)
        relative = by_row.unsqueeze(5) + by_column.unsqueeze(4)
        weights = (logits + relative.flatten(4).flatten(2, 3)).softmax(3)
        gathered = weights.to(value.dtype) @ value.flatten(2, 3)
        y: Tensor = self.project(gathered.transpose(2, 3).flatten(1, 2).unflatten(2, (rows, columns)))
        return y

    def convolve(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        for factor in (self.stride, self.shrink):
            x = x if factor == 1 else F.avg_pool2d(x, 3, factor, 1, count_include_pad=False)
        attended = self.attend(x)
        if self.shrink > 1:
            attended = F.interpolate(attended, size=y.shape[2:], mode="bilinear")
        return torch.cat((y, attended.to(y.dtype)), dim=1)


def _relative(table: Tensor, side: int) -> Tensor:
    """Interpolate the embedding of how far j is from i, (side, side, D), between the ends of `table`, (2n - 1, D)."""
    half, steps = (table.shape[0] - 1) // 2, max(side - 1, 1)
    at = torch.arange(side, device=table.device)
    scaled = (at - at[:, None]) * half  # in whole numbers, which no dtype of the table rounds
    below = half + scaled.div(steps, rounding_mode="floor")
    above = (below + 1).clamp(max=2 * half)
    return torch.lerp(table[below], table[above], (scaled.remainder(steps).to(table.dtype) / steps).unsqueeze(2))
