"""MMSegmentation 1.x: image and annotation folders by split, and a dataset config that fits them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from recamlabel.core.classes import MAX_CLASSES_8BIT
from recamlabel.errors import StoreError
from recamlabel.export.base import ImageMode, Item, Kind, Mask, Naming, Plan, Reading
from recamlabel.export.encode.pngs import PALETTE, opencv_readings, pillow_reading
from recamlabel.export.safe_names import refuse_hidden
from recamlabel.storage.atomic import write_text
from recamlabel.storage.png import save_mask

CONFIG = "dataset_config.py"

_HEAD = '''\
# MMSegmentation 1.x data set of {images} images, written by recamlabel.
# Use it as a base: _base_ = ['{folder}/dataset_config.py', ...]
data_root = """{{{{ fileDirname }}}}"""
metainfo = dict(
    classes={classes},
    palette={palette},
)
num_classes = {count}  # with the background; 255 in a mask is ignored
crop_size = (512, 512)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
'''

_LOADERS = """
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset={train},
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset={val},
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
"""

_DATASET = """dict(
    type='BaseSegDataset',
    data_root=data_root,
    data_prefix=dict(img_path={image_dir!r}, seg_map_path={mask_dir!r}),
    img_suffix={suffix!r},
    seg_map_suffix='.png',
    metainfo=metainfo,
    reduce_zero_label=False,
    ignore_index=255,
    pipeline={pipeline},
)"""


class MmsegFormat:
    """``img_dir/<split>``, ``ann_dir/<split>`` (mode L) and ``dataset_config.py``."""

    name = "mmseg"
    description = "MMSegmentation 1.x: img_dir, ann_dir (mode L PNG), dataset_config.py with classes and palette"
    kind: Kind = "index"
    naming: Naming = "nested"
    max_classes = MAX_CLASSES_8BIT
    image_modes: tuple[ImageMode, ...] = ("link", "copy", "none")

    def check(self, plan: Plan) -> None:
        """MMSegmentation finds images by extension and leaves out hidden ones."""
        refuse_hidden(self.name, (item.name for item in plan.items))
        bare = next((item for item in plan.items if not item.path.suffix), None)
        if bare is not None:
            raise StoreError(f"{bare.path}: no extension, by which MMSegmentation finds images; add one such as .jpg")

    def write(self, plan: Plan, folder: Path, masks: Iterator[tuple[Item, Mask]]) -> list[str]:
        """Write masks, then the config."""
        for item, mask in masks:
            save_mask(folder / self._mask_path(item), mask)
        write_text(folder / CONFIG, _config(plan))
        if plan.validation_subset() is None:
            return ["no validation split: the config validates on the training images; --val 0.2 sets some aside"]
        return []

    def image_path(self, item: Item) -> str:
        """Below ``img_dir/<split>``."""
        return f"img_dir/{item.subset}/{item.image_name}"

    def label_files(self, item: Item) -> Sequence[str]:
        """The mask."""
        return [self._mask_path(item)]

    def readings(self, plan: Plan, folder: Path, items: Sequence[Item]) -> Iterator[Reading]:
        """With Pillow and OpenCV, the two image backends of MMCV."""
        compile((folder / CONFIG).read_text(encoding="utf-8"), str(folder / CONFIG), "exec")
        yield pillow_reading("ann_dir", folder, items, self._mask_path)
        yield from opencv_readings("ann_dir", folder, items, self._mask_path)

    def _mask_path(self, item: Item) -> str:
        return f"ann_dir/{item.subset}/{item.name}.png"


def _config(plan: Plan) -> str:
    names = tuple(plan.class_names)
    train = plan.training_subset()
    head = _HEAD.format(
        images=len(plan.items),
        folder="/path/to/this/folder",
        classes=names,
        palette=PALETTE[: len(names)].tolist(),
        count=len(names),
    )
    loaders = _LOADERS.format(
        train=_dataset(plan, train, "train_pipeline"),
        val=_dataset(plan, plan.validation_subset() or train, "test_pipeline"),
    )
    return head + loaders


def _dataset(plan: Plan, subset: str, pipeline: str) -> str:
    """The config of one split; a concatenation where its images have several extensions."""
    suffixes = sorted({item.path.suffix for item in plan.subsets[subset]})
    parts = [
        _DATASET.format(image_dir=f"img_dir/{subset}", mask_dir=f"ann_dir/{subset}", suffix=suffix, pipeline=pipeline)
        for suffix in suffixes
    ]
    text = parts[0] if len(parts) == 1 else f"dict(type='ConcatDataset', datasets=[{', '.join(parts)}])"
    return text.replace("\n", "\n    ")
