"""COCO-Stuff's pixel maps: things and stuff of COCO 2017 in one picture of ids per image (``stuffthingmaps``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from explain.data.masks import IdTable
from explain.data.probes.assembling import Item, Vocabulary, assembled, class_table, pick_split
from explain.data.probes.sources import IdSource
from explain.data.tables import Report, refuse
from explain.types import ProbeSet

__all__ = ["is_coco_maps", "open_coco_maps"]

_SPLITS = ("train2017", "val2017")
_THINGS = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "street sign", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep"),
    *("cow", "elephant", "bear", "zebra", "giraffe", "hat", "backpack", "umbrella", "shoe", "eye glasses"),
    *("handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat"),
    *("baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "plate", "wine glass", "cup", "fork"),
    *("knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza"),
    *("donut", "cake", "chair", "couch", "potted plant", "bed", "mirror", "dining table", "window", "desk"),
    *("toilet", "door", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven"),
    *("toaster", "sink", "refrigerator", "blender", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush", "hair brush"),
)
"""COCO's categories 1 to 91, also the eleven that no picture was labelled with (street sign, hat, …)."""
_STUFF = (
    *("banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet"),
    *("ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard", "curtain"),
    *("desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other", "floor-stone", "floor-tile"),
    *("floor-wood", "flower", "fog", "food-other", "fruit", "furniture-other", "grass", "gravel", "ground-other"),
    *("hill", "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin"),
    *("net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing"),
    *("railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf", "sky-other"),
    *("skyscraper", "snow", "solid-other", "stairs", "stone", "straw", "structural-other", "table", "tent"),
    *("textile-other", "towel", "tree", "vegetable", "wall-brick", "wall-concrete", "wall-other", "wall-panel"),
    *("wall-stone", "wall-tile", "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood"),
)
"""Categories 92 to 182."""
_UNLABELLED = 255


def is_coco_maps(root: Path) -> bool:
    """Say whether ``annotations`` (or ``stuffthingmaps``) holds ``val2017/….png``, named by numbers."""
    folder = _map_folder(root)
    return any(next(_maps(folder / split), None) is not None for split in _SPLITS)


def _map_folder(root: Path) -> Path:
    unpacked = root / "stuffthingmaps"
    return unpacked if unpacked.is_dir() else root / "annotations"


def _maps(folder: Path) -> Iterator[Path]:
    """Yield the maps of a split; what others made of them beside them (``…_labelTrainIds.png``) is left out."""
    return (path for path in folder.glob("*.png") if path.stem.isdecimal())


def _image_folder(root: Path, given: str | Path | None, split: str) -> Path:
    if given is not None:
        inside = Path(given) / split
        return inside if inside.is_dir() else Path(given)
    return next((each for each in (root / "images" / split, root / split) if each.is_dir()), root / "images" / split)


def _table(words: Vocabulary) -> IdTable:
    """Return what the ids mean: a category's number less one, so that 0 is the person."""
    words.numbers(_THINGS, "object")
    words.numbers(_STUFF, "stuff")
    return class_table(words, dict(enumerate((*_THINGS, *_STUFF))), ignored=[_UNLABELLED])


def open_coco_maps(
    path: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    categories: Sequence[str] | None = None,
    report: Report = refuse,
) -> ProbeSet:
    """Open the pixel maps of COCO-Stuff (Caesar, Uijlings & Ferrari 2018), ``stuffthingmaps_trainval2017``.

    Ids are COCO's category numbers less one: things (category ``"object"``) 0 to 90, stuff (``"stuff"``) 91 to 181.
    255, unlabelled, is left out of every count.

    Parameters
    ----------
    path : str or Path
        The folder with ``annotations/val2017`` or ``stuffthingmaps/val2017`` (or ``train2017``), and the images in
        ``images/val2017`` or ``val2017``.
    split : str, optional
        ``"train2017"`` or ``"val2017"``; without it both, told apart by ``columns["split"]``.
    images, masks : str or Path, optional
        The folders of the images and of the maps where they lie elsewhere, with a folder for each split in them;
        ``images`` may also be that of the split itself.
    categories : sequence of str, optional
        ``"object"``, ``"stuff"``.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        No maps, missing images; ids and sizes when a map is read.
    """
    root = Path(path)
    folder = Path(masks) if masks is not None else _map_folder(root)
    known = [each for each in _SPLITS if next(_maps(folder / each), None) is not None]
    words = Vocabulary()
    table = _table(words)
    items = []
    for own in pick_split(split, known, folder):
        photos = _image_folder(root, images, own)
        for mask in sorted(_maps(folder / own)):
            source = IdSource(mask, table, "the list of COCO-Stuff's classes")
            image = photos / f"{mask.stem}.jpg"
            items.append(Item(name=mask.stem, image=image, where=str(mask), sources=(source,), columns={"split": own}))
    label, concepts = f"coco-stuff-maps-{split or 'all'}", words.concepts.values()
    return assembled(label, root, items, concepts, report, categories=categories)
