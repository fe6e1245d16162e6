"""What single places of an image say: linear heads on frozen features, taught by image labels through best places.

A classifier that averages over the whole image may go by anything in it, and one that is fine-tuned learns to. Frozen
features see a bounded neighbourhood, and a head whose answer is the mean of its *largest* values alone has to find a
class where it is: multiple-instance learning. How large the inputs have to be and how deep the features is not known
before; it is measured, by the average precision on images that a head has not seen (cross-validation), and among
settings that recognise the classes equally well the most local one is taken.

    z_k[n] = w_k . phi[n] + b_k,    logit_k = mean of the largest q h w values of z_k

with *phi* the features projected on their principal components.

Sources: pooling over the largest values is that of Durand et al., "WELDON: Weakly Supervised Learning of Deep
Convolutional Neural Networks", CVPR 2016, section 3.2; the one-standard-error rule that of Breiman et al.,
"Classification and Regression Trees", 1984, section 3.4.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.core.devices import cpu_has_bf16

# Of one fit: AdamW on projected features; twice the steps changed no average precision by more than its error.
EPOCHS, LEAST_STEPS, MOST_STEPS = 25, 200, 500
BATCH, RATE, DECAY = 16, 8e-3, 1e-2
# Components with less than this share of the first one's deviation are not blown up to it.
LEAST_SPREAD = 0.3
RESAMPLES = 100


@dataclass(frozen=True)
class Projection:
    """Features to their principal components, partly whitened.

    Attributes:
        mean, deviation: ``(D,)``.
        components: ``(D, C)``.
    """

    mean: Tensor
    deviation: Tensor
    components: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """``(D, h, w)`` to ``(C, h, w) float16``."""
        rows = (features.float().flatten(1).T - self.mean) / self.deviation  # (h w, D)
        return (rows @ self.components).T.reshape(-1, *features.shape[1:]).half()


def fit_projection(rows: Tensor, components: int, seed: int) -> Projection:
    """Principal components of features.

    Args:
        rows: ``(N, D)`` drawn from many images.
        components: At most so many.
        seed: Of the randomised decomposition.

    Example:
        >>> projection = fit_projection(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), 2, 0)
        >>> projection(torch.zeros(4, 3, 5)).shape
        torch.Size([2, 3, 5])
    """
    # scikit-learn takes a second to import, which a verb that needs no maps should not pay.
    from sklearn.decomposition import PCA

    rows = rows.float()
    mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0) + 1e-3
    scaled = ((rows - mean) / deviation).numpy()
    pca = PCA(min(components, *scaled.shape), svd_solver="randomized", random_state=seed).fit(scaled)
    spread = np.sqrt(pca.explained_variance_)
    directions = pca.components_ / np.maximum(spread, LEAST_SPREAD * spread[0] + 1e-12)[:, None]
    return Projection(mean, deviation, torch.from_numpy(directions.T.astype(np.float32)))


def pool_largest(values: Tensor, share: float) -> Tensor:
    """Mean of the largest ``share`` of the last axis, of one value at least.

    Example:
        >>> pool_largest(torch.tensor([[4.0, 1.0, 2.0, 3.0]]), 0.5).tolist()
        [3.5]
    """
    if share >= 1:
        return values.mean(dim=-1)
    count = max(1, round(share * values.shape[-1]))
    return values.topk(count, dim=-1).values.mean(dim=-1)


@dataclass(frozen=True)
class CrossFittedHeads:
    """One linear head a fold, each fitted to the images of the other folds.

    Attributes:
        weight: ``(F, K, C)``.
        bias: ``(F, K)``.
        share: q of :func:`pool_largest` that they were fitted with.
    """

    weight: Tensor
    bias: Tensor
    share: float

    def values(self, features: Tensor, classes: Sequence[int], fold: int | None) -> Tensor:
        """``z`` of the head that has not seen the image, ``(len(classes), h, w)``.

        Args:
            features: ``(C, h, w)`` of one image, projected.
            classes: Class indices 0..K-1.
            fold: The image's own; None for an image outside, which gets the mean of all heads.
        """
        folds = slice(None) if fold is None else slice(fold, fold + 1)
        weight, bias = (part[folds].mean(dim=0)[list(classes)] for part in (self.weight, self.bias))
        return (weight @ features.flatten(1).float() + bias[:, None]).reshape(-1, *features.shape[1:])

    def logits(self, features: Tensor, fold: int | None) -> NDArray[np.float32]:
        """``(K,)`` of one image; see :meth:`values`."""
        values = self.values(features, range(self.weight.shape[1]), fold).flatten(1)
        row: NDArray[np.float32] = pool_largest(values, self.share).numpy()
        return row


def cross_fit(
    images: Sequence[Tensor], labels: NDArray[np.integer], folds: NDArray[np.integer], share: float, seed: int
) -> CrossFittedHeads:
    """Heads for every fold by AdamW on the BCE over the known labels of the other folds' images, all folds at once.

    Args:
        images: N projected features ``(C, h_i, w_i)``.
        labels: ``(N, K)`` in {1, 0, -1}.
        folds: ``(N,)`` numbers 0..F-1.
        share: q of :func:`pool_largest`.
        seed: Of the order of the images.
    """
    count = int(folds.max()) + 1
    weight = torch.zeros(count, labels.shape[1], images[0].shape[0], requires_grad=True)
    bias = torch.zeros(count, labels.shape[1], requires_grad=True)
    targets, fold_of = torch.from_numpy(labels.astype(np.float32)), torch.from_numpy(folds.astype(np.int64))
    optimiser = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(seed)
    steps = min(MOST_STEPS, max(LEAST_STEPS, EPOCHS * math.ceil(len(images) / BATCH)))
    held = [image.flatten(1).to(torch.bfloat16 if cpu_has_bf16() else torch.float16) for image in images]
    order: list[int] = []
    for step in range(steps):
        if len(order) < min(BATCH, len(images)):
            order += torch.randperm(len(images), generator=generator).tolist()
        rows, order = order[:BATCH], order[BATCH:]
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        # From the mean to the share, halfway: the largest values of a head that knows nothing are anywhere.
        now = share ** min(1.0, 2 * step / steps)
        flat = weight.flatten(0, 1)  # (F K, C)
        # Image by image: copies of large grids into one batch would take ten times as long as the products.
        pooled = torch.stack([pool_largest(_product(flat, held[row]), now) for row in rows])
        logits = pooled.reshape(len(rows), count, -1) + bias  # (B, F, K)
        target = targets[rows][:, None].expand_as(logits)
        # A fold's head does not learn from the fold's own images.
        taught = (target >= 0) & (fold_of[rows][:, None] != torch.arange(count))[..., None]
        losses = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), reduction="none")
        total = (losses * taught).sum() / (len(rows) * labels.shape[1])
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return CrossFittedHeads(weight.detach(), bias.detach(), share)


def _product(weight: Tensor, features: Tensor) -> Tensor:
    """``weight (R, C)`` times ``features (C, P)``, in bf16 where those are."""
    if features.dtype == torch.bfloat16:
        return (weight.bfloat16() @ features).float()
    return weight @ features.float()


@dataclass(frozen=True)
class Precision:
    """Average precision of one class on images that were not fitted to.

    Attributes:
        value: In [0, 1]; NaN where it is not defined.
        error: Its standard error, over drawings of the images.
    """

    value: float
    error: float


def held_out_precision(labels: NDArray[np.integer], logits: NDArray[np.floating], seed: int) -> list[Precision]:
    """Average precision of every class, with its bootstrap standard error.

    Args:
        labels: ``(N, K)`` in {1, 0, -1}.
        logits: ``(N, K)``, of heads that have not seen the image.
        seed: Of the drawings.

    Example:
        >>> held_out_precision(np.array([[1], [1], [0], [0]]), np.array([[2.0], [1.0], [0.0], [-1.0]]), 0)
        [Precision(value=1.0, error=0.0)]
    """
    random = np.random.default_rng(seed)
    found = []
    for target, score in zip(labels.T, logits.T, strict=True):
        rows = np.flatnonzero(target >= 0)
        present, count = target[rows] == 1, len(rows)
        if not 0 < int(present.sum()) < count:
            found.append(Precision(math.nan, math.nan))
            continue
        drawn = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        values = weighted_precision(present, score[rows], np.concatenate([np.ones((1, count)), drawn]))
        found.append(Precision(float(values[0]), float(np.nanstd(values[1:]))))
    return found


def weighted_precision(
    present: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.number]
) -> NDArray[np.float64]:
    """Average precision of one ranking under many weightings of its rows at once.

    As scikit-learn's ``average_precision_score(present, scores, sample_weight=w)`` for each w, where no scores tie; of
    a hundred weightings it takes a hundredth of the time.

    Args:
        present: ``(N,)``.
        scores: ``(N,)``.
        weights: ``(W, N)``, >= 0.

    Returns:
        ``(W,)``; NaN where no present row has a weight.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = weights[:, order].astype(np.float64), present[order]
    above = np.cumsum(ranked * hits, axis=1)
    precision = above / np.maximum(np.cumsum(ranked, axis=1), 1e-12)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = (precision * ranked * hits).sum(axis=1) / above[:, -1]
    return result


def local_maps(values: Tensor) -> NDArray[np.float16]:
    """Maps in [0, 1] of the heads' values: what speaks for the class, ``max(z, 0) / max``.

    Where nothing speaks for it, ``(z - min) / (max - min)``: its best place all the same.

    Args:
        values: ``(C, h, w)``.

    Example:
        >>> local_maps(torch.tensor([[[-1.0, 1.0, 2.0]], [[-3.0, -2.0, -1.0]]])).tolist()
        [[[0.0, 0.5, 1.0]], [[0.0, 0.5, 1.0]]]
    """
    flat = values.flatten(1)
    least, most = flat.min(dim=1).values[:, None, None], flat.max(dim=1).values[:, None, None]
    floor = torch.where(most > 0, torch.zeros_like(least), least)
    maps = (values - floor).clamp(min=0) / (most - floor).clamp(min=1e-6)
    result: NDArray[np.float16] = maps.numpy().astype(np.float16)
    return result
