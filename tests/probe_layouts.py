"""Probe sets for the tests of their readers: copies of the samples in ``datasets/``, and a few drawn here.

Photos are 8 pixels wide and 6 high; masks are made of the blocks given, the rest is ``ground``.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from explain.data import recipe_path

SIZE = (6, 8)

SAMPLES = {
    "broden": "broden/sample",
    "sceneparsing": "ade20k/sample",
    "ade_2016": "ade20k/sample-2016",
    "ade_2021": "ade20k/sample-2021",
    "coco_stuff": "coco-stuff/sample",
    "coco_panoptic": "coco-panoptic/sample",
    "coco_stuff_maps": "coco-stuff/sample-maps",
    "cityscapes": "cityscapes/sample",
    "camvid": "camvid/sample",
    "camvid_32": "camvid/sample-32",
    "camvid_701": "camvid/sample-701",
    "dtd": "dtd/sample",
    "celeba": "celeba/sample",
    "cub_attributes": "cub/sample-attributes",
    "pascal_part": "pascal-part/sample",
    "pascal_context": "pascal-context/sample",
    "pascal_context_59": "pascal-context/sample-59",
}
"""The layouts that are samples; ``voc``, ``coco`` and ``attributes`` are drawn by the functions below."""


def lay_out(name: str, root: Path) -> None:
    """Put the files of a layout into a folder, beside what is there."""
    if name in SAMPLES:
        recipe, _, sample = SAMPLES[name].partition("/")
        shutil.copytree(recipe_path(recipe) / sample, root, dirs_exist_ok=True)
    else:
        {"voc": voc, "coco": coco, "attributes": attributes}[name](root)


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def photo(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def ids(*blocks, ground=0, size=SIZE):
    """Return a mask: each block is ``(id, x0, y0, x1, y1)``, half-open; later ones lie over earlier ones."""
    mask = np.full(size, ground, np.int64)
    for value, x0, y0, x1, y1 in blocks:
        mask[y0:y1, x0:x1] = value
    return mask


def png(path, mask, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask.astype(np.uint8))
    if palette:
        picture.putpalette([value % 256 for value in range(768)])
    picture.save(path)


def voc(root: Path) -> None:
    text(root / "ImageSets/Segmentation/train.txt", "2007_000001")
    text(root / "ImageSets/Segmentation/val.txt", "2007_000002")
    text(root / "ImageSets/Segmentation/trainval.txt", "2007_000001", "2007_000002")
    for name in ("2007_000001", "2007_000002", "2007_000003"):
        photo(root / f"JPEGImages/{name}.jpg")
    png(root / "SegmentationClass/2007_000001.png", ids((255, 0, 0, 4, 4), (8, 1, 1, 3, 3)), palette=True)
    png(root / "SegmentationClass/2007_000002.png", ids((15, 4, 0, 8, 6)), palette=True)


COCO_IMAGES = [
    {"id": 7, "file_name": "000000000007.jpg", "height": 6, "width": 8},
    {"id": 3, "file_name": "000000000003.jpg", "height": 6, "width": 8},
]


def _coco(root, kind, annotations, categories):
    data = {"images": COCO_IMAGES, "annotations": annotations, "categories": categories}
    text(root / f"annotations/{kind}_val2017.json", json.dumps(data))
    for image in COCO_IMAGES:
        photo(root / "val2017" / image["file_name"])


def coco(root: Path) -> None:
    """A cat, a dog that overlaps it, a second cat as a crowd; the other image shows nothing."""
    runs = ids((1, 6, 0, 8, 2)).T.ravel()
    counts = [36, 2, 4, 2, 4]
    assert np.array_equal(np.repeat([0, 1, 0, 1, 0], counts), runs)
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 17, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], "bbox": [0, 0, 4, 4]},
        {"id": 2, "image_id": 7, "category_id": 18, "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]], "bbox": [2, 2, 4, 4]},
        {
            **{"id": 3, "image_id": 7, "category_id": 17, "iscrowd": 1, "bbox": [6, 0, 2, 2]},
            "segmentation": {"size": [6, 8], "counts": counts},
        },
    ]
    categories = [
        {"id": 18, "name": "dog", "supercategory": "animal"},
        {"id": 17, "name": "cat", "supercategory": "animal"},
    ]
    _coco(root, "instances", annotations, categories)


def attributes(root: Path) -> None:
    text(
        root / "attributes.csv",
        "image,split,has_stripes,furry,note",
        "a.png,train,1,0,first",
        "b.png,test,1,1,second",
    )
    for name in "ab":
        photo(root / f"images/{name}.png")
