"""Which stages a configuration needs, and their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recamlabel.config import Config
from recamlabel.data.catalog import Catalog
from recamlabel.maps.precomputed import file_identity
from recamlabel.models.weights import weights_identity
from recamlabel.refine import seed_crf, walks
from recamlabel.segment.masks import smoothing
from recamlabel.stages import (
    StageContext,
    run_affinity,
    run_calibration,
    run_cams,
    run_classifier,
    run_edges,
    run_fine,
    run_gate,
    run_maps,
    run_masks,
    run_probe,
    run_quality,
    run_recam,
    run_refine,
    run_segmentation,
    run_segmenter,
)
from recamlabel.stages.base import FINE_FILE, FUSED_FILE, MAPS_FILE
from recamlabel.stages.calibration import LEVELS_FILE
from recamlabel.stages.features import gate_features
from recamlabel.stages.fine import looks_again
from recamlabel.stages.gate import GATE_FILE
from recamlabel.stages.probe import alternates
from recamlabel.storage.run_folder import stage_key

WALK_SETTINGS = {"walk_radius", "floor", "beta", "log2_steps"}


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: what it is called, what it depends on, what it makes."""

    name: str
    key: str
    outputs: tuple[str, ...]
    work: Callable[[StageContext], Mapping[str, Any]]


def plan(catalog: Catalog, config: Config, reviewed: str = "") -> list[Stage]:
    """The stages with their keys; a changed setting changes the keys of just what depends on it.

    Args:
        catalog: Images and labels.
        config: All settings.
        reviewed: Digest of the reviewed masks, where they are to be used.
    """
    training = catalog.fingerprint(catalog.training_images(config.data.train_splits))
    everything = catalog.fingerprint()
    learner = _learner(config)
    start: list[Any] = (
        [gate_features(config), config.gate.strength] if config.classifier.head_init == "logistic" else []
    )
    classifier = stage_key("classifier", 2, [learner, config.classifier.model_dump(), start], {"images": training})
    head = config.recam.model_dump(exclude={"combine"})
    cams = _variant_stages(config, {"classifier": classifier, "training": training, "images": everything})
    recam = stage_key(
        "recam",
        2,
        [config.augment.model_dump(), config.seed, head, config.data.background],
        {"classifier": classifier} | {stage.name: stage.key for stage in cams},
    )
    maps = stage_key(
        "maps", 1, [config.maps.model_dump(), config.recam.combine], {"recam": recam, "images": everything}
    )
    probe = _probe_stages(config, {"classifier": classifier, "maps": maps})
    evidence = probe[-1].key if probe else maps
    extra = _affinity_stages(config, learner, {"maps": evidence, "images": training}, everything)
    inputs = {"classifier": classifier, "images": training} | {stage.name: stage.key for stage in extra[1:]}
    return [
        # First, so that what is wrong with the labels is said before hours of training.
        _gate_stage(config, {"images": everything, "training": training}),
        Stage("classifier", classifier, ("weights/classifier.safetensors",), run_classifier),
        *cams,
        Stage("recam", recam, ("weights/recam.safetensors",), run_recam),
        Stage("maps", maps, (MAPS_FILE,), run_maps),
        *probe,
        *extra,
        *mask_stages(config, evidence, inputs, everything, reviewed),
    ]


def mask_stages(
    config: Config, maps: str, inputs: Mapping[str, str], everything: str, reviewed: str = ""
) -> list[Stage]:
    """From class maps to masks and segmenter: the stages of every round.

    Args:
        config: All settings.
        maps: Key of the maps that are refined.
        inputs: Keys of ``classifier``, of the training ``images``, and of ``edges`` where there are some.
        everything: Fingerprint of all images.
        reviewed: Digest of the reviewed masks, where they are to be used.
    """
    classifier, training = inputs["classifier"], inputs["images"]
    settings: list[Any] = [config.refine.model_dump(), config.data.background]
    below = {"maps": maps}
    if "edges" in inputs:
        settings.append(config.affinity.model_dump(include=WALK_SETTINGS))
        below["edges"] = inputs["edges"]
    refine = stage_key("refine", 2, settings, below)
    seen = [config.augment.resize_max, config.data.background]
    calibration = stage_key("calibration", 1, seen, {"refine": refine, "classifier": classifier})
    masks = masks_stage(config, refine, calibration, reviewed)
    taught = {"masks": masks.key, "classifier": classifier, "images": training}
    if reviewed:
        taught["reviewed"] = f"{reviewed} {config.review.weight}"
    return [
        Stage("refine", refine, ("scores.h5",), run_refine),
        Stage("calibration", calibration, (LEVELS_FILE,), run_calibration),
        masks,
        *_segmenter_stages(config, _learner(config), taught, everything),
    ]


