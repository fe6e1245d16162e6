"""The command line's verbs as functions: the same work, the same settings, results as objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recamlabel.api.runs import Run, open_run
from recamlabel.config import Config, load_config
from recamlabel.core.events import Listener, listening
from recamlabel.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from recamlabel.export import ExportResult
    from recamlabel.run.check import CheckReport

PathLike = str | Path


def check(
    source: PathLike,
    *,
    preset: str = "quick",
    config: PathLike | Config | None = None,
    settings: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Read all labels and decode all images; the same as ``recamlabel check``. Nothing is written.

    Args:
        source: Label file or folder.
        preset, config, settings: As for :func:`fit`.

    Returns:
        What is there: ``report.ok`` tells whether :func:`fit` would accept it, ``report.problems``, ``report.warnings``
        and ``report.refusals`` what is wrong, ``report.as_dict()`` all of it.

    Raises:
        DatasetError: The source cannot be read at all.

    Example:
        >>> import recamlabel
        >>> report = recamlabel.check("photos")  # doctest: +SKIP
        >>> report.ok, report.warnings  # doctest: +SKIP
        (True, [])
    """
    from recamlabel.run.check import examine

    return examine(Path(source), _config(preset, config, settings))


def fit(
    source: PathLike,
    out: PathLike,
    *,
    preset: str = "quick",
    config: PathLike | Config | None = None,
    settings: Mapping[str, Any] | None = None,
    callbacks: Sequence[Listener] = (),
) -> Run:
    """Turn image labels into pixel masks; the same as ``recamlabel fit``.

    A script that calls this needs ``if __name__ == "__main__":`` around the call, because
    the dense CRF runs in worker processes.

    Args:
        source: Label file or folder.
        out: Run folder: new, empty, or an earlier run, which continues.
        preset: ``"quick"``, ``"paper"`` or ``"foundation"``.
        config: A TOML file, or a finished :class:`~recamlabel.config.Config`, which replaces the preset.
        settings: Dotted keys to values, such as ``{"masks.threshold": 0.5, "seed": 3}``.
        callbacks: Called with every event of the run, a dictionary with ``stage`` and ``event`` (``start``, ``step``
            with the losses, ``finish``); :mod:`recamlabel.callbacks` has those of TensorBoard, MLflow and W&B. One
            that fails is left out, and the run goes on.

    Returns:
        The run, opened.

    Raises:
        RecamlabelError: Anything that is the user's to fix.

    Example:
        >>> import recamlabel
        >>> run = recamlabel.fit("photos/labels.csv", "runs/one")  # doctest: +SKIP
    """
    from recamlabel.run.fit import fit as run_stages

    with listening(callbacks):
        run_stages(Path(source), Path(out), _config(preset, config, settings))
    return open_run(out)


def predict(
    run: PathLike | Run,
    images: PathLike,
    out: PathLike,
    *,
    crf: bool | None = None,
    probabilities: bool = False,
    overlays: bool = True,
    device: str = "auto",
) -> Path:
    """Masks of an image or a folder of images by a run's segmenter; the same as ``recamlabel predict``.

    Args:
        run: A run whose segmenter is trained.
        images: An image file or a folder; only read. For an array see :meth:`recamlabel.Run.predict`.
        out: New or empty folder.
        crf: Smooth with the dense CRF, or not; None: as the run's masks.
        probabilities: Also write ``probabilities.h5``.
        overlays: Also write an overlay of every mask and ``index.html``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns:
        ``out``, with ``masks/*.png``, ``masks.h5``, ``classes.txt``.

    Raises:
        RecamlabelError: Anything that is the user's to fix; nothing is written then.
    """
    from functools import partial

    from recamlabel.review.predicted import PredictionPage
    from recamlabel.run.predict import predict as run_predict

    path = path_of(run)
    look = partial(PredictionPage, origin=str(path)) if overlays else None
    run_predict(path, Path(images), Path(out), crf=crf, keep_probabilities=probabilities, device=device, look=look)
    return Path(out)


