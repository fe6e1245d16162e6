"""Dense CRF and the confident seeds made with it (docs/method.md, 3).

Two backends give the same labels: PyTorch (``mean_field.py``, any device, no compiler), and the package
``pydensecrf2`` (extra ``recamlabel[crf]``, imported on first use only). Arrays go in and come out as numpy's; the
result does not depend on the number of workers.

Source: Kraehenbuehl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", NeurIPS 2011; seeds as in Ahn et al. (IRN), CVPR 2019, section 3.3.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recamlabel.core.classes import BACKGROUND_ID
from recamlabel.errors import MissingExtraError, RecamlabelError
from recamlabel.refine.config import CrfConfig

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int64]

FOREGROUND_THRESHOLD = 0.35
BACKGROUND_THRESHOLD = 0.10


def pydensecrf_available() -> bool:
    """Whether the package of the backend ``pydensecrf`` is installed (found, not imported).

    Example:
        >>> pydensecrf_available() in (True, False)
        True
    """
    try:
        return importlib.util.find_spec("pydensecrf.densecrf") is not None
    except ModuleNotFoundError:
        return False


def check_backend(params: CrfConfig) -> None:
    """See before any work that the backend can be had.

    Raises:
        MissingExtraError: ``pydensecrf`` is asked for and cannot be imported.
    """
    if params.backend == "pydensecrf":
        _densecrf()


class CrfInference:
    """Mean-field inference on one image, with the pairwise terms built once for any number of unaries.

    Building the bilateral term's lattice is a large part of the work; :meth:`run` and :meth:`run_labels` reuse it.

    Args:
        image: ``(H, W, 3) uint8`` RGB, any size from 1x1; copied, never changed.
        n_labels: Number of labels L, >= 1 (background included).
        params: Kernel widths, weights, iterations and backend. ``torch`` works on torch's default device
            (``with torch.device("cuda"): ...``), ``pydensecrf`` on the CPU.

    Raises:
        MissingExtraError: The backend ``pydensecrf`` is asked for and not installed.
        RecamlabelError: An image of another shape or dtype, no label, or kernels too narrow for the image.

    Example:
        >>> image = np.zeros((4, 4, 3), np.uint8)
        >>> crf = CrfInference(image, 2)
        >>> crf.run(labels_to_unary(np.eye(4, dtype=np.int64), 2, 0.7)).shape
        (2, 4, 4)
    """

    def __init__(self, image: NDArray[np.uint8], n_labels: int, params: CrfConfig | None = None) -> None:
        self.params = params or CrfConfig()
        self.n_labels = n_labels
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise RecamlabelError(f"expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if n_labels < 1:
            raise RecamlabelError(f"a CRF needs at least 1 label, got {n_labels}")
        self.height, self.width = image.shape[:2]
        self._backend: _Backend | None = None
        if n_labels > 1:
            self._backend = (_Pydensecrf if self.params.backend == "pydensecrf" else _Torch)(
                image, n_labels, self.params
            )

    def run(self, unary: NDArray[np.floating[Any]]) -> FloatArray:
        """Marginals after the configured number of mean-field iterations.

        Args:
            unary: ``(L, H, W)`` energies, minus log probabilities, finite.

        Returns:
            ``(L, H, W) float32`` in [0, 1], summing to 1 over labels. With one label: ones.

        Raises:
            RecamlabelError: A unary of another shape, or with NaN or infinity.
        """
        expected = (self.n_labels, self.height, self.width)
        if unary.shape != expected:
            raise RecamlabelError(f"expected a unary {expected}, got {unary.shape}")
        if not np.isfinite(unary).all():
            raise RecamlabelError("the CRF's unary holds NaN or infinity")
        if self._backend is None:
            return np.ones(expected, dtype=np.float32)
        flat = np.ascontiguousarray(unary.reshape(self.n_labels, -1), dtype=np.float32)
        return self._backend.marginals(flat).reshape(expected)

    def run_labels(self, labels: NDArray[np.integer[Any]]) -> LabelArray:
        """The most probable labels after inference from input labels in 0..L-1.

        Args:
            labels: ``(H, W)``, or ``(T, H, W)`` for T label maps of this image at once.

        Returns:
            ``int64`` of the same shape.
        """
        every = labels if labels.ndim == 3 else labels[None]
        for one in every:
            _check_labels(one, self.n_labels)
        if every.shape[1:] != (self.height, self.width):
            raise RecamlabelError(f"expected labels {(self.height, self.width)}, got {every.shape[1:]}")
        if self._backend is None:
            return np.zeros(labels.shape, dtype=np.int64)
        return self._backend.labels(every.reshape(len(every), -1)).reshape(labels.shape)


class _Backend(Protocol):
    """Inference on the pixels of one image, as rows of N."""

    def __init__(self, image: NDArray[np.uint8], n_labels: int, params: CrfConfig) -> None: ...

    def marginals(self, unary: FloatArray) -> FloatArray:
        """``(L, N)`` of energies of that shape."""

    def labels(self, labels: NDArray[np.integer[Any]]) -> LabelArray:
        """``(T, N)`` of labels of that shape."""


class _Torch:
    def __init__(self, image: NDArray[np.uint8], n_labels: int, params: CrfConfig) -> None:
        # Here, as commands that only look at a run do without torch, whose import takes seconds.
        import torch

        from recamlabel.refine.mean_field import pairwise_terms

        self.n_labels, self.params = n_labels, params
        self.device = torch.get_default_device()
        gaussian = (params.gaussian_sxy, params.gaussian_compat)
        bilateral = (params.bilateral_sxy, params.bilateral_srgb, params.bilateral_compat)
        # Read-only and strided arrays are not torch's; a decoded or cropped image may be both.
        pixels = torch.from_numpy(np.array(image, order="C", copy=True)).to(self.device)
        with torch.inference_mode():
            self.terms = pairwise_terms(pixels, gaussian, bilateral)

    def marginals(self, unary: FloatArray) -> FloatArray:
        import torch

        from recamlabel.refine.mean_field import log_odds, probabilities

        energies = torch.from_numpy(unary).to(self.device)
        start = (energies[:1] - energies[1:]).T.contiguous()[..., None]
        shares = probabilities(log_odds(start, self.terms, self.params.iterations))[..., 0].T
        return torch.cat([(1 - shares.sum(0, keepdim=True)).clamp_(min=0), shares]).cpu().numpy()

    def labels(self, labels: NDArray[np.integer[Any]]) -> LabelArray:
        import torch

        from recamlabel.refine.mean_field import log_odds

        given = torch.from_numpy(labels.astype(np.int64)).to(self.device).T[:, None]  # (N, 1, T)
        others = torch.arange(1, self.n_labels, device=self.device)[None, :, None]
        gt_prob = self.params.gt_prob
        sure = math.log(gt_prob / (1 - gt_prob) * (self.n_labels - 1))
        start = (given == others).float().sub_((given == 0).float()).mul_(sure)
        strongest, index = log_odds(start, self.terms, self.params.iterations).max(1)
        return torch.where(strongest > 0, index + 1, 0).T.cpu().numpy()


class _Pydensecrf:
    def __init__(self, image: NDArray[np.uint8], n_labels: int, params: CrfConfig) -> None:
        self.n_labels, self.params = n_labels, params
        height, width = image.shape[:2]
        self._crf = _densecrf().DenseCRF2D(width, height, n_labels)
        self._crf.addPairwiseGaussian(sxy=params.gaussian_sxy, compat=params.gaussian_compat)
        self._crf.addPairwiseBilateral(
            sxy=params.bilateral_sxy,
            srgb=params.bilateral_srgb,
            # The library wants a writable C-contiguous buffer, which a decoded or cropped image may not be.
            rgbim=np.array(image, dtype=np.uint8, order="C", copy=True),
            compat=params.bilateral_compat,
        )

    def marginals(self, unary: FloatArray) -> FloatArray:
        self._crf.setUnaryEnergy(unary)
        return np.array(self._crf.inference(self.params.iterations), dtype=np.float32)

    def labels(self, labels: NDArray[np.integer[Any]]) -> LabelArray:
        unaries = (labels_to_unary(one[None], self.n_labels, self.params.gt_prob)[:, 0] for one in labels)
        return np.stack([self.marginals(unary).argmax(axis=0) for unary in unaries]).astype(np.int64)


def labels_to_unary(labels: NDArray[np.integer[Any]], n_labels: int, gt_prob: float) -> FloatArray:
    """Energies of a label map that is right with probability ``gt_prob``; the rest is spread evenly.

    Args:
        labels: ``(H, W)`` integers in 0..L-1 (all of them sure: no "unknown" label).
        n_labels: L, >= 1.
        gt_prob: In (0, 1).

    Returns:
        ``(L, H, W) float32``, minus log probabilities; zeros where L is 1.

    Raises:
        RecamlabelError: A label outside 0..L-1, or ``gt_prob`` outside (0, 1).

    Example:
        >>> np.exp(-labels_to_unary(np.array([[1]]), 3, 0.7)).round(2).ravel().tolist()
        [0.15000000596046448, 0.699999988079071, 0.15000000596046448]
    """
    _check_labels(labels, n_labels)
    if not 0 < gt_prob < 1:
        raise RecamlabelError(f"gt_prob must lie in (0, 1), got {gt_prob}")
    if n_labels == 1:
        return np.zeros((1, *labels.shape), dtype=np.float32)
    is_label: NDArray[np.bool_] = labels[None] == np.arange(n_labels)[:, None, None]
    other = -np.log((1.0 - gt_prob) / (n_labels - 1))
    return np.where(is_label, np.float32(-np.log(gt_prob)), np.float32(other))


def _check_labels(labels: NDArray[np.integer[Any]], n_labels: int) -> None:
    if labels.ndim != 2 or labels.size == 0 or labels.min() < 0 or labels.max() >= n_labels:
        span = f"{labels.min()}..{labels.max()}" if labels.size else "nothing"
        raise RecamlabelError(f"expected labels (H, W) in 0..{n_labels - 1}, got shape {labels.shape} with {span}")


def crf_from_labels(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    n_labels: int,
    params: CrfConfig | None = None,
) -> LabelArray:
    """Labels after the dense CRF, from labels before it (docs/method.md, 3).

    Args:
        image: ``(H, W, 3) uint8`` RGB.
        labels: ``(H, W)`` integers in 0..n_labels-1.
        n_labels: L, >= 1, background included; with 1 the labels come back as they are.
        params: CRF settings, ``CrfConfig()`` if not given.

    Returns:
        ``(H, W) int64`` in 0..n_labels-1.

    Raises:
        MissingExtraError: The backend ``pydensecrf`` is asked for and not installed.
        RecamlabelError: Shapes, dtype or labels out of range.

    Example:
        >>> crf_from_labels(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3), np.int64), 2).max()
        np.int64(0)
    """
    return CrfInference(image, n_labels, params).run_labels(labels)


def confident_seeds(
    image: NDArray[np.uint8],
    maps: NDArray[np.floating[Any]],
    class_ids: Sequence[int],
    *,
    params: CrfConfig | None = None,
    fg_threshold: float = FOREGROUND_THRESHOLD,
    bg_threshold: float = BACKGROUND_THRESHOLD,
    ignore_id: int = 255,
) -> NDArray[np.integer[Any]]:
    """Seeds for the affinity net: class, background or "not sure" per pixel (docs/method.md, 3).

    ``fg`` is the CRF of ``argmax([fg_threshold, maps])``, ``bg`` that of ``argmax([bg_threshold, maps])``.
    A pixel is its ``fg`` class where that is a class, background where both say background, else ignored.

    Args:
        image: ``(H, W, 3) uint8`` RGB.
        maps: ``(C, H, W)`` full-size maps of the image's classes, max-normalised to [0, 1]; C may be 0.
        class_ids: The C class ids (1..K), in the order of ``maps``.
        params: CRF settings, ``CrfConfig()`` if not given.
        fg_threshold: Background score of the strict labels.
        bg_threshold: Background score of the generous labels, at most ``fg_threshold``.
        ignore_id: 255, or 65535 for 16-bit masks (``ClassTable.ignore_id``).

    Returns:
        ``(H, W)``, ``uint8`` (``uint16`` where ``ignore_id`` is above 255), of class ids, 0 and ``ignore_id``.

    Raises:
        MissingExtraError: The backend ``pydensecrf`` is asked for and not installed.
        RecamlabelError: Shapes that do not go together, maps that are not finite, thresholds the wrong way round.

    Example:
        >>> confident_seeds(np.zeros((2, 2, 3), np.uint8), np.ones((1, 2, 2), np.float32), [7]).tolist()
        [[7, 7], [7, 7]]
    """
    _check_seed_inputs(image, maps, class_ids, fg_threshold, bg_threshold, ignore_id)
    ids: NDArray[np.integer[Any]] = np.array([BACKGROUND_ID, *class_ids], dtype=_mask_dtype(ignore_id))
    crf = CrfInference(image, len(ids), params)
    foreground, background = crf.run_labels(np.stack([_labels_over(maps, at) for at in (fg_threshold, bg_threshold)]))
    seeds: NDArray[np.integer[Any]] = ids[foreground]
    seeds[(foreground == 0) & (background != 0)] = ignore_id
    return seeds


def _labels_over(maps: NDArray[np.floating[Any]], threshold: float) -> LabelArray:
    """``argmax([threshold, maps])``: 0 where no map is above the threshold (background wins ties)."""
    scores = np.concatenate([np.full((1, *maps.shape[1:]), threshold, dtype=maps.dtype), maps])
    return np.asarray(scores.argmax(axis=0), dtype=np.int64)


def _mask_dtype(ignore_id: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if ignore_id <= 255 else np.uint16


def _check_seed_inputs(
    image: NDArray[np.uint8],
    maps: NDArray[np.floating[Any]],
    class_ids: Sequence[int],
    fg_threshold: float,
    bg_threshold: float,
    ignore_id: int,
) -> None:
    if maps.ndim != 3 or maps.shape[0] != len(class_ids) or maps.shape[1:] != image.shape[:2]:
        raise RecamlabelError(
            f"expected maps {(len(class_ids), *image.shape[:2])} for {len(class_ids)} class ids, got {maps.shape}"
        )
    if not np.isfinite(maps).all():
        raise RecamlabelError("the class maps given to the CRF hold NaN or infinity")
    if bg_threshold > fg_threshold:
        raise RecamlabelError(f"bg_threshold ({bg_threshold}) is above fg_threshold ({fg_threshold})")
    if any(not BACKGROUND_ID < class_id < ignore_id for class_id in class_ids):
        raise RecamlabelError(f"class ids must lie in 1..{ignore_id - 1}, got {list(class_ids)}")


def _densecrf() -> Any:
    try:
        return importlib.import_module("pydensecrf.densecrf")
    except ImportError as error:
        raise MissingExtraError(
            "refine.crf.backend=pydensecrf needs the package pydensecrf2: pip install 'recamlabel[crf]' (built from "
            "source with a C++ compiler such as g++); or leave the backend at 'torch', which gives the same labels; "
            f"import failed with: {error}"
        ) from None
