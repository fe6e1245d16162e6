"""CutMix for pixels: boxes of other images, with their labels, pasted into a batch.

Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
section 3.1; on masks as in French et al., "Semi-supervised semantic segmentation needs strong, varied
perturbations", BMVC 2020. torchvision's ``v2.CutMix`` mixes labels of whole images only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recamlabel.core.ranks import previous_row


def draw_boxes(count: int, height: int, width: int, share: float) -> Tensor:
    """Where each image of a batch takes its neighbour's pixels, drawn from torch's generator.

    A box has the image's aspect and a share of its area that is uniform between 0 and 1, as the paper's
    Beta(1, 1); it lies wholly inside.

    Args:
        count: Images in the batch.
        height: Rows of an image.
        width: Columns.
        share: Probability, 0 to 1, that an image gets a box at all.

    Returns:
        ``(count, height, width) bool`` on the CPU.

    Example:
        >>> draw_boxes(2, 4, 4, share=0.0).any().item()
        False
    """
    boxes = torch.zeros(count, height, width, dtype=torch.bool)
    for box, (chance, area, top, left) in zip(boxes, torch.rand(count, 4).tolist(), strict=True):
        if chance < share:
            tall, wide = round(height * area**0.5), round(width * area**0.5)
            y, x = int(top * (height - tall + 1)), int(left * (width - wide + 1))
            box[y : y + tall, x : x + wide] = True
    return boxes


def paste(values: Tensor, boxes: Tensor) -> Tensor:
    """Values of the batch's image before, where the boxes are; the first image takes the last one's.

    Where a batch is spread over several processes, the image before a part's first one is with another of them.

    Args:
        values: ``(B, H, W)`` or ``(B, C, H, W)`` of any dtype; H and W may be 1 where all pixels share a value.
        boxes: ``(B, H, W) bool``, on the same device.

    Returns:
        As ``values``, with the boxes' H and W.

    Example:
        >>> paste(torch.tensor([[[1, 1]], [[2, 2]]]), torch.tensor([[[True, False]], [[False, False]]])).tolist()
        [[[2, 1]], [[2, 2]]]
    """
    before = torch.cat([previous_row(values), values[:-1]])
    return torch.where(boxes if values.dim() == 3 else boxes[:, None], before, values)
