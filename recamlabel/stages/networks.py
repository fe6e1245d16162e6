"""The trained networks of a run, loaded as later stages need them."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from recamlabel.config import Config
from recamlabel.core.devices import to_device
from recamlabel.models.backbones import Backbone
from recamlabel.models.layers.folded_norm import fold_norms
from recamlabel.models.networks import AffinityFeatures, ClassifierNet, RecamNet
from recamlabel.models.segmenter import Segmenter
from recamlabel.models.weights import load_backbone_weights, load_strict, read_weights
from recamlabel.segment.predict import Predictor
from recamlabel.stages.cost import Cost, megapixels, over_scales
from recamlabel.stages.graph import Scope
from recamlabel.stages.view import View

CLASSIFIER_WEIGHTS = "weights/classifier.safetensors"
RECAM_WEIGHTS = "weights/recam.safetensors"
AFFINITY_WEIGHTS = "weights/affinity.safetensors"
SEGMENTER_WEIGHTS = "weights/segmenter.safetensors"
# What the three networks on the classifier's backbone need to be built.
BACKBONE = ("backbone.name", "backbone.output_stride", "backbone.frozen_stages")
RECAM = ("recam.background", "recam.head_init", "data.background")
SEGMENTER = (*BACKBONE, "segmenter.method", "segmenter.encoder")
PREDICTOR = (*SEGMENTER, *(f"segmenter.predict.{name}" for name in ("scales", "flip", "max_side")))


def new_classifier(view: View) -> ClassifierNet:
    """The classifier as the settings describe it, without weights."""
    config = view.config.backbone
    backbone = Backbone(config.name, config.output_stride, config.frozen_stages)
    return ClassifierNet(backbone, len(view.catalog.dataset.classes))


def load_classifier(view: View) -> ClassifierNet:
    """The trained classifier of the run."""
    return view.once("classifier", partial(_classifier, view))


def _classifier(view: View) -> ClassifierNet:
    net = new_classifier(view)
    path = view.learnt.path / CLASSIFIER_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    fold_norms(net)
    return net


def load_recam(view: View) -> RecamNet:
    """The re-activated network of the run."""
    return view.once("recam", partial(_recam, view))


def _recam(view: View) -> RecamNet:
    net = RecamNet(new_classifier(view), view.config.recam, view.config.data.background)
    path = view.learnt.path / RECAM_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    fold_norms(net)
    return net


def classifier_head(view: View) -> tuple[Backbone, dict[str, Tensor]]:
    """The classifier's backbone in eval mode, and the weight of its maps by their name."""
    classifier = load_classifier(view)
    to_device(classifier, view.device).eval()
    return classifier.backbone, {"cam": classifier.head.weight.detach()}


def recam_head(view: View) -> tuple[Backbone, dict[str, Tensor]]:
    """The re-activated network's backbone in eval mode, and the weight of its maps by their name."""
    recam = load_recam(view)
    to_device(recam, view.device).eval()
    return recam.classifier.backbone, {"recam": recam.map_weight(view.config.recam.combine).detach()}


def new_affinity(view: View) -> AffinityFeatures:
    """A backbone with its ImageNet weights on the device, and a fresh affinity net for it."""
    config = view.config.backbone
    backbone = Backbone(config.name, config.output_stride)
    load_backbone_weights(backbone, config.weights)
    fold_norms(backbone)
    to_device(backbone, view.device)
    return AffinityFeatures(backbone)


def new_encoder(view: View) -> Backbone:
    """The segmenter's encoder, without weights."""
    config = view.config.backbone
    return Backbone(view.config.segmenter.encoder or config.name, config.output_stride, config.frozen_stages)


def encoder_source(config: Config) -> str:
    """Where the encoder's first weights are from: ``classifier``, or what ``backbone.weights`` may be.

    Example:
        >>> from recamlabel.config import load_config
        >>> encoder_source(load_config("quick")), encoder_source(load_config(assignments=["backbone.weights=none"]))
        ('embedded', 'classifier')
    """
    source = config.segmenter.encoder_weights
    if source != "backbone":
        return source
    # Random weights are no start where trained ones are at hand.
    return "classifier" if config.backbone.weights == "none" else config.backbone.weights


def load_predictor(view: View) -> Predictor:
    """The run's trained segmenter, ready to be run."""
    return view.once(f"segmenter of {view.learnt.path}", partial(_predictor, view))


def _predictor(view: View) -> Predictor:
    config = view.config.segmenter
    net = Segmenter(config.method, new_encoder(view), len(view.catalog.dataset.classes))
    path = view.learnt.path / SEGMENTER_WEIGHTS
    load_strict(net, read_weights(path), origin=str(path))
    fold_norms(net)
    to_device(net, view.device).eval()
    side = view.learnt.state.stages["segmenter"].get("side")
    return Predictor(net, config.predict, view.device, view.config.runtime.amp, side)


def predictor_cost(scope: Scope) -> Cost:
    """What it costs to ask the segmenter about all images."""
    config = scope.config.segmenter.predict
    scaled = megapixels(scope, config.max_side) * over_scales(config.scales, config.flip)
    return Cost(forward=scaled, read=megapixels(scope))
