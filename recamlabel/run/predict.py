"""A finished run's segmenter applied to new images, or handed to other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recamlabel import __version__
from recamlabel.adapters.base import Dataset
from recamlabel.config import Config, config_from_tree
from recamlabel.core.classes import ClassTable
from recamlabel.core.devices import pick_device
from recamlabel.core.progress import track
from recamlabel.data.catalog import CATALOG_FILE, Catalog, load_catalog
from recamlabel.segment.export import Format, export_model
from recamlabel.segment.folder import Look, find_images, predict_folder, refuse_target, sized
from recamlabel.segment.masks import smoothed_mask, smoothing
from recamlabel.segment.predict import Predictor
from recamlabel.stages.networks import PREDICTOR, load_predictor
from recamlabel.stages.view import View
from recamlabel.storage.outdated import say_if_outdated
from recamlabel.storage.run_folder import RunFolder


def predict(
    run: Path,
    source: Path,
    out: Path,
    *,
    crf: bool | None = None,
    keep_probabilities: bool = False,
    device: str = "auto",
    look: Callable[[ClassTable], Look] | None = None,
) -> int:
    """Masks of new images by the segmenter of a run.

    Args:
        run: A run whose segmenter is trained.
        source: An image or a folder of images; only read.
        out: New or empty folder.
        crf: Smooth with the dense CRF, or not; None: as ``segmenter.predict.smooth`` says.
        keep_probabilities: Also write ``probabilities.h5``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        look: Makes what is shown every mask, given the run's classes.

    Returns:
        Number of images.

    Raises:
        RecamlabelError: Anything that is the user's to fix; nothing is written then.
    """
    refuse_target(out, source)
    view, key = _open(run, device)
    asked = view.settings.segmenter.predict
    if crf is not None:
        asked = asked.model_copy(update={"smooth": "crf" if crf else "none"})
    kernels = smoothing(asked)
    images = find_images(source)
    classes = view.catalog.dataset.classes
    root = source if source.is_dir() else source.parent
    dataset = Dataset(root, "predict", classes, images)
    attributes: dict[str, Any] = {
        "software": f"recamlabel {__version__}",
        "class_names": list(classes.names),
        "model_keys": {"segmenter": key},
        "ignore_id": classes.ignore_id,
    }
    catalog, predictor = Catalog(dataset, sized(images), {}), load_predictor(view)
    with track("predict", len(images)) as advance:
        predict_folder(
            catalog,
            predictor,
            classes,
            out,
            attributes,
            advance,
            crf=kernels,
            keep_probabilities=keep_probabilities,
            look=look(classes) if look else None,
        )
    return len(images)


def open_predictor(run: Path, device: str) -> Predictor:
    """The trained segmenter of a run. Raises StoreError where there is none."""
    return load_predictor(_open(run, device)[0])


def predict_mask(
    predictor: Predictor, image: NDArray[np.uint8], table: ClassTable, config: Config
) -> NDArray[np.unsignedinteger[Any]]:
    """The mask ``(H, W)`` of one image ``(H, W, 3) uint8``, with the smoothing of the run's settings."""
    probabilities = predictor.probabilities([image])[0]
    crf = smoothing(config.segmenter.predict)
    mask = smoothed_mask(image, probabilities, table.mask_dtype, crf, background=table.background)
    return mask.astype(np.uint8 if table.mask_dtype == np.uint8 else np.uint16, copy=False)


def export_segmenter(run: Path, path: Path, kind: Format, size: tuple[int, int]) -> float:
    """Write the segmenter of a run as ONNX or TorchScript; returns the largest difference from PyTorch."""
    view, key = _open(run, "cpu")
    facts = {"classes": ["background", *view.catalog.dataset.classes.names], "segmenter": key}
    return export_model(load_predictor(view).net, path, kind, size, facts)


def _open(run: Path, device: str) -> tuple[View, str]:
    folder = RunFolder.open(run)
    key = folder.key_of("segmenter", outdated=True)
    say_if_outdated(folder, "segmenter")
    config = config_from_tree(folder.state.config, origin=str(run / "run.toml"))
    view = View(
        folder,
        load_catalog(run / CATALOG_FILE, config.data.background),
        config,
        pick_device(device),
        "segmenter",
        key,
        PREDICTOR,
    )
    return view, key
