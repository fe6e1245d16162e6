"""The steps on their own, for a network and data of one's own; no run folder is needed.

Maps from any PyTorch classifier (:func:`class_maps`), re-activation on top of it (:func:`train_recam`), refinement
of any maps (:func:`refine`), the background level of any scores (:func:`choose_level`), masks (:func:`to_mask`) and
how far they deserve trust (:func:`score_mask`). Each does one step of ``recamlabel fit`` with its defaults, and checks
shapes and ranges, because what is out of range gives wrong masks without a word.

Sources: Zhou et al., CVPR 2016 (CAM); Selvaraju et al., ICCV 2017 (Grad-CAM); Chen et al., CVPR 2022 (ReCAM),
equations 3 to 6; Kraehenbuehl and Koltun, NeurIPS 2011 (dense CRF); docs/method.md has all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recamlabel.core.arrays import resize_maps, to_uint8
from recamlabel.core.classes import ClassTable
from recamlabel.core.progress import track
from recamlabel.core.registry import check_choice
from recamlabel.errors import ConfigError
from recamlabel.masks.calibrate import Answers, Calibration, LevelEvidence, answers, calibrate
from recamlabel.masks.criterion import candidate_levels
from recamlabel.masks.evidence import gather_evidence
from recamlabel.masks.render import render_mask
from recamlabel.models.cam import class_activation, normalise_by_max
from recamlabel.models.combine import combine_weights
from recamlabel.models.recam import ReCamHead
from recamlabel.refine import REFINERS, resolve_method, walks
from recamlabel.refine.build import smooth
from recamlabel.refine.config import RefineConfig

Method = Literal["cam", "gradcam"]
Maps = NDArray[np.float32]
Ask = Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.floating[Any]]]
"""``B images (h, w, 3) uint8 -> (B, K) probabilities in [0, 1]``, one for each class on its own (a sigmoid)."""


@contextmanager
def _features_of(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """What a layer answers during a pass, ``(B, D, h, w)``."""
    modules = dict(model.named_modules())
    if layer not in modules:
        near = ", ".join(name for name in modules if name)[-300:]
        raise ConfigError(f"layer={layer!r}: the model has no module of that name; it has … {near}")
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: Any, answer: Any) -> None:
        if not isinstance(answer, Tensor) or answer.ndim != 4:
            shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise ConfigError(f"layer={layer!r} answers with {shape}; expected features (B, D, h, w)")
        seen.append(answer)

    handle = modules[layer].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _features(model: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features ``(B, D, h, w)`` of a layer and the model's logits ``(B, K)``."""
    with _features_of(model, layer) as seen:
        logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ConfigError("the model's answer is no tensor (B, K) of logits; wrap it so that it is")
    return seen[-1].float(), logits


