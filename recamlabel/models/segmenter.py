"""Segmentation networks that are trained on the pseudo masks, by name (docs/method.md, 5).

DeepLab-v3+ and UPerNet come from segmentation-models-pytorch, on any timm encoder that gives a feature
pyramid (convolutional nets and Swin). DeepLab-v2, which that library does not have, is a classifier of
four dilated convolutions on the last features: Chen et al., "DeepLab: Semantic Image Segmentation with
Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs", TPAMI 2018, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint
from typing import Any, cast

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recamlabel.core.plugins import FlawError, blame, owner
from recamlabel.core.registry import Registry, called
from recamlabel.errors import ConfigError, WeightsError
from recamlabel.models.backbones import Backbone, any_size
from recamlabel.models.config import BackboneConfig
from recamlabel.models.weights import check_weights
from recamlabel.segment.config import SegmenterConfig

ASPP_RATES = (6, 12, 18, 24)
# smp's encoders want sides that the deepest stride divides.
MULTIPLE = 32
# The patch that segmentation-models-pytorch's DPT puts its pyramid together from.
DPT_PATCH = 16
# Encoders of which every segmenter but dpt is known to work.
USUAL = ("tf_efficientnet_lite", "resnet")


class DeepLabV2(nn.Module):
    """A backbone and the sum of four dilated 3x3 classifiers (ASPP-L of the paper).

    Args:
        backbone: Gives the last features.
        classes: Output channels, background included.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.encoder = backbone
        self.head = nn.ModuleList(
            nn.Conv2d(backbone.channels, classes, 3, padding=rate, dilation=rate) for rate in ASPP_RATES
        )
        for branch in self.head:
            nn.init.normal_(cast(nn.Conv2d, branch).weight, std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` to logits ``(B, classes, H, W)``."""
        features = self.encoder(images)
        logits: Tensor = sum((branch(features) for branch in self.head), start=features.new_zeros(()))
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)


def _deeplab_v2(backbone: Backbone, classes: int) -> nn.Module:
    return DeepLabV2(backbone, classes)


def _deeplab_v3_plus(backbone: Backbone, classes: int) -> nn.Module:
    if backbone.output_stride == 32:
        raise ConfigError("segmenter.method=deeplabv3+ needs backbone.output_stride 8 or 16, found 32")
    net: nn.Module = smp.DeepLabV3Plus(
        f"tu-{backbone.name}", encoder_weights=None, encoder_output_stride=backbone.output_stride, classes=classes
    )
    return net


def _of_pyramid(decoder: Callable[..., nn.Module], backbone: Backbone, classes: int) -> nn.Module:
    return decoder(f"tu-{backbone.name}", encoder_weights=None, classes=classes, **any_size(backbone.name))


def _dpt(backbone: Backbone, classes: int) -> nn.Module:
    if not backbone.tokens or backbone.output_stride != DPT_PATCH:
        found = f"one with patches of {backbone.output_stride}" if backbone.tokens else "none"
        others = "linear or deeplabv2" if backbone.tokens else "deeplabv3+, upernet or segformer"
        raise ConfigError(
            f"segmenter.method=dpt needs a ViT with patches of {DPT_PATCH} pixels as its encoder, and "
            f"{backbone.name!r} is {found}; choose {others} for it"
        )
    net: nn.Module = smp.DPT(
        f"tu-{backbone.name}", encoder_weights=None, classes=classes, dynamic_img_size=True, decoder_readout="ignore"
    )
    cast(Any, net).encoder.model.reset_classifier(0)
    return net


class Linear(nn.Module):
    """A backbone and one linear classifier of its last features, batch-normalised: what features know by themselves.

    The linear head of DINOv2's evaluation: Oquab et al., "DINOv2: Learning Robust Visual Features without
    Supervision", TMLR 2024, section 7.4.

    Args:
        backbone: Gives the last features.
        classes: Output channels, background included.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.encoder = backbone
        self.norm = nn.BatchNorm2d(backbone.channels)
        self.head = nn.Conv2d(backbone.channels, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` to logits ``(B, classes, H, W)``."""
        logits = self.head(self.norm(self.encoder(images)))
        stride = self.encoder.output_stride
        # The last patches may reach beyond the image.
        size = [stride * side for side in logits.shape[2:]]
        enlarged = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return enlarged[:, :, : images.shape[2], : images.shape[3]]


Make = Callable[[Backbone, int], nn.Module]


def _adopt(thing: Any, point: EntryPoint) -> Make:
    make, who = called(thing, point), f"segmenter {point.name!r} of {owner(point)}"

    def guarded(backbone: Backbone, outputs: int) -> nn.Module:
        """Another package's network, tried on a black image before hours of training; what it raises is its fault."""
        with blame(who, ConfigError):
            net = make(backbone, outputs)
            if not isinstance(net, nn.Module):
                raise FlawError(f"gave a {type(net).__name__}; expected a torch.nn.Module")
            _try(net, outputs)
        return net

    return guarded


@torch.no_grad()
def _try(net: nn.Module, outputs: int) -> None:
    """Raises FlawError where the logits of an image are not ``(1, outputs, H, W)``."""
    image = torch.zeros(1, 3, 2 * MULTIPLE, 3 * MULTIPLE)
    modes = {module: module.training for module in net.modules()}
    with torch.random.fork_rng(devices=[]):
        logits = net.eval()(image)
    for module, training in modes.items():
        module.training = training
    expected, found = (1, outputs, *image.shape[2:]), tuple(getattr(logits, "shape", ()))
    if not isinstance(logits, Tensor) or found != expected:
        what = f"logits of shape {found}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise FlawError(f"gave {what} for an image of shape {tuple(image.shape)}; expected {expected}")


# A segmenter is called with the backbone, which holds the weights to start from, and the number of outputs. What it
# returns has an ``encoder``: the backbone itself, or one of segmentation-models-pytorch (``tu-*``) of the same network.
SEGMENTERS: Registry[Make] = Registry(
    "segmenter.method",
    "segmenter",
    {
        "deeplabv2": _deeplab_v2,
        "deeplabv3+": _deeplab_v3_plus,
        "upernet": partial(_of_pyramid, smp.UPerNet),
        "segformer": partial(_of_pyramid, smp.Segformer),
        "dpt": _dpt,
        "linear": Linear,
    },
    "recamlabel.segmenters",
    _adopt,
)


def check_segmenter(method: str) -> None:
    """Refuse a segmenter that does not exist. Raises ConfigError with the list of names."""
    SEGMENTERS.find(method)


def check_encoder(config: SegmenterConfig, backbone: BackboneConfig) -> None:
    """Refuse a segmenter that does not exist, and an encoder that cannot start as it is to.

    Args:
        config: Of the segmenter.
        backbone: Of the classifier, whose network the encoder may be.

    Raises:
        ConfigError: No such segmenter, an encoder of another network than the weights that it is to start from, or
            another package's network that cannot be used, which is made once to see that.
        WeightsError: Weights that are not there.
    """
    check_segmenter(config.method)
    if config.encoder_weights not in {"classifier", "backbone"}:
        check_weights(config.encoder or backbone.name, config.encoder_weights)
    elif config.encoder not in {"", backbone.name}:
        raise ConfigError(
            f"segmenter.encoder={config.encoder} cannot start from the {config.encoder_weights}'s weights, which "
            f"are those of {backbone.name}; set segmenter.encoder_weights to imagenet, embedded, none or a file"
        )
    encoder = config.encoder or backbone.name
    if SEGMENTERS.origin(config.method) or config.method == "dpt" or not encoder.startswith(USUAL):
        # Made once, before hours of training: what a network cannot do is said now.
        Segmenter(config.method, Backbone(encoder, backbone.output_stride), 1)


class Segmenter(nn.Module):
    """A segmentation network by name; its encoder's batch-norm keeps the statistics it came with.

    Args:
        method: A name of ``SEGMENTERS``.
        backbone: Names the encoder, gives its first weights and the input normalisation. DeepLab-v2
            keeps it as its encoder, the others copy its weights.
        classes: Number of foreground classes K; the network has K + 1 outputs, background first.

    Attributes:
        mean, std: Input normalisation, three numbers each for RGB in 0..1.

    Raises:
        ConfigError: Unknown method, an encoder that the method cannot use, or a network without an encoder.

    Example:
        >>> import torch
        >>> net = Segmenter("deeplabv2", Backbone("resnet10t"), classes=2).eval()
        >>> net(torch.zeros(1, 3, 40, 50)).shape
        torch.Size([1, 3, 40, 50])
    """

    def __init__(self, method: str, backbone: Backbone, classes: int) -> None:
        super().__init__()
        check_segmenter(method)
        self.mean, self.std = backbone.mean, backbone.std
        # DPT halves a ViT's grid once.
        self.multiple = 2 * backbone.output_stride if backbone.tokens else MULTIPLE
        try:
            self.net = SEGMENTERS[method](backbone, classes + 1)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"segmenter.method={method} cannot use the encoder {backbone.name!r} ({reason}); choose another "
                f"segmenter.encoder, or segmenter.method={'dpt, linear' if backbone.tokens else 'linear'} or deeplabv2"
            ) from None
        encoder = getattr(self.net, "encoder", None)
        if encoder is not backbone:
            inner = getattr(encoder, "model", None)
            if not isinstance(inner, nn.Module):
                raise ConfigError(
                    f"segmenter.method={method} gave a {type(self.net).__name__} whose encoder is neither the backbone "
                    "that it was called with nor one of segmentation-models-pytorch, so it has no weights to start "
                    "from; repair that segmenter, or choose another segmenter.method"
                )
            copy_encoder(inner, backbone)

    @property
    def encoder(self) -> nn.Module:
        """The part that starts from ImageNet or classifier weights."""
        return cast(nn.Module, cast(Any, self.net).encoder)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(B, 3, H, W)`` of any size to logits ``(B, K + 1, H, W)``."""
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        logits: Tensor = self.net(padded)
        return logits[:, :, :height, :width]

    def train(self, mode: bool = True) -> Segmenter:
        """Training mode, except for the encoder's batch-norm."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def copy_encoder(target: nn.Module, backbone: Backbone) -> None:
    """Copy a backbone's weights into timm's feature-pyramid form of the same network.

    The pyramid lacks the layers behind its last depth, and some networks' names have ``_`` in the
    place of the first ``.``; every tensor that the pyramid has must be found.

    Raises:
        WeightsError: A tensor without its like in the backbone.
    """
    state = backbone.net.state_dict()
    flat = {_flat(name): value for name, value in state.items()}
    own = target.state_dict()
    copied = {name: flat[_flat(name)] for name in own if _flat(name) in flat}
    lost = [name for name in own if name not in copied or copied[name].shape != own[name].shape]
    # Swin's relative position tables are buffers that depend on the window alone, not learnt.
    lost = [name for name in lost if name in dict(target.named_parameters())]
    if lost:
        raise WeightsError(
            f"backbone {backbone.name!r}: {len(lost)} of its pyramid's tensors are not in the backbone: "
            f"{', '.join(lost[:3])}"
        )
    target.load_state_dict({name: copied.get(name, value) for name, value in own.items()})


def _flat(name: str) -> str:
    return name.removeprefix("model.").replace(".", "_")


def parameter_groups(net: Segmenter, lr: float, head_factor: float) -> list[Mapping[str, Any]]:
    """Encoder at ``lr``, everything else at ``lr * head_factor``."""
    encoder = {id(parameter) for parameter in net.encoder.parameters()}
    slow = [parameter for parameter in net.encoder.parameters() if parameter.requires_grad]
    fast = [parameter for parameter in net.parameters() if id(parameter) not in encoder]
    return [{"params": slow, "lr": lr}, {"params": fast, "lr": lr * head_factor}]
