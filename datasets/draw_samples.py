"""Draw the samples of the published formats anew: ``python draw_samples.py [FOLDER]``.

Every sample is a few tiny files of our own making in the layout of a data set of the field; the tests of the readers
run on them. All numbers stand here, and once more, as expected values, in the tests. Labelled images with boxes are
drawn here, probe sets in ``draw_probe_samples.py``, lists and sentences in ``draw_listed_samples.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1, half-open"""

_GROUND = ((120, 150, 90), (90, 130, 170), (180, 170, 140), (110, 110, 125))
_PAINT = ((200, 60, 50), (240, 200, 60), (60, 70, 160), (235, 235, 230))


def photo(path: Path, size: tuple[int, int], objects: Sequence[Rectangle], number: int = 0) -> None:
    """Write a JPEG of ``size = (height, width)`` with coloured rectangles."""
    pixels = np.empty((*size, 3), np.uint8)
    pixels[:] = _GROUND[number % len(_GROUND)]
    for place, (x0, y0, x1, y1) in enumerate(objects):
        pixels[y0:y1, x0:x1] = _PAINT[(number + place) % len(_PAINT)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="JPEG", quality=85)


def ids(size: tuple[int, int], *regions: tuple[int, Rectangle], ground: int = 0) -> NDArray[np.int64]:
    """Return a picture of ids: later regions lie over earlier ones."""
    picture = np.full(size, ground)
    for value, (x0, y0, x1, y1) in regions:
        picture[y0:y1, x0:x1] = value
    return picture


def png(path: Path, pixels: NDArray[np.integer], *, palette: bool = False, bits: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels.astype(np.uint8))
    if palette:
        picture.putpalette([value for index in range(256) for value in (index * 67 % 256, index * 29 % 256, index)])
    if bits == 1:
        picture = Image.fromarray(pixels > 0)
    picture.save(path, optimize=True)


def text(path: Path, *lines: str, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + end, encoding="utf-8")


def xml(path: Path, name: str, size: tuple[int, int], objects: Sequence[tuple[str, Rectangle, int]]) -> None:
    """Write an annotation in the style of Pascal VOC; boxes stand there as they are given."""
    height, width = size
    lines = [
        *("<annotation>", f"\t<folder>{path.parent.name}</folder>", f"\t<filename>{name}</filename>", "\t<size>"),
        *(f"\t\t<width>{width}</width>", f"\t\t<height>{height}</height>", "\t\t<depth>3</depth>", "\t</size>"),
        "\t<segmented>0</segmented>",
    ]
    for label, edges, difficult in objects:
        lines += ["\t<object>", f"\t\t<name>{label}</name>", f"\t\t<difficult>{difficult}</difficult>", "\t\t<bndbox>"]
        names = ("xmin", "ymin", "xmax", "ymax")
        lines += [f"\t\t\t<{key}>{edge}</{key}>" for key, edge in zip(names, edges, strict=True)]
        lines += ["\t\t</bndbox>", "\t</object>"]
    text(path, *lines, "</annotation>")