def _learner(config: Config) -> list[Any]:
    """What every network that is trained depends on."""
    return [
        config.backbone.model_dump(),
        weights_identity(config.backbone.weights),
        config.augment.model_dump(),
        config.seed,
    ]


def _gate_stage(config: Config, inputs: dict[str, str]) -> Stage:
    """The report on the labels. It takes nothing from the classifier, whose weights have seen them."""
    key = stage_key("gate", 2, [gate_features(config), config.gate.model_dump()], inputs)
    return Stage("gate", key, (GATE_FILE,), run_gate)


def _variant_stages(config: Config, inputs: dict[str, str]) -> list[Stage]:
    """The stage that makes another variant's maps; plain CAM needs none."""
    if config.maps.variant == "cam":
        return []
    settings = [config.maps.model_dump(), file_identity(config.maps)]
    return [Stage("cams", stage_key("cams", 1, settings, inputs), ("cams.h5",), run_cams)]


def _probe_stages(config: Config, inputs: dict[str, str]) -> list[Stage]:
    """The probe across images that the maps are joined with, where it is wanted, and the finer maps it starts from."""
    if not config.probe.enabled:
        return []
    stages = []
    if looks_again(config):
        fine = stage_key("fine", 2, [config.probe.fine_sides, config.refine.source], inputs)
        stages.append(Stage("fine", fine, (FINE_FILE,), run_fine))
        inputs = inputs | {"fine": fine}
    own = config.probe.model_dump(exclude={"fine_sides"})
    settings = [own, config.refine.source, config.data.background, config.maps.max_side]
    if alternates(config):
        settings.append(config.refine.model_dump(include={"max_side", "smooth", "crf"}))
    key = stage_key("probe", 2, [settings, config.seed], inputs)
    return [*stages, Stage("probe", key, (FUSED_FILE,), run_probe)]


def _affinity_stages(config: Config, learner: list[Any], inputs: dict[str, str], everything: str) -> list[Stage]:
    """What a random walk needs before it; nothing for the other methods."""
    if not walks(config.refine.method):
        return []
    crf = seed_crf(config.refine)
    seeds = [config.refine.source, config.refine.max_side, crf and crf.model_dump()]
    training = config.affinity.model_dump(exclude=WALK_SETTINGS)
    affinity = stage_key("affinity", 1, [learner, training, seeds], inputs)
    sizes = config.maps.model_dump(include={"max_side", "stored_stride"})
    edges = stage_key("edges", 1, sizes, {"affinity": affinity, "images": everything})
    return [
        Stage("affinity", affinity, ("weights/affinity.safetensors", "seeds.h5"), run_affinity),
        Stage("edges", edges, ("edges.h5",), run_edges),
    ]


def masks_stage(config: Config, refine: str, calibration: str, reviewed: str = "") -> Stage:
    """The masks, which `recamlabel masks` renders alone."""
    settings = [config.masks.model_dump(), config.data.background, config.refine.source]
    inputs = {"refine": refine, "calibration": calibration}
    if reviewed and config.masks.threshold == "auto":
        inputs["reviewed"] = reviewed
    return Stage("masks", stage_key("masks", 8, settings, inputs), ("masks.h5", "masks"), run_masks)


def _segmenter_stages(config: Config, learner: list[Any], inputs: dict[str, str], everything: str) -> list[Stage]:
    """The segmenter and its masks, then the quality scores, which need it where there is one."""
    settings = config.segmenter.model_dump(exclude={"predict", "relabel_weight"})
    if config.segmenter.enabled and config.segmenter.encoder_weights not in {"classifier", "backbone"}:
        # A file is what is in it, not what it is called.
        settings["encoder_weights"] = weights_identity(config.segmenter.encoder_weights)
    segmenter = stage_key("segmenter", 1, [learner, settings], inputs)
    crf = smoothing(config.segmenter.predict) if config.segmenter.enabled else None
    asked: list[Any] = [config.segmenter.predict.model_dump(exclude={"smooth", "crf"}), crf and crf.model_dump()]
    asked.append(config.data.background)
    segmentation = stage_key("segmentation", 3, asked, {"segmenter": segmenter, "images": everything})
    enabled = config.segmenter.enabled
    last = {"masks": inputs["masks"]} | ({"segmentation": segmentation} if enabled else {})
    quality = Stage("quality", stage_key("quality", 4, enabled, last), ("quality.json",), run_quality)
    if not enabled:
        return [quality]
    return [
        Stage("segmenter", segmenter, ("weights/segmenter.safetensors",), run_segmenter),
        Stage("segmentation", segmentation, ("segmenter.h5",), run_segmentation),
        quality,
    ]
