"""Several processes together fetch what one fetches, step for step."""

import pytest

from ddfnet.data.samplers import scoring_batches, training_order


@pytest.mark.parametrize(("count", "batch", "world"), [(100, 4, 2), (103, 5, 3), (64, 8, 8), (7, 16, 2), (1, 4, 3)])
@pytest.mark.parametrize("repeats", [1, 3])
def test_steps_of_several_processes_are_those_of_one(count: int, batch: int, world: int, repeats: int) -> None:
    options = {"seed": 3, "epoch": 5, "repeats": repeats}
    shares = [training_order(count, batch, rank=rank, world=world, **options) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    joined = training_order(count, batch * world, **options)
    if count < batch * world:  # one joined batch, filled up so that all have as many
        assert {index % count for share in shares for index in share} == {index % count for index in joined}
        return
    assert len(shares[0]) * world == len(joined)
    for step in range(len(joined) // (batch * world)):
        part = {index for share in shares for index in share[step * batch : (step + 1) * batch]}
        assert part == set(joined[step * batch * world : (step + 1) * batch * world])


def test_the_order_of_an_epoch_is_its_own() -> None:
    assert training_order(50, 5, seed=1, epoch=2) == training_order(50, 5, seed=1, epoch=2)
    assert training_order(50, 5, seed=1, epoch=2) != training_order(50, 5, seed=1, epoch=3)
    assert training_order(50, 5, seed=1, epoch=2) != training_order(50, 5, seed=2, epoch=2)
    assert sorted(training_order(50, 5)) == list(range(50))


def test_repeats_of_an_image_are_told_apart() -> None:
    order = training_order(40, 8, repeats=3, world=1)
    assert len(order) == 40
    assert len(set(order)) == 40
    assert [index // 40 for index in order[:6]] == [0, 1, 2, 0, 1, 2]
    assert len({index % 40 for index in order[:3]}) == 1


@pytest.mark.parametrize(
    ("count", "batch", "world"), [(100, 8, 1), (33, 8, 2), (17, 8, 2), (35, 4, 3), (5, 8, 5), (8, 1, 2)]
)
def test_every_image_is_scored_once_in_as_many_batches(count: int, batch: int, world: int) -> None:
    shares = [scoring_batches(count, batch, rank=rank, world=world) for rank in range(world)]
    assert sorted(index for share in shares for part in share for index in part) == list(range(count))
    assert len({len(share) for share in shares}) == 1
    assert all(len(part) <= batch for share in shares for part in share)


def test_more_processes_than_images() -> None:
    with pytest.raises(ValueError, match="expected no more processes than images to score, got 4 for 3"):
        scoring_batches(3, 8, rank=0, world=4)