def draw_ilsvrc(root: Path) -> None:
    objects = {
        1: ("n01443537", [(5, 4, 20, 17), (22, 10, 39, 29)]),
        2: ("n02123045", [(0, 0, 15, 11)]),
        3: ("n01440764", [(10, 10, 40, 30)]),  # one pixel beyond, as published boxes may be
    }
    solution = ["ImageId,PredictionString"]
    for number, (wnid, boxes) in objects.items():
        name = f"ILSVRC2012_val_{number:08d}"
        drawn = [(x0, y0, x1 + 1, y1 + 1) for x0, y0, x1, y1 in boxes]
        photo(root / f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG", (30, 40), drawn, number)
        annotation = root / f"ILSVRC/Annotations/CLS-LOC/val/{name}.xml"
        xml(annotation, name, (30, 40), [(wnid, box, 0) for box in boxes])
        solution.append(f"{name}," + "".join(f"{wnid} {' '.join(map(str, box))} " for box in boxes))
    text(root / "LOC_val_solution.csv", *solution)
    names = ("n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus", "n02123045 tabby, tabby cat")
    text(root / "LOC_synset_mapping.txt", *names)


def wsol(
    root: Path, name: str, sizes: dict[str, tuple[int, int]], labels: Sequence[int], truth: Sequence[str], sized: bool
) -> None:
    """Write the four files of wsolevaluation, without a newline after the last line."""
    folder = root / "metadata" / name / "val"
    text(folder / "image_ids.txt", *sizes, end="")
    text(folder / "class_labels.txt", *(f"{key},{label}" for key, label in zip(sizes, labels, strict=True)), end="")
    rows = [f"{key},{width},{height}" for key, (height, width) in sizes.items()]
    text(folder / "image_sizes.txt", *(rows if sized else []), end="")
    text(folder / "localization.txt", *truth, end="")


def draw_imagenetv2(root: Path) -> None:
    sizes = {"val2/0/0.jpeg": (30, 40), "val2/0/1.jpeg": (36, 24), "val2/7/0.jpeg": (30, 40)}
    boxes = {"val2/0/0.jpeg": [(0, 3, 11, 20), (20, 8, 39, 29)], "val2/0/1.jpeg": [(4, 5, 19, 30)]}
    boxes["val2/7/0.jpeg"] = [(12, 0, 30, 22)]
    rows = [f"{key},{','.join(map(str, box))}" for key, own in boxes.items() for box in own]
    wsol(root, "ILSVRC", sizes, (0, 0, 7), rows, sized=True)
    for number, (key, own) in enumerate(boxes.items()):
        drawn = [(x0, y0, x1 + 1, y1 + 1) for x0, y0, x1, y1 in own]
        photo(root / "dataset/ILSVRC" / key, sizes[key], drawn, number)


def draw_cubv2(root: Path) -> None:
    first, second = "001.Black_footed_Albatross/30000001.jpg", "002.Laysan_Albatross/30000002.jpg"
    sizes = {first: (30, 40), second: (36, 30)}
    boxes = {first: (6, 5, 30, 25), second: (10, 0, 29, 20)}  # the second touches the right border: cut to width - 1
    rows = [f"{key},{','.join(map(str, box))}" for key, box in boxes.items()]
    wsol(root, "CUB", sizes, (0, 1), rows, sized=True)
    photo(root / "dataset/CUB" / first, sizes[first], [(6, 5, 30, 25)], 0)
    photo(root / "dataset/CUB" / second, sizes[second], [(10, 0, 30, 20)], 1)


def draw_openimages30k(root: Path) -> None:
    first, second = "val/0bt_c3/00000000000000a1", "val/0138tl/00000000000000b2"
    sizes = {f"{first}.jpg": (30, 40), f"{second}.jpg": (24, 24)}
    rows = [
        f"{first}.jpg,{first}_m0bt_c3_00000001.png,{first}_ignore.png",
        f"{first}.jpg,{first}_m0bt_c3_00000002.png,",
        f"{second}.jpg,{second}_m0138tl_00000003.png,{second}_ignore.png",
    ]
    wsol(root, "OpenImages", sizes, (0, 1), rows, sized=False)
    folder = root / "dataset/OpenImages"
    photo(folder / f"{first}.jpg", (30, 40), [(4, 4, 12, 20), (20, 6, 36, 14)], 0)
    photo(folder / f"{second}.jpg", (24, 24), [(6, 6, 18, 18)], 1)
    png(folder / f"{first}_m0bt_c3_00000001.png", ids((30, 40), (255, (4, 4, 12, 20))), bits=1)
    png(folder / f"{first}_m0bt_c3_00000002.png", ids((30, 40), (255, (20, 6, 36, 14))), bits=1)
    # Ignored pixels that an instance covers count as object.
    ignored = ids((30, 40), (255, (0, 0, 8, 8)))
    png(folder / f"{first}_ignore.png", np.repeat(ignored[..., None], 3, 2))
    png(folder / f"{second}_m0138tl_00000003.png", ids((24, 24), (255, (6, 6, 18, 18))), bits=1)
    png(folder / f"{second}_ignore.png", np.zeros((24, 24, 3), np.int64))


def draw_cub(root: Path) -> None:
    birds = [
        ("001.Black_footed_Albatross/Black_Footed_Albatross_0001_1.jpg", 1, 1, (30, 40), (2, 3, 20, 18)),
        ("001.Black_footed_Albatross/Black_Footed_Albatross_0002_2.jpg", 1, 0, (30, 40), (0, 6, 24, 26)),
        ("002.Laysan_Albatross/Laysan_Albatross_0001_3.jpg", 2, 1, (36, 30), (5, 5, 25, 30)),
        ("002.Laysan_Albatross/Laysan_Albatross_0002_4.jpg", 2, 0, (36, 30), (12, 8, 30, 34)),
    ]
    for number, (name, _, _, size, box) in enumerate(birds):
        photo(root / "images" / name, size, [box], number)
        x0, y0, x1, y1 = box
        # Five annotators: all of them agree on the inner part, three on a ring, two on one more.
        agreement = ids(
            size, (102, box), (153, (x0 + 1, y0 + 1, x1 - 1, y1 - 1)), (255, (x0 + 3, y0 + 3, x1 - 3, y1 - 3))
        )
        png((root / "segmentations" / name).with_suffix(".png"), agreement)
    text(root / "images.txt", *(f"{number} {bird[0]}" for number, bird in enumerate(birds, 1)))
    text(root / "image_class_labels.txt", *(f"{number} {bird[1]}" for number, bird in enumerate(birds, 1)))
    text(root / "train_test_split.txt", *(f"{number} {bird[2]}" for number, bird in enumerate(birds, 1)))
    boxes = [(x0, y0, x1 - x0, y1 - y0) for *_, (x0, y0, x1, y1) in birds]
    rows = (f"{number} " + " ".join(f"{edge:.1f}" for edge in box) for number, box in enumerate(boxes, 1))
    text(root / "bounding_boxes.txt", *rows)
    text(root / "classes.txt", "1 001.Black_footed_Albatross", "2 002.Laysan_Albatross")


def draw_voc(root: Path) -> None:
    cats = [(1, 1, 12, 16), (15, 4, 28, 18)]
    pictures = {
        "2007_000001": ((30, 40), [("cat", cats[0], 0), ("cat", cats[1], 0), ("dog", (20, 20, 40, 30), 0)]),
        "2007_000002": ((24, 32), [("bird", (3, 2, 12, 9), 0), ("boat", (16, 10, 30, 20), 1)]),
    }
    for number, (name, (size, objects)) in enumerate(pictures.items()):
        drawn = [(box[0] - 1, box[1] - 1, box[2], box[3]) for _, box, _ in objects]
        photo(root / f"JPEGImages/{name}.jpg", size, drawn, number)
        xml(root / f"Annotations/{name}.xml", f"{name}.jpg", size, objects)
        # Each object has a border of void; classes count from 1.
        classes = {"bird": 3, "boat": 4, "cat": 8, "dog": 12}
        regions: list[tuple[int, Rectangle]] = []
        for (label, _, _), (x0, y0, x1, y1) in zip(objects, drawn, strict=True):
            regions += [(255, (x0, y0, x1, y1)), (classes[label], (x0 + 1, y0 + 1, x1 - 1, y1 - 1))]
        if number == 0:
            png(root / f"SegmentationClass/{name}.png", ids(size, *regions), palette=True)
    text(root / "ImageSets/Main/val.txt", *pictures)
    text(root / "ImageSets/Segmentation/val.txt", "2007_000001")


def packed(runs: Sequence[int]) -> str:
    """Pack run lengths as COCO does."""
    letters = []
    for place, run in enumerate(runs):
        value = run - (runs[place - 2] if place > 2 else 0)
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr(bits + (32 if more else 0) + 48))
    return "".join(letters)


