import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import ClipLoss

from stillmotion.training.contrastive import (
    contrastive_loss,
    contrastive_loss_of_scores,
    embed_in_parts,
    shuffled_batches,
)


def info_nce(videos, texts, scale):
    """Radford et al. 2021, Fig. 3, in float64."""
    logits = scale * videos @ texts.T
    diagonal = np.arange(len(logits))

    def cross_entropy(rows):
        shifted = rows - rows.max(axis=1, keepdims=True)
        return -(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))[diagonal, diagonal].mean()

    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def unit_vectors(seed, num, dim=8):
    vectors = np.random.default_rng(seed).normal(size=(num, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("num", "scale"), [(2, 1.0), (7, 14.2857), (16, 100.0)])
def test_the_loss_is_symmetric_info_nce(num, scale):
    videos, texts = unit_vectors(0, num), unit_vectors(1, num)
    loss = contrastive_loss(torch.from_numpy(videos).float(), torch.from_numpy(texts).float(), torch.tensor(scale))
    assert loss.item() == pytest.approx(info_nce(videos, texts, scale), rel=1e-5)


@pytest.mark.parametrize(("num", "scale"), [(7, 14.2857), (64, 100.0)])
def test_loss_and_gradients_are_those_of_open_clip(num, scale):
    def graded(loss_of):
        videos, texts = (torch.from_numpy(unit_vectors(seed, num, 32)).float().requires_grad_() for seed in (0, 1))
        loss = loss_of(videos, texts, torch.tensor(scale))
        loss.backward()
        return loss, videos.grad, texts.grad

    for ours, theirs in zip(graded(contrastive_loss), graded(ClipLoss()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_pairs_that_can_not_be_told_apart_cost_the_logarithm_of_their_number():
    same = torch.tensor([[1.0, 0.0]] * 5)
    assert contrastive_loss(same, same, torch.tensor(20.0)).item() == pytest.approx(np.log(5))


def test_the_scale_is_learned():
    scale = torch.tensor(10.0, requires_grad=True)
    videos, texts = (torch.from_numpy(unit_vectors(seed, 4)).float() for seed in (0, 1))
    contrastive_loss(videos, texts, scale).backward()
    assert scale.grad is not None
    step = 1e-4
    slope = (info_nce(videos.double().numpy(), texts.double().numpy(), 10 + step)
             - info_nce(videos.double().numpy(), texts.double().numpy(), 10 - step)) / (2 * step)  # fmt: skip
    assert scale.grad.item() == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize(("num", "scale"), [(2, 1.0), (7, 14.2857), (16, 100.0)])
def test_the_loss_of_scores_is_that_of_the_vectors_they_come_from(num, scale):
    videos, texts = unit_vectors(0, num), unit_vectors(1, num)
    loss = contrastive_loss_of_scores(torch.from_numpy(texts @ videos.T), torch.tensor(scale))
    assert loss.item() == pytest.approx(info_nce(videos, texts, scale), rel=1e-6)


def test_the_loss_of_scores_is_worked_by_hand_where_they_are_not_symmetric():
    # Rows: log(e² + e) - 2 and log(1 + e) - 1; columns: log(e² + 1) - 2 and log(e + e) - 1.
    scores = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    rows = (np.log(np.e**2 + np.e) - 2 + np.log(1 + np.e) - 1) / 2
    columns = (np.log(np.e**2 + 1) - 2 + np.log(2 * np.e) - 1) / 2
    assert contrastive_loss_of_scores(scores, torch.tensor(1.0)).item() == pytest.approx((rows + columns) / 2)


@given(st.integers(1, 100), st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_holds_every_item_at_most_once_in_full_batches(num_items, batch_size, seed, epoch):
    batches = shuffled_batches(num_items, batch_size, seed=seed, epoch=epoch)
    size = min(num_items, batch_size)
    assert [len(batch) for batch in batches] == [size] * (num_items // size)
    items = torch.cat(batches).tolist()
    assert len(set(items)) == len(items)
    assert set(items) <= set(range(num_items))


def test_a_short_last_batch_is_left_out():
    batches = shuffled_batches(10, 4, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [4, 4]


def test_fewer_items_than_a_batch_are_one_batch_of_all():
    (batch,) = shuffled_batches(3, 64, seed=0, epoch=0)
    assert sorted(batch.tolist()) == [0, 1, 2]


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return torch.cat(shuffled_batches(50, 10, seed=seed, epoch=epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert order(0, 0) != list(range(50))


class Tower(torch.nn.Module):
    """Two trained layers, with a hidden vector that the backward pass needs."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = (
            torch.nn.Parameter(torch.randn(8, 8, generator=generator, dtype=torch.float64)) for _ in range(2)
        )
        self.x = torch.randn(2, 10, 8, generator=generator, dtype=torch.float64)
        self.calls = []
        self.hidden = []
        self.alive_at_call = []

    def embed(self, rows):
        self.calls.append((rows.start, rows.stop))
        self.alive_at_call.append(self.alive)
        hidden = (self.x[:, rows.start : rows.stop] @ self.first).exp()
        self.hidden.append(weakref.ref(hidden))
        videos, texts = torch.nn.functional.normalize(hidden @ self.second, dim=-1)
        return videos, texts

    @property
    def alive(self):
        return sum(hidden() is not None for hidden in self.hidden)


@pytest.mark.parametrize("part_size", [1, 3, 5, 9, 10, 64])
def test_a_batch_in_parts_has_the_embeddings_and_gradients_of_the_batch_in_one(part_size):
    whole, parts = Tower(), Tower()
    for tower, embedded in (
        (whole, whole.embed(range(10))),
        (parts, embed_in_parts(parts.embed, range(10), part_size=part_size)),
    ):
        videos, texts = embedded
        logits = 5.0 * videos @ texts.T
        torch.nn.functional.cross_entropy(logits, torch.arange(10)).backward()
        tower.videos = videos.detach()
    torch.testing.assert_close(parts.videos, whole.videos, atol=1e-14, rtol=0)
    torch.testing.assert_close(parts.first.grad, whole.first.grad, atol=1e-13, rtol=1e-12)
    torch.testing.assert_close(parts.second.grad, whole.second.grad, atol=1e-13, rtol=1e-12)


def test_no_more_than_one_part_is_held_and_the_last_one_is_not_embedded_again():
    tower = Tower()
    videos, texts = embed_in_parts(tower.embed, range(2, 9), part_size=3)
    assert tower.calls == [(2, 5), (5, 8), (8, 9)]
    assert tower.alive == 1
    (videos * texts).sum().backward()
    assert sorted(tower.calls[3:]) == [(2, 5), (5, 8)]
    assert max(tower.alive_at_call) <= 1
    assert tower.alive == 0


def test_a_batch_of_one_part_is_embedded_once():
    tower = Tower()
    videos, texts = embed_in_parts(tower.embed, range(10), part_size=10)
    (videos * texts).sum().backward()
    assert tower.calls == [(0, 10)]
