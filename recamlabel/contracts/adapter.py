"""The contract of label formats (``recamlabel.adapters``)."""

from __future__ import annotations

from pathlib import Path

from recamlabel.adapters.base import Adapter, Dataset
from recamlabel.adapters.config import AdapterOptions
from recamlabel.contracts.base import require, snapshot
from recamlabel.errors import DatasetError


def check_adapter(adapter: Adapter, source: Path) -> Dataset:
    """Read a sound data set with an adapter, and check what every adapter promises.

    Args:
        adapter: An instance.
        source: A data set without a fault in the adapter's format, alone in its folder, with two or more classes.

    Returns:
        What was read, for checks of your own.

    Raises:
        ContractError: A promise is not kept: it names itself and recognises the source; raises DatasetError where there
            is nothing; reads the same twice; finds no problem; ids are unique, relative and say where the image is;
            names of labels are classes; classes that are given keep their order; nothing is written.

    Example:
        >>> from tempfile import mkdtemp
        >>> from recamlabel.adapters import get_adapter
        >>> folder = Path(mkdtemp())
        >>> for name in ("a.jpg", "b.jpg"):
        ...     (folder / name).touch()
        >>> _ = (folder / "labels.csv").write_text("image,labels\\na.jpg,cat\\nb.jpg,dog\\n")
        >>> len(check_adapter(get_adapter("csv"), folder / "labels.csv"))
        2
    """
    require(isinstance(adapter.name, str) and adapter.name, "name is a text, as the entry point is called")
    require(isinstance(adapter.description, str) and adapter.description, "description says what is read")
    _detects(adapter, source)
    before = snapshot(source.parent)
    dataset = adapter.read(source, AdapterOptions())
    require(isinstance(dataset, Dataset), f"read gives a Dataset, found {type(dataset).__name__}")
    require(dataset == adapter.read(source, AdapterOptions()), "read gives the same twice")
    require(snapshot(source.parent) == before, "nothing is written or changed in the data set's folder")
    require(not dataset.problems, f"a sound data set has no problem, found {[*map(str, dataset.problems)]}")
    require(dataset.adapter == adapter.name, f"the Dataset names its adapter, found {dataset.adapter!r}")
    _images(dataset)
    turned = tuple(reversed(dataset.classes.names))
    again = adapter.read(source, AdapterOptions(classes=turned))
    require(again.classes.names == turned, f"options.classes keep their order, found {again.classes.names}")
    return dataset


def _detects(adapter: Adapter, source: Path) -> None:
    missing = source.with_name("no such file or folder")
    for path in (missing, source):
        try:
            reason = adapter.detect(path)
        except Exception as error:
            require(False, f"detect never raises, found {type(error).__name__}: {error}")
        require(reason is None or isinstance(reason, str), "detect gives a reason as text, or None")
        require(bool(reason) == (path == source), f"detect({path.name!r}) says why for what it reads, else None")
    try:
        adapter.read(missing, AdapterOptions())
    except DatasetError as error:
        require(missing.name in str(error), "the message of a DatasetError names the place")
    except Exception as error:
        require(False, f"read raises DatasetError where there is nothing, found {type(error).__name__}: {error}")
    else:
        require(False, "read raises DatasetError where there is nothing")


def _images(dataset: Dataset) -> None:
    require(len(dataset) > 0, "the data set's images are read")
    ids = [image.id for image in dataset.images]
    require(len(set(ids)) == len(ids), "ids are unique")
    names = set(dataset.classes.names)
    for image in dataset.images:
        require(image.path.is_file(), f"paths are those of the image files, found {image.path}")
        place = image.path.relative_to(dataset.root).with_suffix("").as_posix()
        require(place == image.id, f"an id is the path below the root without extension: {place!r}, found {image.id!r}")
        require(image.present | image.absent <= names, f"labels are among the classes, found {sorted(image.present)}")