def run_lengths(mask: NDArray[np.integer]) -> list[int]:
    """Return the run lengths of a mask, column by column, background first."""
    flat = np.concatenate([[0], (mask.T.ravel() > 0).astype(np.int64), [2]])
    ends = np.flatnonzero(np.diff(flat))
    return [int(run) for run in np.diff(np.concatenate([[0], ends]))]


def draw_coco(root: Path) -> None:
    photo(root / "val2017/000000000001.jpg", (30, 40), [(4, 4, 16, 20), (22, 6, 36, 24)], 0)
    photo(root / "val2017/000000000002.jpg", (24, 32), [(2, 2, 10, 12), (16, 0, 32, 8)], 1)
    whole = run_lengths(ids((30, 40), (1, (22, 6, 36, 24))))
    crowd = run_lengths(ids((24, 32), (1, (16, 0, 32, 8))))
    images = [
        {"id": 1, "file_name": "000000000001.jpg", "height": 30, "width": 40},
        {"id": 2, "file_name": "000000000002.jpg", "height": 24, "width": 32},
    ]
    square, triangle = [4, 4, 16, 4, 16, 20, 4, 20], [2.0, 2.0, 10.0, 2.0, 2.0, 12.0]
    regions = [
        (1, 18, [4.0, 4.0, 12.0, 16.0], [square], 0),
        (1, 1, [22.0, 6.0, 14.0, 18.0], {"size": [30, 40], "counts": packed(whole)}, 0),
        (2, 1, [2.0, 2.0, 8.0, 10.0], [triangle], 0),
        (2, 1, [16.0, 0.0, 16.0, 8.0], {"size": [24, 32], "counts": crowd}, 1),
        (2, 18, [16.0, 0.0, 16.0, 8.0], {"size": [24, 32], "counts": crowd}, 1),
    ]
    annotations = [
        {
            "id": 100 + number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "segmentation": shape,
            "iscrowd": c,
        }
        for number, (image, category, box, shape, c) in enumerate(regions)
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    path = root / "annotations/instances_val2017.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    text(path, "{", ",\n".join(f' "{key}": {_one_per_line(value)}' for key, value in content.items()), "}")


def _one_per_line(entries: Sequence[object]) -> str:
    return "[\n  " + ",\n  ".join(json.dumps(entry) for entry in entries) + "\n ]"


def draw_pets(root: Path) -> None:
    pets = {
        "Abyssinian_1": (1, 1, 1, (30, 40), (4, 4, 24, 22)),
        "Abyssinian_2": (1, 1, 1, (30, 40), (10, 8, 36, 28)),
        "american_bulldog_1": (2, 2, 1, (36, 30), (6, 2, 26, 30)),
    }
    for number, (name, (*_, size, box)) in enumerate(pets.items()):
        x0, y0, x1, y1 = box
        photo(root / f"images/{name}.jpg", size, [box], number)
        inner = (x0 + 2, y0 + 2, x1 - 2, y1 - 2)
        png(root / f"annotations/trimaps/{name}.png", ids(size, (3, box), (1, inner), ground=2), palette=True)
    rows = {name: f"{name} {label} {species} {breed}" for name, (label, species, breed, _, _) in pets.items()}
    text(root / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID", *rows.values())
    text(root / "annotations/test.txt", rows["Abyssinian_1"], rows["american_bulldog_1"])
    text(root / "annotations/trainval.txt", rows["Abyssinian_2"])
    head = [("cat", (13, 11, 20, 18), 0)]
    xml(root / "annotations/xmls/Abyssinian_2.xml", "Abyssinian_2.jpg", (30, 40), head)


def draw_imagenet_s(root: Path) -> None:
    first, second = "n01443537/ILSVRC2012_val_00000001", "n02123045/ILSVRC2012_val_00000002"
    photo(root / f"validation/{first}.JPEG", (30, 40), [(4, 4, 20, 20)], 0)
    photo(root / f"validation/{second}.JPEG", (24, 32), [(2, 2, 14, 16), (18, 6, 30, 20)], 1)
    pictures = {
        first: ids((30, 40), (1000, (2, 2, 22, 22)), (1, (4, 4, 20, 20))),
        second: ids((24, 32), (2, (2, 2, 14, 16)), (1, (18, 6, 30, 20))),
    }
    for name, picture in pictures.items():
        pixels = np.stack([picture % 256, picture // 256, np.zeros_like(picture)], axis=2)
        png(root / f"validation-segmentation/{name}.png", pixels)


def main() -> None:
    sys.dont_write_bytecode = True  # the wheel ships this folder
    from draw_listed_samples import LISTED_SAMPLES
    from draw_probe_samples import PROBE_SAMPLES

    parser = argparse.ArgumentParser(description="Draw the samples of the published formats.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent)
    folder = parser.parse_args().folder
    samples = {
        "ilsvrc/sample": draw_ilsvrc,
        "imagenetv2/sample": draw_imagenetv2,
        "cub/sample": draw_cub,
        "cubv2/sample": draw_cubv2,
        "openimages30k/sample": draw_openimages30k,
        "voc/sample": draw_voc,
        "coco/sample": draw_coco,
        "pets/sample": draw_pets,
        "imagenet-s/sample": draw_imagenet_s,
    }
    for name, draw in {**samples, **PROBE_SAMPLES, **LISTED_SAMPLES}.items():
        draw(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
