"""ILSVRC2012's validation set: boxes as VOC-style XML, or as Kaggle's ``LOC_val_solution.csv``.

==============================  =========================================  ==================================
archive                         holds                                      md5, as published
==============================  =========================================  ==================================
ILSVRC2012_bbox_val_v3.tgz      ``val/ILSVRC2012_val_00000001.xml``, …     f4cd18b5ea29fe6bbea62ec9c20d80f0
ILSVRC2012_img_val.tar          ``ILSVRC2012_val_00000001.JPEG``, …        29b22e2961454d5413ddabcf34fc5622
==============================  =========================================  ==================================

Boxes are whole numbers counted from 0 whose right and lower edge is the last pixel; some lie one pixel beyond the
image, which wsolevaluation cut, and so does this reader: its boxes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explain.data.formats.assembling import FoundBox, Item, assembled, boxes_of
from explain.data.formats.lines import listed, need_folder
from explain.data.formats.vocxml import XmlImage, read_voc_xml
from explain.data.formats.wnids import ClassList, class_list, is_wnid
from explain.data.object_masks import in_threads
from explain.data.tables import Report, Row, Table, header_size, read_table, refuse
from explain.errors import DataError, near
from explain.types import LocalizationSet

__all__ = ["annotation_folder", "is_ilsvrc", "is_ilsvrc_csv", "open_ilsvrc", "open_ilsvrc_csv"]

_SOLUTION = "LOC_val_solution.csv"


@dataclass(frozen=True)
class _Labelled:
    """One image with its boxes, before classes have numbers."""

    stem: str
    wnid: str
    size: tuple[int, int]
    where: str
    boxes: tuple[tuple[tuple[float, float, float, float], str], ...]
    """Edges as published, and where they stand."""


def annotation_folder(root: Path) -> Path | None:
    """Return the folder of ``ILSVRC2012_val_….xml`` at or below ``root``; None where there is none."""
    places = ("Annotations/CLS-LOC/val", "ILSVRC/Annotations/CLS-LOC/val", "annotations", "bbox_val", "val", ".")
    folders = (root / place for place in places)
    return next((each for each in folders if next(each.glob("ILSVRC2012_val_*.xml"), None) is not None), None)


def is_ilsvrc(root: Path) -> bool:
    """Say whether a folder holds XML annotations of ILSVRC's validation set."""
    return annotation_folder(root) is not None


def is_ilsvrc_csv(root: Path) -> bool:
    """Say whether a folder holds Kaggle's ``LOC_val_solution.csv``."""
    return (root / _SOLUTION).is_file()


def _pictures_in(folder: Path) -> dict[str, Path]:
    """Return the images of a folder and of folders in it that are named by wnids, by name without ending."""
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        if is_wnid(entry.name) and entry.is_dir():
            found |= _pictures_in(entry)
        elif entry.suffix.lower() in (".jpeg", ".jpg"):
            found[entry.stem] = entry
    return found


def _pictures(root: Path, given: str | Path | None) -> tuple[Path, dict[str, Path]]:
    """Return the folder of the images, and the images; without any, the first place where they could be."""
    if given is not None:
        folder = need_folder(Path(given), "give the folder of the validation images")
        found = _pictures_in(folder)
        if not found:
            raise DataError(f"{folder} holds no JPEG, nor do folders in it named by wnids: give the images' folder")
        return folder, found
    places = ("Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val", "images", "ILSVRC2012_img_val", "val", ".")
    for folder in (root / place for place in places):
        found = _pictures_in(folder) if folder.is_dir() else {}
        if found:
            return folder, found
    return root / places[0], {}


def _own_wnid(wnids: Sequence[str], picture: Path | None, where: str) -> str:
    """Return the class of an image: that of its folder, else the only one among its boxes."""
    if picture is not None and is_wnid(picture.parent.name):
        return picture.parent.name
    if len(set(wnids)) != 1:
        raise DataError(
            f"{where} has boxes of {len(set(wnids))} classes ({listed(sorted(set(wnids)))}), and its image lies in no"
            " folder named by its wnid: sort the images into such folders"
        )
    return wnids[0]


