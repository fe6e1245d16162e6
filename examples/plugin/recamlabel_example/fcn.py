"""A segmenter: FCN-32s, one 1x1 convolution on the last features, enlarged to the image.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.
"""

from __future__ import annotations

from torch import Tensor, nn

from recamlabel.models.backbones import Backbone


class Fcn(nn.Module):
    """What the entry point names: called with the backbone and the number of outputs, it gives a network.

    Args:
        backbone: Images ``(B, 3, H, W)`` to features ``(B, D, h, w)``, with the weights to start from. It has to be the
            attribute ``encoder``: that is what learns at the lower rate.
        outputs: Number of classes, background included.
    """

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.encoder = backbone
        self.head = nn.Conv2d(backbone.channels, outputs, 1)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, H and W divisible by 32, to logits ``(B, outputs, H, W)``."""
        logits = self.head(self.encoder(images))
        return nn.functional.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)
