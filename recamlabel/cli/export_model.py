"""``recamlabel export-model``: the segmenter for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recamlabel.cli.options import run_argument
from recamlabel.cli.output import echo


def _size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    height, cross, width = value.partition("x")
    if not (cross and height.isdigit() and width.isdigit()):
        raise click.BadParameter(f"{value!r}; expected HEIGHTxWIDTH, for example 320x480")
    return int(height), int(width)


@click.command("export-model")
@run_argument
@click.option("--format", "kind", required=True, type=click.Choice(["onnx", "torchscript"]), help="File format.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="[default: RUN/segmenter.onnx or .pt]")
@click.option(
    "--size",
    default="320x320",
    show_default=True,
    callback=_size,
    metavar="HEIGHTxWIDTH",
    help="Input size, multiples of 32.",
)
def export_model(run: Path, kind: Any, out: Path | None, size: tuple[int, int]) -> None:
    """Write the segmenter of RUN as ONNX or TorchScript, checked against PyTorch.

    The model takes RGB images (batch, 3, height, width) in 0..1 and gives class probabilities
    (batch, classes + 1, height, width), background first; the class names are in the file.

    \b
    Example:
      recamlabel export-model runs/one --format onnx --size 320x480
    """
    from recamlabel.run.predict import export_segmenter

    target = out or run / f"segmenter.{'onnx' if kind == 'onnx' else 'pt'}"
    difference = export_segmenter(run, target, kind, size)
    echo(f"model: {target} (largest difference from PyTorch {difference:.1e})")
