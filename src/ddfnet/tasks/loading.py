"""Loaders of splits that fetch whole batches by themselves: `split.__getitems__(indices)`."""

from typing import Any

import torch
from torch.utils.data import DataLoader


def loader(split: Any, workers: int, **order: Any) -> DataLoader[Any]:
    """Batches of `split` as it fetches them.

    Args:
        workers: processes that fetch; 0 fetches in the training process.
        order: of `DataLoader`: its sampler and batch size, or batch sampler.
    """
    return DataLoader(
        split,
        num_workers=workers,
        collate_fn=_as_fetched,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),
        **order,
    )


def _as_fetched(batch: Any) -> Any:
    """Splits fetch whole batches: nothing is left to collate."""
    return batch
