"""Filter normalisation, Eq. 3: each filter is centred and scaled over its own K taps."""

import torch
from torch import Tensor

EPS = 1e-10


def filter_norm(
    filters: Tensor, scale: Tensor | float = 1.0, shift: Tensor | None = None, *, dim: int, eps: float = EPS
) -> Tensor:
    """`scale * (filters - mean) / (std + eps) + shift`, mean and unbiased std taken over `dim`, the taps.

    Args:
        filters: any shape with K >= 2 taps along `dim`. Half types are normalised in float32.
        scale, shift: alpha and beta of Eq. 3, broadcast against `filters`; no shift is 0.
        dim: the dimension of the taps.
        eps: added to the standard deviation, outside its root, as the authors' code does. It guards against division by
            zero and no more: of a filter whose taps are all equal, rounding noise is what gets normalised, and gradients
            are of the order of scale / eps. So the convolution that predicts filters must not start at zero.

    Returns:
        The shape and dtype of `filters`.
    """
    raw = filters.to(torch.promote_types(filters.dtype, torch.float32))
    centred = raw - raw.mean(dim, keepdim=True)
    # torch.std_mean is ten times slower on the CPU. The clamp keeps the root's gradient finite where all taps are equal.
    variance = centred.square().sum(dim, keepdim=True) / (raw.shape[dim] - 1)
    std = variance.clamp_min(torch.finfo(raw.dtype).tiny).sqrt()
    normalised = centred * (scale / (std + eps))
    return (normalised if shift is None else normalised + shift).to(filters.dtype)