def label(run: PathLike | Run, source: PathLike, out: PathLike, **options: Any) -> Path:
    """Masks of new images, by their labels where they have some; the same as ``recamlabel label``.

    Args:
        run: A finished run; only read.
        source: A data set with labels, or an image or a folder of images, also at an address (``s3://…``); only read.
        out: New or empty folder, or that of an earlier call with the same settings, which continues.
        options: ``labels``, ``engine``, ``ray_address``, ``workers``, ``format``, ``shard_images``, ``on_bad_image``,
            ``device``, ``settings``, ``adapter``: see :class:`recamlabel.run.label.verb.Options`.

    Returns:
        ``out``, with ``manifest.parquet``, ``classes.txt`` and ``shards/*.h5`` or ``masks/*.png``.

    Raises:
        RecamlabelError: Anything that is the user's to fix; finished shards are kept.
    """
    from recamlabel.run.label.verb import Options
    from recamlabel.run.label.verb import label as run_label

    return run_label(path_of(run), Path(source), Path(out), Options(**options)).path


def export(run: PathLike | Run, format: str, out: PathLike, **options: Any) -> ExportResult:
    """Write the masks of a run in another format, checked by reading it back; the same as ``recamlabel export``.

    Args:
        run: A run with masks.
        format: ``"voc"``, ``"mmseg"``, ``"coco"``, ``"yolo"``, ``"huggingface"``, ``"cvat"``, ``"labelstudio"``,
            ``"hdf5"`` or a plug-in's.
        out: New or empty folder outside of the data set and the run.
        options: ``what``, ``splits``, ``only``, ``ids``, ``on_changed``, ``images``, ``options``, ``check``: see
            :func:`recamlabel.export.export_run`.

    Returns:
        ``result.path``, ``result.images``, ``result.notes``, ``result.checks``.
    """
    from recamlabel.export import export_run

    folder = RunFolder.open(path_of(run))
    with folder.lock(reading=True):
        return export_run(folder, format, Path(out), **options)


def report(
    run: PathLike | Run, *, truth: PathLike | None = None, images: int | None = 200, side: int | None = None
) -> Path:
    """Write ``report.html``, the page to review and repair masks on; the same as ``recamlabel report``.

    Args:
        run: A run in any state.
        truth: Folder of true masks to show beside the masks.
        images: Images on the page, the most doubtful first; None: all.
        side: Longer side of the embedded pictures in pixels.

    Returns:
        Path of the page.
    """
    from recamlabel.review.page.gallery import SIDE
    from recamlabel.review.page.report import write_report

    return write_report(RunFolder.open(path_of(run)), maybe(truth), images, None, side or SIDE)


def review(
    run: PathLike | Run, *decisions: PathLike, take: str | None = None, say: Callable[[str], None] = print
) -> Run:
    """Take in what a reviewer decided; the same as ``recamlabel review RUN --import``.

    Args:
        run: A run with masks.
        decisions: ``decisions.json`` of the page, or exports of CVAT, Label Studio, or folders of index PNGs.
        take: Where they disagree: ``"first"``, ``"last"`` or a file; None: refuse.
        say: Told what was taken in, a line each.

    Returns:
        The run, opened anew; ``run[id].decision`` and ``run[id].reviewed_mask`` have what was decided.

    Raises:
        RecamlabelError: A file of another run, or files that disagree.

    Example:
        >>> run = recamlabel.review("runs/one", "decisions.json")  # doctest: +SKIP
    """
    from recamlabel.review.decisions.take_in import import_decisions

    folder = RunFolder.open(path_of(run))
    with folder.lock():
        result = import_decisions(folder, [Path(path) for path in decisions], take=take)
    for line in result.lines():
        say(line)
    return open_run(folder.path)


def path_of(run: PathLike | Run) -> Path:
    return run.path if isinstance(run, Run) else Path(run)


def maybe(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _config(preset: str, config: PathLike | Config | None, settings: Mapping[str, Any] | None) -> Config:
    if not isinstance(config, Config):
        return load_config(preset, maybe(config), overrides=dict(settings) if settings else None)
    if settings:
        raise TypeError("give settings or a finished Config, not both")
    return config
