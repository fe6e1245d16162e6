"""``recamlabel doctor``: what is here, and what to install for what."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recamlabel import __version__
from recamlabel.adapters.fiftyone.service import check_fiftyone
from recamlabel.core.devices import usable_cores
from recamlabel.errors import RecamlabelError
from recamlabel.refine.crf import pydensecrf_available

# Extra, what it is for, its packages.
EXTRAS = (
    ("export", "export to coco and yolo", ("pycocotools", "opencv-python-headless")),
    ("onnx", "export-model --format onnx, fit --sam (onnxruntime alone)", ("onnx", "onnxruntime", "onnxscript")),
    ("cluster", "label, its manifest and --engine ray", ("ray", "pyarrow")),
    ("remote", "sources at s3://, gs:// and hf://", ("fsspec", "s3fs", "gcsfs", "huggingface_hub")),
    ("huggingface", "sources huggingface:NAME and saved data sets", ("datasets", "pyarrow")),
)
PACKAGES = ("torch", "torchvision", "timm", "numpy", "h5py", "pillow", "scikit-learn", "scipy", "safetensors")
# What other packages may bring more of.
REGISTRIES = (
    "recamlabel.adapters:ADAPTERS",
    "recamlabel.maps:VARIANTS",
    "recamlabel.refine:REFINERS",
    "recamlabel.models.segmenter:SEGMENTERS",
    "recamlabel.export:FORMATS",
)
BROWSERS = ("google-chrome", "chromium", "chromium-browser", "firefox", "microsoft-edge")


@dataclass(frozen=True)
class Finding:
    """One line: what, whether it is as it should be, and how it is or what to do."""

    name: str
    good: bool
    text: str


@click.command()
def doctor() -> None:
    """List versions, devices, what works on this machine, and what to install for the rest.

    Nothing is changed, and no network is used but for a database that is configured. Always exits with 0.

    \b
    Example:
      recamlabel doctor
    """
    console = Console()
    console.print(escape(f"recamlabel {__version__}, Python {platform.python_version()}, {platform.platform()}"))
    console.print(escape(f"in {sys.prefix}"))
    for title, found in (
        ("Packages", packages()),
        ("Where it computes", devices()),
        ("Optional parts", [pydensecrf(), hed(), fiftyone(), browser(), *extras()]),
        ("Plug-ins", list(plugins()) or [Finding("none", True, "no other package brings anything (docs/plugins.md)")]),
    ):
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for one in found:
            table.add_row(escape(one.name), "ok" if one.good else "[bold]--[/bold]", escape(one.text))
        console.print(table)


def packages() -> Iterator[Finding]:
    """The packages that everything stands on."""
    for name in PACKAGES:
        found = _version(name)
        remedy = "not installed: pip install recamlabel brings it"
        yield Finding(name, found is not None, found or remedy)


def devices() -> Iterator[Finding]:
    """Processors and GPUs that PyTorch sees."""
    cores = usable_cores()
    yield Finding("CPU", True, f"{cores} cores")
    try:
        import torch
    except Exception as error:  # a broken installation raises a dozen kinds, and this is the place to say so
        yield Finding("GPU", False, f"torch cannot be imported ({_line(error)})")
        return
    if torch.version.cuda is None and not torch.cuda.is_available():
        yield Finding("GPU", False, f"torch {torch.__version__} is built for the CPU alone; the CPU is used")
    elif not torch.cuda.is_available():
        yield Finding("GPU", False, f"torch {torch.__version__} sees none (no NVIDIA GPU or driver); the CPU is used")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", True, f"{facts.name}, {facts.total_memory / 1e9:.0f} GB")


def extras() -> Iterator[Finding]:
    """The optional packages by extra."""
    for extra, purpose, names in EXTRAS:
        found = {name: _version(name) for name in names}
        missing = [name for name, number in found.items() if number is None]
        if missing:
            text = f"{purpose}: {', '.join(missing)} not installed; pip install 'recamlabel[{extra}]'"
        else:
            text = f"{purpose}: {', '.join(f'{name} {number}' for name, number in found.items())}"
        yield Finding(extra, not missing, text)


def plugins() -> Iterator[Finding]:
    """What other packages bring, imported, each with its package and version, or with what is wrong with it."""
    for place in REGISTRIES:
        module, _, attribute = place.partition(":")
        try:
            offers = getattr(importlib.import_module(module), attribute).offers()
        except Exception as error:  # where torch is broken, which is said above
            yield Finding(attribute.lower(), False, f"cannot be listed ({_line(error)})")
            continue
        for one in offers:
            text = f"{one.fault} ({one.package})" if one.fault else f"{one.package}, {one.value}"
            yield Finding(f"{one.kind} {one.name}", not one.fault, text)


def pydensecrf() -> Finding:
    """Whether the dense CRF can be run by the package pydensecrf2 as well as by PyTorch."""
    if pydensecrf_available():
        return Finding("pydensecrf", True, "the second backend of the dense CRF: refine.crf.backend=pydensecrf works")
    text = "not installed, and not needed: PyTorch gives the same labels"
    return Finding("pydensecrf", False, text)


def hed() -> Finding:
    """Whether the weights of HED are here; nothing of their package is imported."""
    try:
        from recamlabel.refine.hed import hed_file

        return Finding("HED", True, f"boundaries without training, refine.edges=hed: {hed_file()}")
    except Exception as error:  # also where torch is broken, which is said above
        return Finding("HED", False, f"boundaries without training: {_line(error)}")


def fiftyone() -> Finding:
    """Whether FiftyOne and its MongoDB could start; FiftyOne is not imported."""
    try:
        found = check_fiftyone()
    except RecamlabelError as error:
        return Finding("FiftyOne", False, f"recamlabel review, sources fiftyone:NAME: {error}")
    return Finding("FiftyOne", True, f"recamlabel review, sources fiftyone:NAME: {found.version}, {found.database}")


def browser() -> Finding:
    """Whether there is a browser to show the App and the report in."""
    import webbrowser

    known = next((name for name in BROWSERS if shutil.which(name)), None)
    if known:
        return Finding("browser", True, str(shutil.which(known)))
    try:
        return Finding("browser", True, webbrowser.get().__class__.__name__)
    except webbrowser.Error:
        text = "none found; recamlabel review --no-browser, and from another machine ssh -L 5151:localhost:5151"
        return Finding("browser", False, text)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