def _from_xml(image: XmlImage, pictures: Mapping[str, Path], report: Report) -> _Labelled | None:
    stem, picture = image.path.stem, pictures.get(image.path.stem)
    if image.filename and Path(image.filename).stem != stem:
        report(f"{image.path} says that it is about {image.filename!r}: files are mixed up")
    size = image.size or (header_size(picture) if picture is not None else None)
    if size is None:
        report(f"{image.path} says no size and there is no image to take it from")
        return None
    try:
        wnid = _own_wnid([each.name for each in image.objects], picture, str(image.path))
    except DataError as error:
        report(str(error))
        return None
    boxes = tuple((each.box, image.told(each)) for each in image.objects if each.name == wnid)
    if not boxes:
        report(f"{image.path} has no box of {wnid}, the class of its image")
    return _Labelled(stem, wnid, size, str(image.path), boxes)


def _solution_boxes(table: Table, row: Row) -> list[tuple[str, tuple[float, float, float, float]]]:
    words = row.cells["PredictionString"].split()
    boxes = []
    for start in range(0, len(words), 5):
        wnid, edges = words[start], words[start + 1 : start + 5]
        if not is_wnid(wnid) or len(edges) != 4 or not all(edge.lstrip("-").isdecimal() for edge in edges):
            raise DataError(
                f"{table.where(row)}: {' '.join(words[start : start + 5])!r} is no 'wnid x0 y0 x1 y1' of whole numbers"
            )
        boxes.append((wnid, (float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3]))))
    if not boxes:
        raise DataError(f"{table.where(row)}: the image has no box")
    return boxes


def _from_csv(table: Table, row: Row, picture: Path, size: tuple[int, int], report: Report) -> _Labelled | None:
    where = table.where(row)
    try:
        boxes = _solution_boxes(table, row)
        wnid = _own_wnid([each for each, _ in boxes], picture, where)
    except DataError as error:
        report(str(error))
        return None
    own = tuple((box, f"{where}: box {','.join(f'{edge:g}' for edge in box)}") for each, box in boxes if each == wnid)
    if not own:
        report(f"{where} has no box of {wnid}, the class of its image")
    return _Labelled(row.cells["ImageId"], wnid, size, where, own)


def _finished(
    root: Path,
    labelled: Sequence[_Labelled],
    pictures: Mapping[str, Path],
    folder: Path,
    classes: ClassList,
    report: Report,
) -> LocalizationSet:
    items: list[Item] = []
    found: list[FoundBox] = []
    for each in labelled:
        if each.wnid not in classes.indices:
            report(f"{each.where}: {each.wnid} is not in {classes.source}{near(each.wnid, classes.indices, count=2)}")
            continue
        picture = pictures.get(each.stem, folder / f"{each.stem}.JPEG")
        # The published last pixel is included.
        found += [FoundBox(len(items), (x0, y0, x1 + 1, y1 + 1), told) for (x0, y0, x1, y1), told in each.boxes]
        items.append(Item(f"{each.stem}.JPEG", picture, classes.indices[each.wnid], each.size, each.where))
    boxes = boxes_of(items, found, report)
    return assembled("ilsvrc-val", root, items, boxes, report, edges="inclusive", class_names=classes.names)


def _all_wnids(labelled: Sequence[_Labelled], pictures: Mapping[str, Path]) -> set[str]:
    folders = {picture.parent.name for picture in pictures.values()}
    return {each.wnid for each in labelled} | {name for name in folders if is_wnid(name)}


