"""What readers of published probe formats say of wrong input: one line, with file and line or entry."""

import json
import sys
from pathlib import Path

import numpy as np
import probe_layouts as layouts
import pytest
from PIL import Image
from scipy.io import savemat

from explain.data import check, open_data, open_probe
from explain.data.probes.mat import load_mat
from explain.errors import DataError, DependencyError


@pytest.fixture
def drawn(tmp_path):
    def draw(name):
        root = tmp_path / name
        layouts.lay_out(name, root)
        return root

    return draw


def message(function, *args, error=DataError, **options):
    with pytest.raises(error) as caught:
        function(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def labels_message(root, index=0, **options):
    return message(open_probe(root, **options).labels, index, (3, 3))


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


COCO, PANOPTIC = (f"annotations/{kind}_val2017.json" for kind in ("instances", "panoptic"))
BIRDS = "attributes/image_attribute_labels.txt"

EDITS = {
    "broden": [
        ("index.csv", "sh,sw", "sh,w", "index.csv line 1 has no column 'sw'"),
        ("index.csv", "val,6,8,3,4,,ade20k/b", "val,6,8,x,4,,ade20k/b", "index.csv line 3: sh 'x', sw '4'"),
        ("index.csv", "ade20k/b.jpg", "ade20k/z.jpg", "index.csv line 3: no image"),
        ("index.csv", "a_part_2.png", "z.png", "index.csv line 2: no mask"),
        ("index.csv", "300;2", "300;77", "index.csv line 4: texture has label 77, which"),
        ("label.csv", "4,street-s", "3,street-s", "label.csv line 5: label 3 is named twice"),
        ("label.csv", "4,street-s", "four,street-s", "label.csv line 5: number 'four' is not a whole number"),
        ("label.csv", "number,name", "n,name", "label.csv line 1 has no column 'number'"),
        ("c_object.csv", "1.25", "much", "c_object.csv line 2: coverage 'much' is not a number"),
    ],
    "sceneparsing": [
        ("objectInfo150.txt", "3\t0.0878", "x\t0.0878", "objectInfo150.txt line 4: 'x"),
        ("objectInfo150.txt", "3\t0.0878", "2\t0.0878", "objectInfo150.txt line 4: class 2 is named twice"),
        ("sceneCategories.txt", " street", "", "sceneCategories.txt line 2: 1 words where 2"),
    ],
    "ade_2021": [
        (
            "images/ADE/training/urban/street/ADE_train_00000001.json",
            '"name_ndx"',
            '"ndx"',
            "ADE_train_00000001.json does not list objects with name and name_ndx",
        ),
        (
            "images/ADE/training/urban/street/ADE_train_00000001.json",
            '{"annotation"',
            '{annotation"',
            "ADE_train_00000001.json line 1 is not valid JSON",
        ),
    ],
    "voc": [
        ("ImageSets/Segmentation/val.txt", "2007_000002", "2007_000002 1", "val.txt line 1: '2007_000002 1' is"),
        ("ImageSets/Segmentation/val.txt", "2007_000002", "2007_000001", "val.txt line 1: '2007_000001' is already in"),
        ("ImageSets/Segmentation/val.txt", "2007_000002", "2007_000003", "val.txt line 1: no mask"),
        ("ImageSets/Segmentation/val.txt", "2007_000002", "2007_000009", "val.txt line 1: no image"),
    ],
    "coco": [
        (COCO, '"category_id": 18', '"category_id": 19', "(id 2): category_id 19 is none"),
        (COCO, '"image_id": 7', '"image_id": 8', "(id 1): image_id 8 is none"),
        (COCO, '"segmentation": [[0', '"s": [[0', "(id 1) has no segmentation"),
        (COCO, "000000000003.jpg", "9.jpg", "images[1] (id 3): no image"),
        (COCO, '"categories"', '"c"', "has no list 'categories'"),
    ],
    "coco_panoptic": [
        (PANOPTIC, '"category_id": 187', '"category_id": 1', "segments_info[1]: category_id 1"),
        (PANOPTIC, '"segments_info"', '"s"', "annotations[0] has no list segments_info"),
        (PANOPTIC, "0007.png", "0008.png", "annotations[0]: no mask"),
        (PANOPTIC, '"id": 70000', '"id": 0', "segments_info[1] has no whole number"),
    ],
    "camvid": [
        ("train.txt", " /SegNet/CamVid/trainannot/0001TP_006690.png", "", "train.txt line 1: '/SegNet"),
        ("test.txt", "testannot/Seq05VD", "testannot/Seq06VD", "test.txt line 1: no mask"),
    ],
    "camvid_32": [
        ("class_dict.csv", "name,r,g,b", "name,red,g,b", "class_dict.csv line 1 has no column 'r'"),
        ("class_dict.csv", "192,0,64", "192,0,640", "class_dict.csv line 3: it does not give red"),
        ("class_dict.csv", "192,0,64", "0,0,0", "class_dict.csv line 3: colour 0 0 0 is named twice"),
    ],
    "camvid_701": [("label_colors.txt", "192 0 64", "192 0", "label_colors.txt line 2: it does not give red")],
    "dtd": [
        ("labels/val1.txt", "banded/banded_0004.jpg", "banded_0004.jpg", "val1.txt line 1: 'banded_0004.jpg' is no"),
        ("labels/val1.txt", "banded_0004", "banded_0009", "val1.txt line 1: no image"),
        ("labels/val1.txt", "banded_0004", "banded_0002", "val1.txt line 1: 'banded/banded_0002.jpg' is already in"),
    ],
    "attributes": [
        ("attributes.csv", "b.png,test,1,1", "b.png,test,1,", "attributes.csv line 3: furry '' is neither 1"),
        ("attributes.csv", "a.png", "z.png", "attributes.csv line 2: no image"),
        ("attributes.csv", "image,", "picture,", "attributes.csv line 1 has no column 'image'"),
    ],
    "celeba": [
        ("list_attr_celeba.txt", "2\n5", "3\n5", "line 1: it says 3 images, but 2 are listed"),
        ("list_attr_celeba.txt", "2\n5", "5", "line 1: CelebA's list begins with the number"),
        ("list_attr_celeba.txt", " 1 -1 -1", " 1 -1", "list_attr_celeba.txt line 4: it is not an image and 3 numbers"),
        ("list_eval_partition.txt", "jpg 2", "jpg 5", "list_eval_partition.txt line 2: '5' is neither"),
    ],
    "cub_attributes": [
        (BIRDS, "2 2 1 3", "2 9 1 3", "labels.txt line 4: '2 9 1 3 0 1.1' is no known"),
        ("images.txt", "A_0001", "Z_0001", "images.txt line 1: no image"),
    ],
    "pascal_context": [
        ("labels.txt", "2: aeroplane", "2 aeroplane", "labels.txt line 2: '2 aeroplane' is no number and name"),
        ("labels.txt", "2: aeroplane", "1: aeroplane", "labels.txt line 2: label 1 is named twice"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "name", "old", "new", "part"),
    [(layout, *each) for layout, all_of_it in EDITS.items() for each in all_of_it],
)
def test_wrong_tables(drawn, layout, name, old, new, part):
    root = drawn(layout)
    edited(root / name, old, new)
    assert part in message(open_probe, root)
    if layout != "coco":  # checked as labelled images, too, which say the same things in other words
        told = [problem for problem in check(root) if part in problem]
        assert len(told) == 1


MASKS = {
    "broden": ("images/ade20k/a_object.png", "index.csv line 2", "label.csv", (255, 255, 0), "65535"),
    "sceneparsing": (
        "annotations/training/ADE_train_00000001.png", "ADE_train_00000001.jpg", "objectInfo150.txt", 151, "151",
    ),
    "ade_2016": (
        "images/training/a/abbey/ADE_train_00000001_parts_1.png", "ADE_train_00000001_seg.png", "index_ade20k.mat",
        (250, 200, 0), "6600",
    ),
    "voc": ("SegmentationClass/2007_000001.png", "train.txt line 1", "the list of Pascal VOC's", 21, "21"),
    "coco_panoptic": (
        "annotations/panoptic_val2017/000000000007.png", "annotations[0]", "annotations[0]", (7, 1, 0), "segment 263",
    ),
    "cityscapes": (
        "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png", "labelIds.png", "the list of Cityscapes'", 34,
        "34",
    ),
    "coco_stuff_maps": (
        "annotations/train2017/000000000009.png", "000000000009.png", "the list of COCO-Stuff's", 182, "182",
    ),
    "camvid": ("trainannot/0001TP_006690.png", "train.txt line 1", "the list of CamVid's", 12, "12"),
    "camvid_32": ("val_labels/0016E5_07959_L.png", "0016E5_07959.png", "class_dict.csv", (1, 2, 3), "colour 1 2 3"),
    "pascal_context_59": ("59_context_labels/2008_000002.png", "2008_000002.png", "59_labels.txt", 2, "2"),
}  # fmt: skip


def filled(path, value, size=None):
    with Image.open(path) as picture:
        width, height = picture.size
    height, width = size or (height, width)
    pixels = np.zeros((height, width, *np.shape(value)), np.uint8)
    pixels[:] = value
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(("layout", "name", "where", "named", "value", "told"), [(k, *v) for k, v in MASKS.items()])
def test_ids_that_nothing_names(drawn, layout, name, where, named, value, told):
    root = drawn(layout)
    filled(root / name, value)
    text = labels_message(root)
    assert where in text
    assert name in text
    assert named in text
    assert f"has {told}" in text or f"has id {told}" in text
    assert text in check(root)


@pytest.mark.parametrize(("layout", "name", "where", "named", "value", "told"), [(k, *v) for k, v in MASKS.items()])
def test_masks_of_another_size(drawn, layout, name, where, named, value, told):
    root = drawn(layout)
    filled(root / name, np.zeros_like(value), (5, 8))
    text = labels_message(root)
    assert where in text
    assert name in text
    assert "is 8x5 pixels where" in text
    assert text in check(root)


@pytest.mark.parametrize(("layout", "name", "where", "named", "value", "told"), [(k, *v) for k, v in MASKS.items()])
def test_masks_that_cannot_be_read(drawn, layout, name, where, named, value, told):
    root = drawn(layout)
    (root / name).write_bytes(b"no picture")
    text = labels_message(root)
    assert where in text
    assert "cannot be read" in text
    other = "L" if np.ndim(value) else "RGB"
    Image.new(other, (8, 6)).save(root / name)
    assert f"is a {other} picture" in labels_message(root)


def test_pictures_that_cannot_be_read(drawn):
    root = drawn("voc")
    (root / "JPEGImages/2007_000001.jpg").write_bytes(b"no picture")
    assert "2007_000001.jpg cannot be opened as an image" in labels_message(root)
    assert any("2007_000001.jpg cannot be decoded" in problem for problem in check(root))


def test_coco_regions_of_another_size(drawn):
    root = drawn("coco")
    path = root / COCO
    edited(path, '"size": [6, 8]', '"size": [8, 6]')
    assert "annotations[2] (id 3): its run lengths are of [8, 6]" in labels_message(root, 1)
    data = json.loads(path.read_text())
    data["images"][0]["height"] = 7
    path.write_text(json.dumps(data))
    assert "images[0] (id 7): mask" in labels_message(root, 1)
    data["annotations"].append(7)
    path.write_text(json.dumps(data))
    assert "annotations[3] has no whole number as id" in message(open_probe, root)


def test_damaged_mat_files_are_told(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"map": np.arange(400).reshape(20, 20)}, do_compression=True)
    whole = path.read_bytes()
    savemat(path, {"map": np.arange(400).reshape(20, 20)})
    plain = path.read_bytes()
    damaged = [whole[:keep] for keep in (0, 50, 140, len(whole) - 9)]
    damaged += [whole[:200] + bytes(8) + whole[208:]]  # zlib's own checks
    damaged += [plain[:130] + b"\x20" + plain[131:], plain[:144] + b"\xae" + plain[145:], plain[:600]]
    for content in damaged:
        path.write_bytes(content)
        assert f"list line 3: {path} cannot be read" in message(load_mat, path, "map", "list line 3")


def test_mat_files_in_another_form(drawn, monkeypatch):
    root = drawn("pascal_part")
    path = root / "Annotations_Part/2008_000002.mat"
    savemat(path, {"other": 1})
    assert "has no variable 'anno' (it has: other)" in message(open_probe, root)
    path.write_bytes(b"no matrix")
    assert "2008_000002.mat cannot be read" in message(open_probe, root)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    assert "2008_000002.mat is of MATLAB's version 7.3: save it again with -v7" in message(open_probe, root)
    context = drawn("pascal_context")
    savemat(context / "trainval/2008_000002.mat", {"LabelMap": np.zeros((5, 8))})
    assert "is 8x5 pixels where 8x6" in labels_message(context)
    savemat(context / "trainval/2008_000002.mat", {"LabelMap": np.full((6, 8), 460)})
    assert "has id 460, which" in labels_message(context)
    savemat(context / "trainval/2008_000002.mat", {"LabelMap": np.zeros((6, 8, 2))})
    assert "has shape (6, 8, 2)" in labels_message(context)
    ade = drawn("ade_2016")
    savemat(ade / "index_ade20k.mat", {"index": {"filename": "x"}})
    assert "has no list objectnames" in message(open_probe, ade)
    (ade / "index_ade20k.mat").unlink()
    assert "nothing names its classes" in message(open_probe, ade)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    assert "needs scipy" in message(
        open_probe, drawn("pascal_context_59").parent / "pascal_part", error=DependencyError
    )
    assert any("needs scipy" in problem for problem in check(root))


def test_parts_of_another_size(drawn):
    root = drawn("pascal_part")
    layouts.photo(root / "JPEGImages/2008_000002.jpg", (7, 8))
    text = labels_message(root)
    assert "2008_000002.mat is 8x6 pixels where 8x7" in text
    assert "has no list ImageSets/Segmentation/test.txt" in message(open_probe, root, split="test")


@pytest.mark.parametrize(
    ("layout", "split", "part"),
    [
        ("broden", "test", "has no image of split 'test' (it has: train, val)"),
        ("sceneparsing", "val", "has no split 'val' (it has: training, validation)"),
        ("ade_2021", "val", "has no split 'val'"),
        ("voc", "best", "has no split 'best' (it has: train, val)"),
        ("coco", "train2017", "has no split 'train2017' (it has: val2017)"),
        ("cityscapes", "validation", "has no split 'validation'"),
        ("camvid", "val", "has no split 'val' (it has: train, test)"),
        ("dtd", "train", "has no list 'train' (it has: test1, test2, train1, val1)"),
        ("attributes", "val", "has no image of split 'val' (it has: train, test)"),
        ("celeba", "val", "holds no labelled image"),
        ("pascal_context", "train", "no list train.txt in"),
    ],
)
def test_unknown_splits(drawn, layout, split, part):
    assert part in message(open_probe, drawn(layout), split=split)


def test_options_and_formats(drawn, tmp_path):
    root = drawn("voc")
    assert "format 'voc' has no option 'joint', 'certainty'" in message(open_probe, root, joint=True, certainty=3)
    assert "unknown probe format 'vocs'; near: voc" in message(open_probe, root, "vocs")
    assert "has no category 'objects'; near: object (it has: object)" in message(
        open_probe, root, categories=["objects"]
    )
    assert "line 1 has no category 'sound'" in message(open_probe, drawn("broden"), categories=["sound"])
    plain = tmp_path / "plain"
    layouts.text(plain / "index.csv", "image,scene", "a.png,sea")
    layouts.photo(plain / "images/a.png")
    assert "format 'plain' has no option 'split'" in message(open_probe, plain, split="train")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "nor what tells a published probe format (broden:" in message(open_probe, empty)
    assert "probe sets: broden" in message(open_data, empty)
    assert "no folder" in message(open_probe, tmp_path / "nowhere")
    several = drawn("coco")
    (several / "annotations/instances_train2017.json").write_text("{}")
    assert "has several splits (train2017, val2017)" in message(open_probe, several)
    assert "camvid: train, trainannot" in check(empty)[0]


def test_every_problem_is_told_at_once(drawn):
    root = drawn("broden")
    edited(root / "index.csv", "ade20k/b.jpg", "ade20k/z.jpg")
    edited(root / "index.csv", "300;2", "300;77")
    filled(root / "images/ade20k/a_color.png", (9, 0, 0))
    problems = check(Path(root))
    assert len(problems) == 3
    assert [f"line {number}" in text for number, text in zip((4, 3, 2), problems, strict=True)] == [True] * 3