def _check_images(images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ConfigError(
            "images: expected (B, 3, H, W) floating point, normalised as the model wants it, "
            f"got {tuple(images.shape)}, {images.dtype}"
        )
    if labels.ndim != 2 or len(labels) != len(images):
        raise ConfigError(f"labels: expected ({len(images)}, K), got {tuple(labels.shape)}")


def class_maps(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    layer: str,
    weight: Tensor | None = None,
    method: Method = "cam",
) -> Tensor:
    """Class maps of a PyTorch classifier of one's own.

    Args:
        model: Gives logits ``(B, K)``; used as it is (put it in ``eval()`` mode and on its device yourself).
        images: ``(B, 3, H, W)``, normalised as the model wants it.
        labels: ``(B, K)``, above 0 where a class is present; the maps of all others are 0.
        layer: Name of the module (``model.named_modules()``) that gives the features ``(B, D, h, w)``, such as
            ``"layer4"`` of a torchvision ResNet.
        weight: ``(K, D)`` of the linear classifier behind a global average pooling, such as ``model.fc.weight``, or
            what :func:`train_recam` gives; for ``"cam"``.
        method: ``"cam"``: ``relu(weight . features)`` (Zhou et al.); ``"gradcam"``: any head, the weight is the mean
            gradient of the class's logit (Selvaraju et al.).

    Returns:
        ``(B, K, h, w) float32`` in [0, 1], each class divided by its peak in the image; no gradient.

    Raises:
        ConfigError: A layer that is not there, images or labels of another shape, ``"cam"`` without a weight.
        RecamlabelError: Features and weight that do not go together, or are not finite.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> maps = class_maps(model, torch.rand(1, 3, 9, 9), torch.tensor([[1, 0]]), layer="0", weight=model[3].weight)
        >>> maps.shape, float(maps[0, 1].max())
        (torch.Size([1, 2, 4, 4]), 0.0)
    """
    _check_images(images, labels)
    check_choice("method", method, get_args(Method))
    if method == "gradcam":
        raw = _gradcam(model, images, labels, layer)
    else:
        if weight is None:
            raise ConfigError("weight: 'cam' needs the classifier's weight (K, D), such as model.fc.weight")
        with torch.no_grad():
            raw = class_activation(_features(model, layer, images)[0], weight.detach().float())
    if raw.shape[1] != labels.shape[1]:
        raise ConfigError(f"labels name {labels.shape[1]} classes, the model has {raw.shape[1]}")
    return normalise_by_max(raw.detach()) * (labels > 0).to(raw)[:, :, None, None]


def _gradcam(model: nn.Module, images: Tensor, labels: Tensor, layer: str) -> Tensor:
    """``relu(sum_d sum_n(dz_k / df_dn) f_d)``: the labels' classes (Grad-CAM, equations 1 and 2, times the pixels)."""
    with torch.enable_grad():
        features, logits = _features(model, layer, images.detach().requires_grad_())
        maps = features.new_zeros((*logits.shape, *features.shape[2:]))
        for index in torch.nonzero((labels > 0).any(dim=0)).flatten().tolist():
            gradient = torch.autograd.grad(logits[:, index].sum(), features, retain_graph=True)[0]
            maps[:, index] = (gradient.sum(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu().detach()
    return maps


def train_recam(
    model: nn.Module,
    batches: Callable[[], Sequence[tuple[Tensor, Tensor]]] | Sequence[tuple[Tensor, Tensor]],
    *,
    layer: str,
    weight: Tensor,
    epochs: int = 4,
    lr: float = 0.02,
    rule: str = "product",
) -> Tensor:
    """Train the softmax head of ReCAM on a frozen classifier; its answer makes the re-activated maps.

    The head classifies the features under each label's class map with a softmax cross-entropy, in which the classes of
    an image compete (ReCAM, section 3.2). The model itself is not changed.

    Args:
        model: As for :func:`class_maps`, in ``eval()`` mode.
        batches: ``(images, labels)`` as for :func:`class_maps`; a list, or a function that gives one epoch's.
        layer: Name of the module with the features.
        weight: ``(K, D)`` of the linear classifier.
        epochs: Passes over the batches.
        lr: Learning rate of the head.
        rule: How both weights make that of the maps, see :func:`recamlabel.models.combine.combine_weights`.

    Returns:
        ``(K, D)``, for ``weight=`` of :func:`class_maps`.

    Raises:
        ConfigError, RecamlabelError: As :func:`class_maps`, or no batch at all.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> batch = torch.rand(2, 3, 9, 9), torch.eye(2)
        >>> train_recam(model, [batch], layer="0", weight=model[3].weight, epochs=1).shape
        torch.Size([2, 4])
    """
    fc1 = weight.detach().float()
    head = ReCamHead(*fc1.shape).to(fc1.device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=1e-4)
    seen = 0
    for _ in range(epochs):
        for images, labels in batches() if callable(batches) else batches:
            _check_images(images, labels)
            with torch.no_grad():
                features = _features(model, layer, images)[0]
            loss, _accuracy = head(features, fc1, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen += 1
    if not seen:
        raise ConfigError("batches: none; expected (images, labels) at least once")
    return combine_weights(fc1, head.weight.detach(), rule)


def refine(
    image: NDArray[np.uint8],
    maps: NDArray[np.floating[Any]],
    *,
    method: str = "crf",
    settings: RefineConfig | None = None,
) -> Maps:
    """Refined scores of one image from class maps of one's own.

    Args:
        image: ``(H, W, 3) uint8`` RGB.
        maps: ``(C, h, w)`` in [0, 1], of the C classes that are in the image; resized to the image.
        method: ``"crf"``, ``"none"``, or a plug-in's; the random walk needs a trained network of a run.
        settings: Levels, CRF, smoothing; None: the defaults.

    Returns:
        ``(C, H, W) float32`` in [0, 1]: per class the highest background level at which it still holds the pixel.

    Raises:
        ConfigError: An unknown method, or maps out of [0, 1] (such as those of 0 to 255).
        RecamlabelError: Shapes that do not go together.

    Example:
        >>> image = np.zeros((4, 4, 3), np.uint8)
        >>> refine(image, np.ones((1, 2, 2)) * 0.5).shape
        (1, 4, 4)
    """
    _check_image(image)
    soft = _checked(maps, "maps")
    chosen = resolve_method(method)
    if walks(chosen):
        raise ConfigError(f"method={method!r} needs the affinity net of a run; here 'crf' or 'none'")
    config = settings or RefineConfig()
    run = REFINERS.find(chosen).run
    resized = resize_maps(soft, *image.shape[:2])
    if run is None or not len(soft):
        return resized
    return smooth(run(np.ascontiguousarray(image), resized, config, True), config.smooth * max(image.shape[:2]))


def choose_level(
    images: Sequence[NDArray[np.uint8]],
    scores: Sequence[NDArray[np.floating[Any]]],
    class_ids: Sequence[Sequence[int]],
    ask: Ask,
    *,
    levels: Sequence[float] | None = None,
    seed: int = 0,
) -> Calibration:
    """The background level of scores of one's own: where regions correlate best with what a classifier goes by.

    Args:
        images: N images ``(h, w, 3) uint8``; some tens are enough.
        scores: For each ``(C, h', w')`` in [0, 1], of the image's C labels.
        class_ids: For each the C class ids, 1..K.
        ask: The classifier: probabilities ``(B, K)`` of images in which parts are blurred.
        levels: Candidates in (0, 1), ascending; None: 0.10, 0.15, … 0.90.
        seed: Of the drawings.

    Returns:
        ``level.threshold``, its ``interval``, the ``curve`` of the criterion, and in ``origin`` how it was chosen:
        where the classifier's answers tell nothing, it is the default, and that says so.

    Raises:
        ConfigError: Counts that differ, scores out of [0, 1], answers of another shape.

    Example:
        >>> sure = lambda pictures: np.ones((len(pictures), 1))
        >>> level = choose_level([np.zeros((8, 8, 3), np.uint8)], [np.ones((1, 8, 8))], [[1]], sure)
        >>> level.threshold  # the blurred image says the same: nothing is known
        0.5
    """
    if not len(images) == len(scores) == len(class_ids):
        raise ConfigError(
            f"{len(images)} images, {len(scores)} scores, {len(class_ids)} lists of ids: expected as many each"
        )
    tried = tuple(levels) if levels is not None else candidate_levels([], False)
    rows: list[Answers] = []
    with track("level", len(images)) as advance:
        for image, given, ids in zip(images, scores, class_ids, strict=True):
            _check_image(image)
            soft = _checked(given, "scores")
            if len(soft) != len(ids):
                raise ConfigError(f"scores of {len(soft)} classes, but {len(ids)} class ids")
            own = partial(_asked, ask, ids=ids)
            rows += answers(image, resize_maps(soft, *image.shape[:2]), tried, own)
            advance()
    return calibrate(LevelEvidence.of(tried, rows), seed)


def _asked(ask: Ask, pictures: Sequence[NDArray[np.uint8]], *, ids: Sequence[int]) -> NDArray[np.float64]:
    """Probabilities ``(B, C)`` of the classes with these ids."""
    found = np.asarray(ask(pictures), dtype=np.float64)
    if found.ndim != 2 or len(found) != len(pictures) or found.shape[1] < max(ids, default=0):
        raise ConfigError(f"ask: expected probabilities ({len(pictures)}, K) with K >= {max(ids)}, got {found.shape}")
    _in_range(found, "ask")
    chosen: NDArray[np.float64] = found[:, np.array(ids, dtype=np.int64) - 1]
    return chosen


def to_mask(
    scores: NDArray[np.floating[Any]], class_ids: Sequence[int], shape: tuple[int, int], threshold: float
) -> NDArray[np.unsignedinteger[Any]]:
    """The mask at a background level: the strongest class where it is above it, else background.

    Args:
        scores: ``(C, h, w)`` in [0, 1].
        class_ids: The C class ids, 1..K.
        shape: Height and width of the mask.
        threshold: Background level in [0, 1].

    Returns:
        ``(H, W) uint8``, or ``uint16`` for ids above 254: 0 background, else a class id.

    Raises:
        ConfigError: Scores or a level out of [0, 1], or another number of ids.

    Example:
        >>> to_mask(np.array([[[0.2, 0.9]]]), [3], (1, 2), 0.5).tolist()
        [[0, 3]]
    """
    soft = _checked(scores, "scores")
    if len(soft) != len(class_ids) or not 0 <= threshold <= 1:
        raise ConfigError(f"expected {len(soft)} class ids and a level in [0, 1], got {len(class_ids)} and {threshold}")
    table = ClassTable(tuple(str(number) for number in range(1, max(class_ids, default=1) + 1)))
    stored = to_uint8(soft)
    mask = render_mask(stored, list(class_ids), shape, threshold, table)
    return mask.astype(np.uint8 if table.mask_dtype == np.uint8 else np.uint16, copy=False)


def score_mask(
    scores: NDArray[np.floating[Any]],
    maps: NDArray[np.floating[Any]],
    class_ids: Sequence[int],
    threshold: float,
    *,
    plain: NDArray[np.floating[Any]] | None = None,
    plain_threshold: float = 0.5,
) -> dict[int, float]:
    """How far the mask at a level deserves trust, without truth: its stability and its agreement with plain CAM.

    Args:
        scores: ``(C, h, w)`` in [0, 1], refined.
        maps: ``(C, h', w')`` in [0, 1] that they were made from.
        class_ids: The C class ids, 1..K.
        threshold: Background level of the mask.
        plain: ``(C, h'', w'')`` other maps to compare with, such as plain CAM; None: ``maps``.
        plain_threshold: Their background level.

    Returns:
        By class id, 0 for the background, a score in [0, 1], 1 best.

    Raises:
        ConfigError: Something out of [0, 1].

    Example:
        >>> maps = np.array([[[0.9, 0.0]]])
        >>> score_mask(maps, maps, [3], 0.5)
        {0: 1.0, 3: 1.0}
    """
    soft, source = _checked(scores, "scores"), _checked(maps, "maps")
    other = source if plain is None else _checked(plain, "plain")
    stored = to_uint8(soft)
    evidence = gather_evidence(stored, source, other, class_ids, threshold, plain_threshold, True)
    return {int(class_id): round(float(value), 6) for class_id, value in evidence.class_scores().items()}


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"image: expected (H, W, 3) uint8 RGB, got {image.shape}, {image.dtype}")


def _checked(planes: NDArray[np.floating[Any]], name: str) -> Maps:
    """Planes ``(C, h, w) float32``, refused out of [0, 1]."""
    if planes.ndim != 3:
        raise ConfigError(f"{name}: expected (C, h, w), got {planes.shape}")
    _in_range(planes, name)
    return np.asarray(planes, dtype=np.float32)


def _in_range(values: NDArray[Any], name: str) -> None:
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        hint = "; divide by 255" if 1 < high <= 255 and low >= 0 else ""
        raise ConfigError(f"{name}: expected values in [0, 1], got {low:g} to {high:g}{hint}")