def open_ilsvrc(
    path: str | Path,
    *,
    images: str | Path | None = None,
    classes: str | Path | None = None,
    report: Report = refuse,
) -> LocalizationSet:
    """Open ILSVRC2012's validation set with its boxes as XML, one file per image.

    An image's class is the wnid of its folder (``val/n01440764/….JPEG``), else the only class among its boxes; boxes
    of other classes are left out. Pictures need not be there: the XML says their sizes.

    Parameters
    ----------
    path : str or Path
        The folder that holds ``Annotations/CLS-LOC/val`` (Kaggle's layout), ``val`` or the XML files themselves.
    images : str or Path, optional
        The folder of the pictures, flat or sorted into folders named by wnids; without it, looked for in ``path``.
    classes : str or Path, optional
        All wnids in their order (``LOC_synset_mapping.txt``, ``synset_words.txt``); without it such a file in
        ``path``, else the sorted wnids of the data where these are a thousand. Class indices are torchvision's.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Images without annotation or the other way round, boxes that are empty or leave their image, an unknown
        class; with file and line.
    """
    root = need_folder(Path(path), "give the folder with ILSVRC's annotations")
    annotations = annotation_folder(root)
    if annotations is None:
        raise DataError(f"{root} has no ILSVRC2012_val_….xml: give the folder with Annotations/CLS-LOC/val or val")
    folder, pictures = _pictures(root, images)
    files = sorted(annotations.glob("*.xml"))
    labelled = [each for file in files if (each := _from_xml(read_voc_xml(file, report), pictures, report)) is not None]
    _need_pairs({file.stem for file in files}, pictures, str(annotations), folder, report)
    classes_found = class_list(classes, root, _all_wnids(labelled, pictures))
    return _finished(root, labelled, pictures, folder, classes_found, report)


def _need_pairs(stems: set[str], pictures: Mapping[str, Path], source: str, folder: Path, report: Report) -> None:
    lacking, more = sorted(stems - set(pictures)), sorted(set(pictures) - stems)
    if pictures and lacking:
        report(f"{folder} lacks {len(lacking)} of the {len(stems)} images in {source} ({listed(lacking)})")
    if more:
        report(f"{source} lacks {len(more)} of the {len(pictures)} images in {folder} ({listed(more)})")


def open_ilsvrc_csv(
    path: str | Path,
    *,
    images: str | Path | None = None,
    classes: str | Path | None = None,
    report: Report = refuse,
) -> LocalizationSet:
    """Open ILSVRC2012's validation set with its boxes in Kaggle's ``LOC_val_solution.csv``.

    The table does not say sizes, so the pictures must be there. Everything else is as in `open_ilsvrc`.

    Parameters
    ----------
    path : str or Path
        The folder that holds the table.
    images, classes : str or Path, optional
        As in `open_ilsvrc`.
    report : callable
        Told of every problem that leaves the rest readable; without it, the first one is raised.

    Raises
    ------
    DataError
        Images that the table lacks or the other way round, a cell that is no ``wnid x0 y0 x1 y1 …``, boxes that are
        empty or leave their image, an unknown class; with file and line.
    """
    root = need_folder(Path(path), f"give the folder with {_SOLUTION}")
    table = read_table(root / _SOLUTION, ["ImageId", "PredictionString"], report)
    folder, pictures = _pictures(root, images)
    if not pictures:
        raise DataError(f"{table.path} says no sizes, and there are no images in {root}: give images=, their folder")
    rows: dict[str, Row] = {}
    for row in table.rows:
        name = row.cells["ImageId"]
        if name in rows:
            report(f"{table.where(row)}: {name!r} is already on line {rows[name].line}: keep one of them")
        rows.setdefault(name, row)
    _need_pairs(set(rows), pictures, str(table.path), folder, report)
    shown = sorted(set(rows) & set(pictures))
    labelled = []
    for name, size in zip(shown, in_threads(header_size, [pictures[name] for name in shown]), strict=True):
        if size is None:
            report(f"{table.where(rows[name])}: {pictures[name]} cannot be opened as an image: replace the file")
        elif (each := _from_csv(table, rows[name], pictures[name], size, report)) is not None:
            labelled.append(each)
    classes_found = class_list(classes, root, _all_wnids(labelled, pictures))
    return _finished(root, labelled, pictures, folder, classes_found, report)
