"""``recamlabel label``: what a finished run knows, applied to new images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from recamlabel import __version__
from recamlabel.config import Config, amend, config_from_tree
from recamlabel.core.devices import pick_device
from recamlabel.core.progress import say, track
from recamlabel.errors import ConfigError, StoreError
from recamlabel.run.label.batch import Format, Job, OnBad
from recamlabel.run.label.chain import Chain
from recamlabel.run.label.engines import Engine, here
from recamlabel.run.label.ray_engine import on_ray
from recamlabel.run.label.shards import Output
from recamlabel.run.label.source import Wanted, batches_of, read_source
from recamlabel.stages.graph import result_key
from recamlabel.storage.remote import as_url, shown

SHARD_IMAGES = 256
_NOTES = 5
EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class Options:
    """How images are labelled; see ``recamlabel label --help``.

    Attributes:
        labels: Whether the source has labels; None: where an adapter recognises it.
        engine: Who does the work.
        ray_address: Of a Ray cluster; None: one of this machine's own.
        workers: Ray: actors. Local: processes; None: as the run's settings say.
        format: Of the masks.
        shard_images: Images of a shard.
        on_bad_image: Stop at an unreadable image, or leave it out.
        device: Where networks run.
        settings: ``data.key=value``, how the labels of another source than the run's own are read.
        adapter: Label format; None: found out.
    """

    labels: bool | None = None
    engine: EngineName = "local"
    ray_address: str | None = None
    workers: int | None = None
    format: Format = "h5"
    shard_images: int = SHARD_IMAGES
    on_bad_image: OnBad = "stop"
    device: str = "auto"
    settings: Sequence[str] = ()
    adapter: str | None = None


@dataclass(frozen=True)
class Labelled:
    """What ``label`` has made.

    Attributes:
        path: The output folder.
        images: In the manifest.
        masks: Of them with a mask.
        labelled: Whether labels were known.
        done_before: Images whose shards an earlier call had finished.
    """

    path: Path
    images: int
    masks: int
    labelled: bool
    done_before: int


def label(run: Path, source: Path, out: Path, options: Options) -> Labelled:
    """Masks of new images.

    Args:
        run: A finished run; only read.
        source: A data set with labels, or an image or a folder of images; only read.
        out: New or empty folder, or that of an earlier call with the same settings, whose finished shards stay.
        options: How.

    Raises:
        RecamlabelError: Anything that is the user's to fix; finished shards are kept.
    """
    engine = _engine(options)
    if options.engine == "local":
        pick_device(options.device)
    chain = Chain.open(run, labelled=True, device=options.device)
    table = chain.origin.catalog.dataset.classes
    _refuse_inside(out, source)
    wanted = read_source(source, table, options.labels, _label_settings(chain, source, options), options.on_bad_image)
    chain = replace(chain, labelled=wanted.labelled)
    settings = _settings(chain, source, options)
    with Output.at(out, settings, table) as output:
        _tell(chain, wanted)
        key = result_key("label", {name: value for name, value in settings.items() if name not in ("source", "run")})
        batches = batches_of(wanted.images, options.shard_images, key)
        todo = output.unfinished(batches)
        done = len(wanted.images) - sum(len(batch.images) for batch in todo)
        if done:
            say(f"label: {len(batches) - len(todo)} of {len(batches)} shards are finished, skipped")
        job = Job(run.resolve(), wanted.labelled, options.format, options.on_bad_image, options.device, options.workers)
        with track("label", len(wanted.images), start=done) as advance:
            for shard in engine(job, todo):
                output.keep(shard)
                advance(len(shard.rows))
        return Labelled(out, len(wanted.images), output.write_manifest(), wanted.labelled, done)


def _engine(options: Options) -> Engine:
    if options.engine == "local":
        if options.ray_address is not None:
            raise ConfigError("--ray-address: of no use with --engine local; add --engine ray")
        return here
    return on_ray(options.workers, options.ray_address)


def _label_settings(chain: Chain, source: Path, options: Options) -> Config:
    """How labels are read: the run's own source as the run has it, another one by itself and what is set."""
    foreign = [line for line in options.settings if not line.startswith("data.")]
    if foreign:
        raise ConfigError(f"--set {foreign[0]}: label takes settings of [data] alone; all others are the run's own")
    own = chain.run.state.dataset.get("source") in (as_url(source), str(source.resolve()))
    start = config_from_tree({"preset": chain.config.preset, "data": chain.config.data.model_dump()} if own else {})
    return amend(start, options.settings, {"data.adapter": options.adapter} if options.adapter else {})


def _settings(chain: Chain, source: Path, options: Options) -> dict[str, Any]:
    """What is written beside the masks; all but source, run and software has to be the same for one folder."""
    support = chain.run.current_key("segmenter") if chain.labelled and chain.supported else None
    return {
        "run": str(chain.run.path.resolve()),
        "source": shown(source),
        "software": f"recamlabel {__version__}",
        "labels": chain.labelled,
        "stage_key": chain.stage_key(),
        "support_key": support,
        "classes": list(chain.origin.catalog.dataset.classes.names),
        "format": options.format,
        "shard_images": options.shard_images,
        "on_bad_image": options.on_bad_image,
    }


def _tell(chain: Chain, wanted: Wanted) -> None:
    for line in wanted.notes[:_NOTES]:
        say(line)
    how = "masks by their labels (maps, probe, refinement, level)" if wanted.labelled else "the segmenter's masks"
    say(f"label: {len(wanted.images)} images, {how}")
    chain.say_what_is_outdated()


def _refuse_inside(out: Path, source: Path) -> None:
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise StoreError(f"{out}: lies inside {source}, which is only read; give --out another place")
