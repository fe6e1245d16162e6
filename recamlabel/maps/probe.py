"""What the other images say about a pixel: a cross-fitted linear probe on the classifier's features.

A class map follows what is typical for a class *within its own image*: the water under every boat. Other
images know better: the same water is background where a bird stands in it. So one multinomial logistic
regression (a linear probe) is fitted to the sure pixels of all class maps, and asked about the images it
has not seen; its probabilities, restricted to each image's labels, are fused with the maps, and the fused maps
give the next fit its sure pixels. The stage then fits once more, to what the dense CRF makes of the fused
maps: labels and model in turn, as Papandreou et al. ("Weakly- and semi-supervised learning of a deep
convolutional network for semantic image segmentation", ICCV 2015) alternate them. No true mask has a part in it.

Sources: linear probes on a network's features are those of Alain and Bengio, "Understanding intermediate
layers using linear classifier probes", ICLR 2017 workshop; fitting and asking on different parts of the
data is the cross-fitting of Chernozhukov et al., "Double/debiased machine learning", The Econometrics
Journal 2018; strict and generous levels for sure pixels are those of IRNet (Ahn et al., CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.maps.config import ProbeConfig
from recamlabel.models.backbones import Backbone

# Depths below the last whose features join: texture and edges, which the last features have lost.
DEPTHS = 3
# Of one fit, on standardised features; twice the steps changed nothing.
STEPS, BATCH, RATE, DECAY = 200, 1024, 2e-3, 1e-3
UNSURE = -100
# Where the probe's own probabilities lie in `fused.h5`.
PROBE_GROUP = "probe"
# Up to so many numbers, a gigabyte, the sample is widened to float32 once instead of row by row.
WIDENED_VALUES = 1 << 28


@dataclass(frozen=True)
class PixelSample:
    """Positions of the feature grid, drawn from many images.

    Attributes:
        features: ``(N, D) float16``.
        ids: ``(N, C) int64`` class ids of the position's image, 0 where it has fewer than C.
        maps: ``(N, C) float32`` values of those classes' maps in [0, 1], 0 where there is none.
        folds: ``(N,) int64``, one number for all positions of an image.
    """

    features: Tensor
    ids: Tensor
    maps: Tensor
    folds: Tensor


@dataclass(frozen=True)
class CrossFittedProbe:
    """One linear probe a fold, each fitted to the images of the other folds.

    Attributes:
        mean, deviation: ``(D,)`` of the features.
        weights: ``(F, D, K + 1)``.
        biases: ``(F, K + 1)``.
        known: ``(F, K + 1)`` classes that the fold's probe was taught.
        offsets: ``(F, K + 1)`` taken off the logits where an image's classes share what is not background.
        background: Whether the background is a class.
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    biases: Tensor
    known: Tensor
    offsets: Tensor
    background: bool

    def to(self, device: torch.device) -> CrossFittedProbe:
        """The probe on a device."""
        names = ("mean", "deviation", "weights", "biases", "known", "offsets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def probabilities(self, features: Tensor, ids: Sequence[int], fold: int | None) -> NDArray[np.float32] | None:
        """Probability of each of an image's classes, given that nothing but them and background is there.

        Args:
            features: ``(D, h, w)`` of one image.
            ids: Its C class ids.
            fold: The image's own fold, whose probe has not seen it; None for an image outside the
                sample, which gets the mean of all probes.

        Returns:
            ``(C, h, w) float32``; None where no probe was taught all of the classes.
        """
        class_ids = torch.tensor(list(ids), device=self.weights.device)
        able = [fold_index for fold_index in range(len(self.weights)) if bool(self.known[fold_index, class_ids].all())]
        asked = [fold_index for fold_index in able if fold is None or fold_index == fold]
        if not asked:
            return None
        rows = self._standardised(features.flatten(1).T)
        tables = class_ids.expand(len(rows), -1)
        total = torch.zeros(len(rows), len(class_ids), device=class_ids.device)
        for fold_index in asked:
            logits = rows @ self.weights[fold_index] + self.biases[fold_index]
            total += restricted(logits, tables, self.background, self.offsets[fold_index])
        mean: NDArray[np.float32] = (total / len(asked)).T.reshape(-1, *features.shape[1:]).cpu().numpy()
        return mean

    def _standardised(self, rows: Tensor) -> Tensor:
        return (rows.to(self.mean) - self.mean) / self.deviation


def sure_pixels(maps: Tensor, ids: Tensor, fg_level: float, bg_level: float, background: bool) -> Tensor:
    """The class of the pixels that maps are sure about.

    Args:
        maps: ``(N, C)`` in [0, 1].
        ids: ``(N, C)`` their class ids.
        fg_level: The strongest map's class where it is above.
        bg_level: Background where all maps are below.
        background: Whether there is a background.

    Returns:
        ``(N,) int64`` class ids; -100 where the maps are unsure.

    Example:
        >>> maps, ids = torch.tensor([[0.9, 0.1], [0.5, 0.4], [0.1, 0.2]]), torch.tensor([[3, 7]]).expand(3, 2)
        >>> sure_pixels(maps, ids, 0.6, 0.3, background=True).tolist()
        [3, -100, 0]
    """
    best, slot = maps.max(dim=1)
    label = ids.gather(1, slot[:, None])[:, 0]
    unsure = torch.full_like(label, UNSURE)
    confident = torch.where(best > fg_level, label, unsure)
    return torch.where(best < bg_level, torch.full_like(label, BACKGROUND_ID), confident) if background else confident


def restricted(logits: Tensor, ids: Tensor, background: bool, offsets: Tensor) -> Tensor:
    """``p_k = (1 - p_0) softmax_k(l - o)`` over the own classes; ``p_0`` is the background's in ``softmax(l)``.

    Args:
        logits: ``(N, K + 1)``, background first.
        ids: ``(N, C)`` own class ids, 0 where there is none.
        background: False: over the classes alone.
        offsets: ``(K + 1,)``; where all are equal, p is the softmax over the background and the own classes.

    Returns:
        ``(N, C)`` probabilities of the classes; 0 where there is none.

    Example:
        >>> restricted(torch.zeros(1, 5), torch.tensor([[2, 4, 0]]), True, torch.zeros(5)).round(decimals=2).tolist()
        [[0.33000001311302185, 0.33000001311302185, 0.0]]
    """
    class_logits = logits.gather(1, ids).masked_fill(ids == BACKGROUND_ID, -torch.inf)
    base = logits[:, :1] if background else torch.full_like(logits[:, :1], -torch.inf)
    together = torch.cat([base, class_logits], dim=1).softmax(dim=1)[:, 1:].nan_to_num(0.0)
    shares = (class_logits - offsets[ids]).softmax(dim=1).nan_to_num(0.0)
    return together.sum(dim=1, keepdim=True) * shares


def class_offsets(target: Tensor, classes: int, correction: float) -> Tensor:
    """``o_k = c log n_k``: what the logits of a class owe to how many pixels it was taught.

    A classifier's logits hold the logarithm of how often its classes were met; taken off them, the large class of an
    image no longer takes the pixels of the small one (Menon et al., "Long-tail learning via logit adjustment", ICLR
    2021, equation 10). It bears on the shares of an image's classes alone, not on what is background.

    Args:
        target: ``(N,)`` class ids, negative where unsure.
        classes: With the background.
        correction: c; 0 leaves the logits as they are.

    Returns:
        ``(classes,)``; 0 for a class that was not met.

    Example:
        >>> class_offsets(torch.tensor([1, 1, 2, -100]), 4, 1.0).round(decimals=2).tolist()
        [0.0, 0.6899999976158142, 0.0, 0.0]
    """
    count = torch.bincount(target[target >= 0], minlength=classes)
    return correction * count.clamp(min=1).float().log()


def fit_probe(
    sample: PixelSample,
    classes: int,
    config: ProbeConfig,
    background: bool,
    seed: int,
    advance: Callable[[int], object] = lambda _: None,
) -> CrossFittedProbe:
    """``W, b = argmin sum CE(W phi[n] + b, sure[n])`` over the other folds; ``m <- (1 - w) m + w p``; and again.

    *phi* are standardised features, *p* is of :func:`restricted` with :func:`class_offsets` (docs/method.md, 2).
    Each iteration is fitted to the sure pixels of the maps fused with the probe of the iteration before.

    Args:
        sample: What they are fitted to; its device is where they are fitted.
        classes: K, without the background.
        config: Levels, weight, iterations.
        background: Whether there is one.
        seed: Makes the fit repeatable.
        advance: Told of every fit, ``iterations * folds`` in all.
    """
    rows = sample.features.float()
    mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0) + 1e-3
    rows = ((rows - mean) / deviation).to(sample.features.dtype)
    if rows.numel() <= WIDENED_VALUES:
        rows = rows.float()  # the same numbers; the fits draw each row some ten times
    count = int(sample.folds.max()) + 1
    fused = sample.maps
    for iteration in range(config.iterations):
        target = sure_pixels(fused, sample.ids, config.fg_level, config.bg_level, background)
        fits = []
        for fold in range(count):
            generator = torch.Generator().manual_seed((seed * 1009 + iteration) * 1009 + fold)
            fits.append(_fit(rows, target, sample.folds != fold, classes + 1, generator))
            advance(1)
        weights, biases, met = (torch.stack([fit[part] for fit in fits]) for part in range(3))
        offsets = torch.stack(
            [class_offsets(target[sample.folds != fold], classes + 1, config.prior_correction) for fold in range(count)]
        )
        fused = sample.maps.clone()
        for fold in range(count):
            held = (sample.folds == fold).nonzero()[:, 0]
            # A class the fold's probe has never met would lose its pixels to all others.
            taught = (met[fold][sample.ids[held]] | (sample.ids[held] == BACKGROUND_ID)).all(dim=1)
            held = held[taught]
            logits = rows[held].float() @ weights[fold] + biases[fold]
            probabilities = restricted(logits, sample.ids[held], background, offsets[fold])
            fused[held] = (1 - config.weight) * sample.maps[held] + config.weight * probabilities
    return CrossFittedProbe(mean, deviation, weights, biases, met, offsets, background)


