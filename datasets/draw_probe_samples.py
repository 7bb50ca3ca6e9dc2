"""Draw the samples of the probe sets: called by ``draw_samples.py``.

Photos are 8 pixels wide and 6 high; masks are made of the blocks given, the rest is ``ground``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from draw_samples import png, text
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

SIZE = (6, 8)

Mask = NDArray[np.int64]
Block = tuple[int, int, int, int, int]


def mat(path: Path, content: dict[str, Any]) -> None:
    """Write a MATLAB file whose header holds no date, so that it is the same every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content, do_compression=True)
    written = path.read_bytes()
    path.write_bytes(b"MATLAB 5.0 MAT-file, drawn for tests".ljust(116) + written[116:])


def photo(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def ids(*blocks: Block, ground: int = 0, size: tuple[int, int] = SIZE) -> Mask:
    """Return a mask: each block is ``(id, x0, y0, x1, y1)``, half-open; later ones lie over earlier ones."""
    mask = np.full(size, ground, np.int64)
    for value, x0, y0, x1, y1 in blocks:
        mask[y0:y1, x0:x1] = value
    return mask


def coded(path: Path, mask: Mask, code: Callable[[Mask], Sequence[Any]]) -> None:
    """Write a mask of ids as a colour picture; ``code`` gives red, green and blue of an array of ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = np.broadcast_arrays(*code(mask), mask)[:3]
    Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(path)


def red_green(mask: Mask) -> tuple[Any, ...]:
    return mask % 256, mask // 256, 0


def red_green_blue(mask: Mask) -> tuple[Any, ...]:
    return mask % 256, mask // 256 % 256, mask // 65536


def ade_code(mask: Mask) -> tuple[Any, ...]:
    """Class codes as ADE20K writes them; blue tells instances apart, and is not read here."""
    return mask // 256 * 10, mask % 256, 7 * (mask > 0)


def broden(root: Path) -> None:
    """Labels: 1 red-c, 2 cat, 3 head, 4 street-s, 300 fur; masks have half the size of their photos.

    Label 3 covers more as a part than as an object; the columns are in another order than the published README's.
    """
    text(
        root / "index.csv",
        "image,split,ih,iw,sh,sw,part,object,color,scene,material,texture",
        "ade20k/a.jpg,train,6,8,3,4,ade20k/a_part_1.png;ade20k/a_part_2.png,ade20k/a_object.png,ade20k/a_color.png,4,,",
        "ade20k/b.jpg,val,6,8,3,4,,ade20k/b_object.png,,0,,",
        "dtd/c.jpg,val,6,8,3,4,,,,,,300;2",
    )
    text(
        root / "category.csv",
        "name,first,last,count,frequency",
        *("color,1,1,1,1", "object,2,3,2,3", "part,3,3,1,1", "scene,4,4,1,1", "texture,2,300,2,1"),
    )
    text(
        root / "label.csv",
        "number,name,category,frequency,coverage,syns",
        "1,red-c,color(1),1,0.5,",
        "2,cat,object(2);texture(1),3,1.5,cat;kitty",
        "3,head,object(1);part(1),2,0.75,",
        "4,street-s,scene(1),1,1.0,street",
        "300,fur,texture(1),1,1.0,",
    )
    text(root / "c_color.csv", "code,number,name,frequency,coverage", "1,1,red-c,1,0.5")
    text(root / "c_object.csv", "code,number,name,frequency,coverage", "1,2,cat,2,1.25", "2,3,head,1,0.25")
    text(root / "c_part.csv", "code,number,name,frequency,coverage", "1,3,head,1,0.5")
    text(root / "c_scene.csv", "code,number,name,frequency,coverage", "1,4,street-s,1,1.0")
    text(root / "c_texture.csv", "code,number,name,frequency,coverage", "1,300,fur,1,1.0", "2,2,cat,1,0.25")
    for name in ("ade20k/a.jpg", "ade20k/b.jpg", "dtd/c.jpg"):
        photo(root / "images" / name)
    small = (3, 4)
    masks = {
        "a_object": ids((2, 0, 0, 2, 3), (3, 2, 0, 4, 1), size=small),
        "a_color": ids((1, 0, 0, 4, 2), size=small),
        "a_part_1": ids((3, 0, 0, 2, 1), size=small),
        "a_part_2": ids((300, 0, 0, 1, 3), size=small),
        "b_object": ids((2, 1, 1, 3, 3), size=small),
    }
    for name, mask in masks.items():
        coded(root / f"images/ade20k/{name}.png", mask, red_green)


def sceneparsing(root: Path) -> None:
    text(
        root / "objectInfo150.txt",
        "Idx\tRatio\tTrain\tVal\tName",
        "1\t0.1576\t11664\t1172\twall",
        "2\t0.1072\t6046\t612\tbuilding, edifice",
        "3\t0.0878\t8265\t796\tscreen, silver screen",
        "4\t0.0621\t9336\t917\tscreen, CRT screen",
    )
    text(root / "sceneCategories.txt", "ADE_train_00000001 airport_terminal", "ADE_val_00000001 street")
    for split, short in (("training", "train"), ("validation", "val")):
        photo(root / f"images/{split}/ADE_{short}_00000001.jpg")
    photo(root / "images/validation/ADE_val_00000002.jpg")
    png(root / "annotations/training/ADE_train_00000001.png", ids((1, 0, 0, 8, 3), (4, 0, 3, 2, 6)))
    png(root / "annotations/validation/ADE_val_00000001.png", ids((2, 0, 0, 4, 6), ground=3))
    png(root / "annotations/validation/ADE_val_00000002.png", ids())


ADE_CLASSES = {1: "abbey, church", 2: "door", 600: "handle, grip"}


def _ade_image(folder: Path, name: str, parts: bool) -> None:
    photo(folder / f"{name}.jpg")
    coded(folder / f"{name}_seg.png", ids((1, 0, 0, 8, 4), (2, 2, 1, 4, 4)), ade_code)
    if parts:
        coded(folder / f"{name}_parts_1.png", ids((2, 0, 0, 2, 2)), ade_code)
        coded(folder / f"{name}_parts_2.png", ids((600, 0, 0, 1, 1)), ade_code)


def ade_2016(root: Path) -> None:
    _ade_image(root / "images/training/a/abbey", "ADE_train_00000001", True)
    _ade_image(root / "images/validation/outliers/b", "ADE_val_00000001", False)
    names = np.array([ADE_CLASSES.get(code, f"unused {code}") for code in range(1, 601)], object)
    present = np.zeros((600, 2))
    present[:2], present[599, 0] = 1, 3
    part = np.zeros((600, 2))
    part[1, 0], part[599, 0] = 1, 3
    index = {"objectnames": names[None], "objectPresence": present, "objectIsPart": part, "filename": "x"}
    mat(root / "index_ade20k.mat", {"index": index})


def ade_2021(root: Path) -> None:
    for split, name, place, parts in (
        ("training", "ADE_train_00000001", "urban/street", True),
        ("validation", "ADE_val_00000001", "home_or_hotel/bathroom", False),
    ):
        folder = root / "images/ADE" / split / place
        _ade_image(folder, name, parts)
        objects = [(1, 0), (2, 0), *([(2, 1), (600, 2)] if parts else [])]
        listed = [
            {"id": number, "name": ADE_CLASSES[code], "name_ndx": code, "parts": {"part_level": level}}
            for number, (code, level) in enumerate(objects)
        ]
        annotation = {"filename": f"{name}.jpg", "imsize": [6, 8, 3], "scene": ["urban", "street"], "object": listed}
        text(folder / f"{name}.json", json.dumps({"annotation": annotation}))


COCO_IMAGES = [
    {"id": 7, "file_name": "000000000007.jpg", "height": 6, "width": 8},
    {"id": 3, "file_name": "000000000003.jpg", "height": 6, "width": 8},
]


def _coco(root: Path, kind: str, annotations: Sequence[Any], categories: Sequence[Any]) -> None:
    data = {"images": COCO_IMAGES, "annotations": annotations, "categories": categories}
    text(root / f"annotations/{kind}_val2017.json", json.dumps(data))
    for image in COCO_IMAGES:
        photo(root / "val2017" / image["file_name"])


def coco_stuff(root: Path) -> None:
    annotations = [
        {"id": 1, "image_id": 3, "category_id": 157, "segmentation": {"size": [6, 8], "counts": [0, 12, 36]}},
        {"id": 2, "image_id": 3, "category_id": 183, "segmentation": {"size": [6, 8], "counts": [12, 36]}},
    ]
    categories = [
        {"id": 157, "name": "sky-other", "supercategory": "sky"},
        {"id": 183, "name": "other", "supercategory": "other"},
    ]
    _coco(root, "stuff", annotations, categories)


def coco_panoptic(root: Path) -> None:
    annotations = [
        {
            "image_id": 7,
            "file_name": "000000000007.png",
            "segments_info": [
                {"id": 3226956, "category_id": 17, "iscrowd": 0, "bbox": [0, 0, 4, 4], "area": 16},
                {"id": 70000, "category_id": 187, "iscrowd": 0, "bbox": [0, 4, 8, 2], "area": 16},
                {"id": 5, "category_id": 17, "iscrowd": 0, "bbox": [6, 0, 2, 1], "area": 2},
            ],
        }
    ]
    categories = [
        {"id": 17, "name": "cat", "isthing": 1, "supercategory": "animal"},
        {"id": 187, "name": "sky-other-merged", "isthing": 0, "supercategory": "sky"},
    ]
    _coco(root, "panoptic", annotations, categories)
    mask = ids((3226956, 0, 0, 4, 4), (70000, 0, 4, 8, 6), (5, 6, 0, 8, 1))
    coded(root / "annotations/panoptic_val2017/000000000007.png", mask, red_green_blue)


def coco_stuff_maps(root: Path) -> None:
    """The folders that COCO-Stuff's own instructions unpack to; one map with all that may stand in it."""
    for split, name in (("train2017", "000000000009"), ("val2017", "000000000139")):
        photo(root / f"images/{split}/{name}.jpg")
        mask = ids((0, 0, 0, 2, 6), (90, 2, 0, 3, 6), (91, 3, 0, 4, 6), (181, 4, 0, 6, 6), (255, 6, 0, 7, 6), ground=16)
        png(root / f"annotations/{split}/{name}.png", mask)
    png(root / "annotations/val2017/000000000139_labelTrainIds.png", ids())


def cityscapes(root: Path) -> None:
    blocks = ((0, 0, 0, 1, 6), (1, 1, 0, 2, 6), (4, 2, 0, 3, 6), (255, 3, 0, 4, 6), (33, 4, 0, 5, 6))
    for split, city in (("train", "aachen"), ("val", "lindau"), ("test", "bonn")):
        name = f"{city}_000000_000019"
        photo(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
        png(root / f"gtFine/{split}/{city}/{name}_gtFine_labelIds.png", ids(*blocks, ground=7))
        coded(root / f"gtFine/{split}/{city}/{name}_gtFine_color.png", ids(), red_green)


def camvid(root: Path) -> None:
    for split, name in (("train", "0001TP_006690"), ("test", "Seq05VD_f00000")):
        photo(root / f"{split}/{name}.png")
        png(root / f"{split}annot/{name}.png", ids((3, 0, 3, 8, 6), (11, 0, 0, 1, 6)))
        text(root / f"{split}.txt", f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png")


CAMVID_COLOURS = {"Void": (0, 0, 0), "LaneMkgsDriv": (192, 0, 64), "SUVPickupTruck": (64, 128, 192)}


def _camvid_mask(path: Path) -> None:
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:2], mask[2:5] = CAMVID_COLOURS["LaneMkgsDriv"], CAMVID_COLOURS["SUVPickupTruck"]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def camvid_32(root: Path) -> None:
    rows = [f"{name},{r},{g},{b}" for name, (r, g, b) in CAMVID_COLOURS.items()]
    text(root / "class_dict.csv", "name,r,g,b", *rows)
    photo(root / "val/0016E5_07959.png")
    _camvid_mask(root / "val_labels/0016E5_07959_L.png")


def camvid_701(root: Path) -> None:
    text(root / "label_colors.txt", *(f"{r} {g} {b}\t\t{name}" for name, (r, g, b) in CAMVID_COLOURS.items()))
    photo(root / "701_StillsRaw_full/0016E5_07959.png")
    _camvid_mask(root / "LabeledApproved_full/0016E5_07959_L.png")


def _struct(entries: Sequence[Sequence[Any]], names: Sequence[str]) -> NDArray[Any]:
    array = np.zeros((1, len(entries)), [(name, object) for name in names])
    for place, entry in enumerate(entries):
        array[0, place] = tuple(entry)
    return array


def pascal_part(root: Path) -> None:
    """A person with a head that lies inside it, and a car with two wheels; its mask has no parts at all."""
    whole = ids((1, 0, 0, 4, 6)).astype(np.uint8)
    head = ids((1, 1, 0, 3, 2)).astype(np.uint8)
    wheels = [ids((1, x, 4, x + 1, 6)).astype(np.uint8) for x in (5, 7)]
    parts = _struct([(f"wheel_{number}", mask) for number, mask in enumerate(wheels, 1)], ("part_name", "mask"))
    names = ("class", "class_ind", "mask", "parts")
    objects = _struct(
        [
            ("person", 15.0, whole, _struct([("head", head)], ("part_name", "mask"))),
            ("car", 7.0, ids((1, 5, 2, 8, 6)).astype(np.uint8), parts),
            ("car", 7.0, ids((1, 4, 5, 5, 6)).astype(np.uint8), np.zeros((0, 0))),
        ],
        names,
    )
    folder = root / "Annotations_Part"
    mat(folder / "2008_000002.mat", {"anno": {"imname": "2008_000002", "objects": objects}})
    photo(root / "JPEGImages/2008_000002.jpg")
    text(root / "ImageSets/Segmentation/val.txt", "2008_000001", "2008_000002")


def pascal_context(root: Path) -> None:
    text(root / "labels.txt", "1: accordion", "2: aeroplane", "259: mouse")
    mat(root / "trainval/2008_000002.mat", {"LabelMap": ids((259, 0, 0, 8, 3), (2, 0, 3, 4, 6)).astype(np.uint16)})
    photo(root / "JPEGImages/2008_000002.jpg")
    text(root / "val.txt", "2008_000002")


def pascal_context_59(root: Path) -> None:
    text(root / "59_labels.txt", "0: background", "1: aeroplane", "59: wood")
    png(root / "59_context_labels/2008_000002.png", ids((59, 0, 0, 8, 3)), palette=True)
    photo(root / "JPEGImages/2008_000002.jpg")


PROBE_SAMPLES = {
    "broden/sample": broden,
    "ade20k/sample": sceneparsing,
    "ade20k/sample-2016": ade_2016,
    "ade20k/sample-2021": ade_2021,
    "coco-stuff/sample": coco_stuff,
    "coco-stuff/sample-maps": coco_stuff_maps,
    "coco-panoptic/sample": coco_panoptic,
    "cityscapes/sample": cityscapes,
    "camvid/sample": camvid,
    "camvid/sample-32": camvid_32,
    "camvid/sample-701": camvid_701,
    "pascal-part/sample": pascal_part,
    "pascal-context/sample": pascal_context,
    "pascal-context/sample-59": pascal_context_59,
}
"""Where each sample lies below ``datasets/``, and what draws it."""
