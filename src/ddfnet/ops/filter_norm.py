"""Filter normalisation, Eq. 3: each filter is centred and scaled over its K taps."""

import torch
from torch import Tensor

EPS = 1e-10


def filter_norm(
    filters: Tensor, scale: Tensor | float = 1.0, shift: Tensor | None = None, *, dim: int, eps: float = EPS
) -> Tensor:
    """Compute `scale * (filters - mean) / (std + eps) + shift`, mean and unbiased std taken over `dim`, the taps.

    Args:
        filters: any shape with K >= 2 taps along `dim`. Half types are normalised in float32.
        scale, shift: alpha and beta of Eq. 3, broadcast against `filters`; no shift is 0.
        dim: the dimension of the taps.
        eps: added to the standard deviation, outside its root, as the authors' code does.

    Returns:
        The shape and dtype of `filters`. Where all taps of a filter are equal, up to the rounding of their mean, the std is
        taken as 0: the result is the shift and the derivative is 0, not 1 / eps.
    """
    raw = filters.to(torch.promote_types(filters.dtype, torch.float32))
    mean = raw.mean(dim, keepdim=True)
    centred = raw - mean
    # torch.std_mean is ten times slower on the CPU. The clamp keeps the root's gradient finite where all taps are equal.
    variance = centred.square().sum(dim, keepdim=True) / (raw.shape[dim] - 1)
    # The mean of K equal taps is off by K eps/2 of its size at most. An infinite std makes result and derivative 0.
    equal = variance <= (raw.shape[dim] * torch.finfo(raw.dtype).eps * mean).square()
    std = variance.clamp_min(torch.finfo(raw.dtype).tiny).sqrt().masked_fill(equal, torch.inf)
    normalised = centred * (scale / (std + eps))
    return (normalised if shift is None else normalised + shift).to(filters.dtype)
