"""What the forward and the backward kernel share: taps of Eq. 2's filters, and tuples of registers."""

# Triton compiles these functions from their syntax; they are not Python to a type checker.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def split(program, count):
    """Return a program's coordinate along an axis of `count`, and the number that holds the remaining axes."""
    return program % count, program // count


@triton.jit
def of_head(address, strides, b, first):
    """Return the address of channel `first` of sample `b`; `strides` is a record with fields b and c."""
    return address + b * strides.b + first * strides.c


@triton.jit
def load_channel_tap(address, channel, tile, u: tl.constexpr, v: tl.constexpr):
    """Load tap (u, v) of a tile's channel filters, (1, CHANNELS)."""
    # Each term is added to a pointer, not to an offset: the constant terms go into the load and take no register.
    place = address + tile.c * channel.c + tl.cast(u, tl.int64) * channel.u + tl.cast(v, tl.int64) * channel.v
    return tl.load(place, tile.in_head, other=0)


@triton.jit
def combined(channel_tap, spatial_tap, ADD: tl.constexpr):
    """Combine two taps as (*) of Eq. 2 does: product or sum, or the one that is not None."""
    if channel_tap is None:
        tap = spatial_tap
    elif spatial_tap is None:
        tap = channel_tap
    elif ADD:
        tap = channel_tap + spatial_tap
    else:
        tap = channel_tap * spatial_tap
    return tap


@triton.jit
def zeros(count: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, dtype: tl.constexpr):
    """Return a tuple of `count` blocks of zeros."""
    values = ()
    for _ in tl.static_range(count):
        values = values + (tl.zeros([ROWS, COLUMNS], dtype),)
    return values


@triton.jit
def replaced(values, index: tl.constexpr, value):
    """Return the tuple with `value` in the place of `values[index]`."""
    return values[:index] + (value,) + values[index + 1 :]


@triton.jit
def added(values, index: tl.constexpr, term):
    """Return the tuple with `term` added to `values[index]`."""
    return values[:index] + (values[index] + term,) + values[index + 1 :]


@triton.jit
def load_channel_taps(address, channel, tile, K: tl.constexpr):
    """Load all K * K taps of a tile's channel filters."""
    taps = ()
    for u in tl.static_range(K):
        for v in tl.static_range(K):
            taps = taps + (load_channel_tap(address, channel, tile, u, v),)
    return taps


@triton.constexpr_function
def sums_of(double):
    """Return the dtype in which sums are taken."""
    return tl.float64 if double else tl.float32