def _fit(
    rows: Tensor, target: Tensor, allowed: Tensor, classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights ``(D, classes)``, biases ``(classes,)`` and the classes that were met, ``(classes,) bool``."""
    weight = torch.zeros(rows.shape[1], classes, device=rows.device, requires_grad=True)
    bias = torch.zeros(classes, device=rows.device, requires_grad=True)
    rows_taught = (allowed & (target != UNSURE)).nonzero()[:, 0]
    met = torch.zeros(classes, dtype=torch.bool, device=rows.device)
    met[target[rows_taught]] = True
    if len(rows_taught):
        optimiser = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=DECAY)
        drawn = torch.randint(len(rows_taught), (STEPS, min(BATCH, len(rows_taught))), generator=generator).to(
            rows.device
        )
        for step, places in enumerate(drawn):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - step / STEPS)
            chosen = rows_taught[places]
            loss = F.cross_entropy(rows[chosen].float() @ weight + bias, target[chosen])
            optimiser.zero_grad()
            # PyTorch leaves `backward` without types, as in training/loop.py.
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return weight.detach(), bias.detach(), met


@torch.no_grad()
def pixel_features(backbone: Backbone, images: Tensor) -> Tensor:
    """Features of several depths on the grid of the last ones.

    Args:
        backbone: The classifier's.
        images: ``(B, 3, H, W)`` normalised.

    Returns:
        ``(B, D, h, w) float32``; larger grids are averaged, smaller ones repeated.
    """
    last, pyramid = backbone.all_depths(images)
    size = (last.shape[2], last.shape[3])
    parts = [last, *(F.adaptive_avg_pool2d(part, size) for part in pyramid[-DEPTHS:])]
    return torch.cat([part.float() for part in parts], dim=1)
