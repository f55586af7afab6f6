"""`filter_frames` against sums over unfolded patches, of images and bursts, by one kernel or one a colour."""

import pytest
import torch
from tests.nn.elsewhere.plain import assert_same, draw, unfolded
from tests.ops.ddf.backends import PLAIN

from ddfnet.nn import filter_frames


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("by_colour", [False, True])
@pytest.mark.parametrize("burst", [(), (4,)])
def test_equals_its_definition(burst: tuple[int, ...], by_colour: bool, backend: str) -> None:
    frames = draw(2, *burst, 3, 6, 7)
    kernels = draw(2, *burst, 25, *([3] if by_colour else []), 6, 7, seed=1)
    patches = unfolded(frames.flatten(0, -4), 5).unflatten(0, frames.shape[:-3])
    own = "tcpq" if by_colour else "tpq"
    expected = torch.einsum(f"...{own},...ctpq->...cpq", kernels, patches)
    assert expected.shape == frames.shape
    assert_same(filter_frames(frames, kernels, backend=backend), expected, (frames, kernels))  # type: ignore[arg-type]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"frames: expected \(B, C, H, W\) or \(B, N, C, H, W\), got \(3, 6, 7\)"):
        filter_frames(torch.ones(3, 6, 7), torch.ones(1, 9, 6, 7))
    expected = (
        r"kernels: expected \(B, N, K, H, W\) or \(B, N, K, C, H, W\) for frames \(1, 2, 3, 6, 7\), got \(1, 9, 6, 7\)"
    )
    with pytest.raises(ValueError, match=expected):
        filter_frames(torch.ones(1, 2, 3, 6, 7), torch.ones(1, 9, 6, 7))
    with pytest.raises(ValueError, match=r"spatial_filter: expected \(1, 9, 6, 7\), got \(1, 9, 5, 7\)"):
        filter_frames(torch.ones(1, 3, 6, 7), torch.ones(1, 9, 5, 7))
