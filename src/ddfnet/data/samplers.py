"""The order in which images are fetched: a function of seed and epoch, dealt out to the processes of a run.

Step for step, the processes together fetch what one process alone with their joined batch would.
"""

import math
from collections.abc import Iterable

import torch
from timm.data.distributed_sampler import RepeatAugSampler


def training_order(
    count: int, batch_size: int, *, seed: int = 0, epoch: int = 0, rank: int = 0, world: int = 1, repeats: int = 1
) -> list[int]:
    """Return the images that process `rank` of `world` trains on in an epoch, in order: equally many whole batches for all.

    What is left over at the end is not seen in this epoch. A set smaller than one joined batch is that batch.

    Args:
        count: images in the set.
        batch_size: of each process.
        seed, epoch: of the order.
        repeats: with more than 1, repeated augmentation (timm's): each image so many times in a row, spread over the
            processes, and as many images fewer in an epoch. `index + n * count` is an image's n-th repeat.
    """
    number = seed * 1_000_003 + epoch
    if repeats > 1:
        sampler = RepeatAugSampler(range(count), world, rank, num_repeats=repeats, selected_round=0)
        sampler.set_epoch(number)
        own = [index + (rank + place * world) % repeats * count for place, index in enumerate(sampler)]
    else:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(number)).tolist()
        own = [order[place % count] for place in range(rank, count + -count % world, world)]
    joined = batch_size * world
    return own[: count // joined * batch_size] if count > joined else own


def scoring_batches(count: int, batch_size: int, *, rank: int = 0, world: int = 1) -> list[list[int]]:
    """Return the batches that process `rank` of `world` scores: every image once, and as many batches for all.

    Processes wait for each other at every batch: one with a batch more than the others would wait for ever.

    Raises:
        ValueError: fewer images than processes.
    """
    if count < world:
        raise ValueError(f"devices: expected no more processes than images to score, got {world} for {count}")
    own = range(rank, count, world)
    if world == 1:
        return [list(own[start : start + batch_size]) for start in range(0, count, batch_size)]
    batches = math.ceil(math.ceil(count / world) / batch_size)
    ends = [round(len(own) * (n + 1) / batches) for n in range(batches)]
    return [list(own[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def dealt_batches(batches: Iterable[list[int]], *, rank: int, world: int) -> list[list[int]]:
    """Return the share of process `rank` of `world` of each joined batch: every `world`-th image.

    A joined batch that does not divide is filled up from its start, so that all processes take as many images.
    """
    dealt = []
    for batch in batches:
        whole = len(batch) + -len(batch) % world
        dealt.append([batch[place % len(batch)] for place in range(rank, whole, world)])
    return dealt
