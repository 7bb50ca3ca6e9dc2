"""Readers of published formats, each on its sample, with numbers written down by hand; and on real metadata."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import explain
from explain.data import (
    as_localization,
    blacklisted,
    check,
    open_data,
    open_localization,
    read_blacklist,
    recipe_path,
)
from explain.data.formats.catalog import FORMATS, detect
from explain.data.formats.wnids import class_list, read_class_list
from explain.data.tables import header_size
from explain.errors import DataError
from explain.nets.inputs import read_image
from explain.types import ProbeSet

PACKS = Path(__file__).resolve().parents[2].parent / "shared" / "data"

SAMPLES = {
    "ilsvrc": "ilsvrc",
    "imagenetv2": "wsol",
    "cub": "cub",
    "cubv2": "wsol",
    "openimages30k": "wsol",
    "voc": "voc",
    "coco": "coco",
    "pets": "pets",
    "imagenet-s": "imagenet-s",
    "places365": "places365",
    "sun397": "sun397",
}


def sample(name):
    return recipe_path(name) / "sample"


def copied(name, tmp_path):
    return Path(shutil.copytree(sample(name), tmp_path / name))


def message(function, *args, **options):
    with pytest.raises(DataError) as caught:
        function(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def counts(data, index):
    """How many pixels of a mask are background, object, ignored."""
    mask = data.masks(index, data.sizes[index])
    assert mask.dtype == np.uint8
    assert mask.shape == data.sizes[index]
    found = [int((mask == value).sum()) for value in (0, 1, 255)]
    assert sum(found) == mask.size
    return found


def boxes(data):
    return [each.tolist() for each in data.boxes]


@pytest.mark.parametrize(("name", "kind"), SAMPLES.items())
def test_every_sample_is_recognised_and_sound(name, kind):
    root = sample(name)
    assert detect(root).name == kind
    assert check(root) == []
    data = open_data(root)
    assert as_localization(str(root)).hash == data.hash == open_localization(root, kind).hash
    assert explain.open_data(root, "localization").names == data.names
    assert all(path.is_file() for path in data.images)
    assert [(h, w) for h, w in data.sizes] == [header_size(path) for path in data.images]
    if data.masks is not None:
        again = pickle.loads(pickle.dumps(data.masks))
        assert np.array_equal(again(0, (11, 13)), data.masks(0, (11, 13)))
    assert next(each.name for each in FORMATS if each.recognises(root)) == kind
    if kind in ("voc", "coco"):  # these label pixels, too
        assert isinstance(open_data(root, "probe"), ProbeSet)
    else:
        assert "has no index.csv" in message(open_data, root, "probe")


def test_places365(tmp_path):
    root = copied("places365", tmp_path)
    data = open_data(root)
    assert data.name == "places365-val"
    assert data.names == ("Places365_val_00000001.jpg", "Places365_val_00000002.jpg")
    assert data.classes == (2, 1)
    assert data.class_names == ("airfield", "apartment_building/outdoor", "zen_garden")
    assert boxes(data) == [[], []]
    text = "/a/airfield/00000001.jpg 0\n"
    (root / "places365_train_standard.txt").write_text(text)
    assert "has none of the folders data_256" in message(open_localization, root, split="train-standard")
    (root / "data_256/a/airfield").mkdir(parents=True)
    shutil.copy(data.images[0], root / "data_256/a/airfield/00000001.jpg")
    train = open_localization(root, split="train-standard")
    assert (train.names, train.classes) == (("a/airfield/00000001.jpg",), (0,))
    (root / "val_256").rename(tmp_path / "elsewhere")
    assert open_localization(root, split="val", images=tmp_path / "elsewhere").hash == data.hash
    assert "has no split 'test'" in message(open_localization, root, split="test")
    (root / "places365_train_standard.txt").write_text(text.replace(" 0", " 3"))
    assert "standard.txt line 1: class '3' is none of 0 to 2" in message(
        open_localization, root, split="train-standard"
    )
    (root / "categories_places365.txt").write_text("/a/airfield 0\n/z/zen_garden 2\n")
    told = message(open_localization, root, images=tmp_path / "elsewhere")
    assert "line 2: class '/z/zen_garden' has number '2' where 1 comes next" in told


def test_sun397(tmp_path):
    root = copied("sun397", tmp_path)
    data = open_data(root)
    assert data.class_names == ("abbey", "apartment_building/outdoor")
    assert data.classes == (0, 0, 1, 1)
    test = open_localization(root, split="Testing_01")
    assert test.names == (
        "a/abbey/sun_aaaulhwrhqgejnyt.jpg", "a/apartment_building/outdoor/sun_aahhhhswtvlnzwqa.jpg",
    )  # fmt: skip
    assert test.classes == (0, 1)
    assert "has no split 'Testing_02'; near: Testing_01" in message(open_localization, root, split="Testing_02")
    (root / "Partitions/Testing_01.txt").write_text(
        "/a/abbey/sun_no.jpg\n/b/bar/sun_1.jpg\n/a/abbey/sun_aaaulhwrhqgejnyt.jpg\n"
    )
    problems = check(root)
    assert len(problems) == 2
    assert "Testing_01.txt line 2: '/b/bar/sun_1.jpg' lies in no class of ClassName.txt" in problems[0]
    assert "Testing_01.txt line 1: no image" in problems[1]


def test_ilsvrc_xml():
    data = open_localization(sample("ilsvrc"))
    assert data.name == "ilsvrc-val"
    assert data.names == tuple(f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3))
    assert data.classes == (1, 2, 0)
    assert data.class_names == ("tench", "goldfish", "tabby")
    # Published 5,4,20,17 and 22,10,39,29; 0,0,15,11; 10,10,40,30: one pixel beyond, cut.
    assert boxes(data) == [[[5, 4, 21, 18], [22, 10, 40, 30]], [[0, 0, 16, 12]], [[10, 10, 40, 30]]]
    assert data.edges == "inclusive"
    assert data.masks is None


def test_ilsvrc_csv_is_the_same_set(tmp_path):
    root = copied("ilsvrc", tmp_path)
    table, xml = open_localization(root, "ilsvrc-csv"), open_localization(root)
    assert table.hash == xml.hash
    assert table.images == xml.images
    shutil.rmtree(root / "ILSVRC/Annotations")
    assert detect(root).name == "ilsvrc-csv"
    assert check(root) == []
    (root / "ILSVRC/Data").rename(tmp_path / "elsewhere")
    assert "says no sizes, and there are no images" in message(open_localization, root)
    assert open_localization(root, images=tmp_path / "elsewhere/CLS-LOC/val").hash == xml.hash


def test_ilsvrc_takes_the_class_of_the_folder_and_only_its_boxes(tmp_path):
    root = copied("ilsvrc", tmp_path)
    pictures = root / "ILSVRC/Data/CLS-LOC/val"
    file = root / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml"
    text = file.read_text()
    file.write_text(text.replace("n01443537", "n02123045", 1))
    assert "boxes of 2 classes (n01443537, n02123045), and its image lies in no folder" in message(
        open_localization, root
    )
    for number, wnid in ((1, "n02123045"), (2, "n02123045"), (3, "n01440764")):
        (pictures / wnid).mkdir(exist_ok=True)
        (pictures / f"ILSVRC2012_val_{number:08d}.JPEG").rename(pictures / wnid / f"ILSVRC2012_val_{number:08d}.JPEG")
    data = open_localization(root)
    assert data.classes == (2, 2, 0)
    assert boxes(data)[0] == [[5, 4, 21, 18]]


def test_ilsvrc_without_pictures(tmp_path):
    root = copied("ilsvrc", tmp_path)
    whole = open_localization(root)
    shutil.rmtree(root / "ILSVRC/Data")
    data = open_localization(root)
    assert (data.names, data.classes, boxes(data), data.sizes) == (
        whole.names,
        whole.classes,
        boxes(whole),
        whole.sizes,
    )
    assert data.images[0].name == "ILSVRC2012_val_00000001.JPEG"
    assert "does not exist" in message(read_image, data.images[0])
    assert check(root) == []


def test_class_lists(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("n01440764 tench, Tinca tinca\nn01443537\n")
    classes = read_class_list(path)
    assert classes.indices == {"n01440764": 0, "n01443537": 1}
    assert classes.names == ("tench", "n01443537")
    wnids = [f"n{number:08d}" for number in range(1000)]
    assert class_list(None, tmp_path, reversed(wnids)).indices["n00000007"] == 7
    assert "has 999 wnids and no LOC_synset_mapping.txt" in message(class_list, None, tmp_path, wnids[1:])
    for text, part in [
        ("n02123045 tabby\nn01440764 tench\n", "line 2: n01440764 comes after n02123045"),
        ("n01440764 tench\nn01440764 tench\n", "line 2: n01440764 is already on line 1"),
        ("tench\n", "line 1: 'tench' does not begin with a wnid"),
        ("\n", "names no class"),
    ]:
        path.write_text(text)
        assert part in message(read_class_list, path)


def test_blacklist(tmp_path):
    path = tmp_path / "ILSVRC2014_clsloc_validation_blacklist.txt"
    path.write_text("36\n3\n50000\n")
    assert "has 3 numbers where 1762 were published" in message(read_blacklist, path)
    numbers = read_blacklist(path, count=None)
    assert numbers == frozenset({36, 3, 50000})
    assert blacklisted(open_localization(sample("ilsvrc")), numbers).tolist() == [False, False, True]
    assert "is no image of ILSVRC2012's validation set" in message(
        blacklisted, open_localization(sample("cub")), numbers
    )
    for text, part in [
        ("1\n0\n", "line 2: '0' is no number of an image"),
        ("50001\n", "line 1: '50001' is no"),
        ("x\n", "line 1: 'x' is no"),
        ("7\n8\n7\n", "line 3: 7 is already on line 1"),
    ]:
        path.write_text(text)
        assert part in message(read_blacklist, path, None)
    path.write_text("".join(f"{number}\n" for number in range(1, 1763)))
    assert len(read_blacklist(path)) == 1762


def test_imagenetv2():
    data = open_localization(sample("imagenetv2"))
    assert data.name == "imagenetv2-val"
    assert data.names == ("val2/0/0.jpeg", "val2/0/1.jpeg", "val2/7/0.jpeg")
    assert data.classes == (0, 0, 7)
    assert data.sizes == ((30, 40), (36, 24), (30, 40))
    assert data.edges == "inclusive"
    assert boxes(data) == [[[0, 3, 12, 21], [20, 8, 40, 30]], [[4, 5, 20, 31]], [[12, 0, 31, 23]]]


def test_cubv2():
    data = open_localization(sample("cubv2"))
    assert data.name == "cubv2-val"
    assert data.edges == "exclusive"
    # As published; the second bird touches the border, where wsolevaluation cuts at width - 1.
    assert boxes(data) == [[[6, 5, 30, 25]], [[10, 0, 29, 20]]]
    assert data.class_names == ("Black_footed_Albatross", "Laysan_Albatross")


def test_conventions_can_be_said(tmp_path):
    root = copied("cubv2", tmp_path)
    assert boxes(open_localization(root, dataset="ilsvrc"))[0] == [[6, 5, 31, 26]]
    for path in (root / "metadata/CUB/val").iterdir():
        path.write_text(path.read_text().replace("001.", "a/").replace("002.", "b/"))
    shutil.rmtree(root / "dataset")
    assert "is an image of no data set that is known: say whose conventions hold" in message(open_localization, root)
    assert boxes(open_localization(root, dataset="cub"))[0] == [[6, 5, 30, 25]]
    assert "unknown data set 'cup'; near: cub" in message(open_localization, root, dataset="cup")


def test_metadata_are_enough(tmp_path):
    root = copied("imagenetv2", tmp_path)
    whole = open_localization(root)
    (root / "dataset").rename(tmp_path / "pictures")
    data = open_localization(root)
    assert (data.names, data.classes, boxes(data), data.sizes) == (
        whole.names,
        whole.classes,
        boxes(whole),
        whole.sizes,
    )
    assert data.images[0] == root / "dataset/ILSVRC/val2/0/0.jpeg"
    assert "does not exist" in message(read_image, data.images[0])
    assert check(root) == []
    assert open_localization(root, images=tmp_path / "pictures/ILSVRC").hash == whole.hash
    assert "has no val2/0/0.jpeg: give the folder" in message(open_localization, root, images=tmp_path)


def test_splits_of_metadata(tmp_path):
    root = copied("imagenetv2", tmp_path) / "metadata"
    shutil.copytree(root / "ILSVRC/val", root / "ILSVRC/test")
    assert "holds several splits (ILSVRC/test, ILSVRC/val)" in message(open_localization, root)
    assert open_localization(root, split="val").root == root / "ILSVRC/val"
    assert "has no split 'train' (it has: test, val)" in message(open_localization, root, split="train")
    assert open_localization(root / "ILSVRC/test").name == "imagenetv2-test"


def test_openimages30k(tmp_path):
    data = open_localization(sample("openimages30k"))
    assert data.name == "openimages30k-val"
    assert data.sizes == ((30, 40), (24, 24))  # from the headers: the file of sizes is empty
    assert [len(each) for each in data.boxes] == [0, 0]
    # Instances of 8 x 16 and 16 x 8 pixels; of the 8 x 8 ignored ones an instance covers 4 x 4.
    assert counts(data, 0) == [1200 - 256 - 48, 256, 48]
    assert counts(data, 1) == [576 - 144, 144, 0]
    mask = data.masks(0, (15, 20))  # every second pixel from the first on
    assert np.array_equal(mask, data.masks(0, (30, 40))[::2, ::2])
    root = copied("openimages30k", tmp_path)
    (root / "dataset").rename(tmp_path / "elsewhere")
    assert "says no sizes and there are neither images nor masks" in message(open_localization, root)
    folder = tmp_path / "elsewhere/OpenImages"
    assert open_localization(root, images=folder).hash == data.hash
    only_masks = open_localization(root, masks=folder)
    assert only_masks.sizes == data.sizes
    assert counts(only_masks, 0) == counts(data, 0)


def test_training_metadata_have_classes_only(tmp_path):
    root = copied("openimages30k", tmp_path)
    (root / "metadata/OpenImages/val/localization.txt").write_text("")
    data = open_localization(root)
    assert data.masks is None
    assert [len(each) for each in data.boxes] == [0, 0]
    assert data.sizes == ((30, 40), (24, 24))


def test_cub():
    data = open_localization(sample("cub"))
    assert data.name == "cub-test"
    assert data.names == (
        "001.Black_footed_Albatross/Black_Footed_Albatross_0002_2.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0002_4.jpg",
    )
    assert data.classes == (0, 1)
    assert data.class_names == ("Black_footed_Albatross", "Laysan_Albatross")
    assert data.edges == "exclusive"
    # Published 0 6 24 20 and 12 8 18 26: x1 = x + width.
    assert boxes(data) == [[[0, 6, 24, 26]], [[12, 8, 30, 34]]]
    # Three annotators of five are most, two are not: the outer ring of the box is background.
    assert counts(data, 0) == [1200 - 22 * 18, 22 * 18, 0]
    train = open_localization(sample("cub"), split="train")
    assert boxes(train) == [[[2, 3, 20, 18]], [[5, 5, 25, 30]]]
    assert len(open_localization(sample("cub"), split="all")) == 4


def test_cub_without_segmentations(tmp_path):
    root = copied("cub", tmp_path)
    shutil.rmtree(root / "segmentations")
    assert open_localization(root).masks is None
    (root / "images").rename(tmp_path / "pictures")
    assert "no folder" in message(open_localization, root)
    assert len(open_localization(root, images=tmp_path / "pictures")) == 2


def test_cub_agrees_with_the_metadata_of_wsolevaluation(tmp_path):
    """The same bird in both formats: the same corners, but for the cut at the border."""
    root, metadata = copied("cub", tmp_path), copied("cubv2", tmp_path)
    (root / "bounding_boxes.txt").write_text(
        "1 6.0 5.0 24.0 20.0\n2 6.0 5.0 24.0 20.0\n3 1 1 2 2\n4 10.0 0.0 20.0 20.0\n"
    )
    published = open_localization(metadata)
    for own, theirs, size in zip(boxes(open_localization(root)), boxes(published), published.sizes, strict=True):
        limit = np.array([size[1] - 1, size[0] - 1] * 2)
        assert np.minimum(own, limit).tolist() == theirs


def test_voc():
    data = open_localization(sample("voc"))
    assert data.names == ("2007_000001:cat", "2007_000001:dog", "2007_000002:bird")
    assert data.classes == (7, 11, 2)
    assert len(data.class_names) == 20
    assert data.edges == "inclusive"
    # Published from 1: 1,1,12,16 and 15,4,28,18; 20,20,40,30; 3,2,12,9.
    assert boxes(data) == [[[0, 0, 12, 16], [14, 3, 28, 18]], [[19, 19, 40, 30]], [[2, 1, 12, 9]]]
    assert data.images[0] == data.images[1]
    assert data.masks is None  # the second picture is not segmented
    assert data.name == "sample-val"


def test_voc_difficult_objects():
    data = open_localization(sample("voc"), difficult=True)
    assert data.names[2:] == ("2007_000002:bird", "2007_000002:boat")
    assert boxes(data)[3] == [[15, 9, 30, 20]]


def test_voc_masks():
    data = open_localization(sample("voc"), split="Segmentation/val")
    assert data.names == ("2007_000001:cat", "2007_000001:dog")
    # Cats of 12 x 16 and 14 x 15, a dog of 21 x 11, each inside a border of one pixel of void.
    void = 12 * 16 - 10 * 14 + 14 * 15 - 12 * 13 + 21 * 11 - 19 * 9
    assert counts(data, 0) == [1200 - void - 10 * 14 - 12 * 13, 10 * 14 + 12 * 13, void]
    assert counts(data, 1) == [1200 - void - 19 * 9, 19 * 9, void]
    assert data.masks(1, (30, 40))[20, 20] == 1
    chosen = data.select([1])
    assert np.array_equal(chosen.masks(0, (7, 9)), data.masks(1, (7, 9)))


def test_voc_with_other_classes(tmp_path):
    root = copied("voc", tmp_path)
    file = root / "Annotations/2007_000001.xml"
    file.write_text(file.read_text().replace("<name>cat<", "<name>kangaroo<"))
    assert "line 10: 'kangaroo' is no class (other classes than Pascal VOC's: give classes=" in message(
        open_localization, root
    )
    (tmp_path / "classes.txt").write_text("kangaroo\ndog\nbird\nboat\n")
    data = open_localization(root, classes=tmp_path / "classes.txt")
    assert data.classes == (0, 1, 2)
    assert data.class_names == ("kangaroo", "dog", "bird", "boat")


def test_parts_of_persons_are_no_objects(tmp_path):
    root = copied("voc", tmp_path)
    file = root / "Annotations/2007_000002.xml"
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    text = file.read_text()
    file.write_text(text.replace("<name>bird</name>", f"{part}<name>bird</name>", 1))
    assert boxes(open_localization(root))[2] == [[2, 1, 12, 9]]


def test_coco():
    data = open_localization(sample("coco"))
    assert data.name == "coco-val2017"
    assert data.names == ("000000000001:person", "000000000001:dog", "000000000002:person")
    assert data.classes == (0, 1, 0)
    assert data.class_names == ("person", "dog")
    assert data.edges == "exclusive"
    # Published x, y, width, height: 22,6,14,18; 4,4,12,16; 2,2,8,10. The crowd of dogs makes no row.
    assert boxes(data) == [[[22, 6, 36, 24]], [[4, 4, 16, 20]], [[2, 2, 10, 12]]]
    assert counts(data, 0) == [1200 - 14 * 18, 14 * 18, 0]  # packed run lengths
    assert counts(data, 1) == [1200 - 12 * 16, 12 * 16, 0]  # a polygon
    background, triangle, crowd = counts(data, 2)
    assert crowd == 16 * 8
    assert abs(triangle - 40) <= 5  # half of 8 x 10
    assert data.masks(2, (24, 32))[2, 2] == 1
    assert data.masks(2, (24, 32))[11, 9] == 0
    file = sample("coco") / "annotations/instances_val2017.json"
    assert open_localization(file).names == data.names == open_data(file).names
    assert check(file) == []


def test_coco_places_of_pictures_and_splits(tmp_path):
    root = copied("coco", tmp_path)
    whole = open_localization(root)
    (root / "val2017").rename(root / "images")
    assert open_localization(root).images[0] == root / "images/000000000001.jpg"
    (root / "images").rename(tmp_path / "pictures")
    data = open_localization(root)
    assert boxes(data) == boxes(whole)
    assert data.images[0] == root / "val2017/000000000001.jpg"
    assert open_localization(root, images=tmp_path / "pictures").hash == whole.hash
    annotations = root / "annotations"
    shutil.copy(annotations / "instances_val2017.json", annotations / "instances_train2017.json")
    assert "several splits (train2017, val2017)" in message(open_localization, root)
    assert open_localization(root, split="train2017").name == "coco-train2017"
    assert "has no split 'test'" in message(open_localization, root, split="test")


def test_coco_leaves_out_boxes_without_area_and_masks_that_are_not_there(tmp_path):
    root = copied("coco", tmp_path)
    file = root / "annotations/instances_val2017.json"
    file.write_text(file.read_text().replace("[22.0, 6.0, 14.0, 18.0]", "[22.0, 6.0, 0, 18.0]"))
    assert open_localization(root).names == ("000000000001:dog", "000000000002:person")
    file.write_text(file.read_text().replace('"segmentation": [[4, 4, 16, 4, 16, 20, 4, 20]], ', ""))
    assert open_localization(root).masks is None


def test_pets():
    data = open_localization(sample("pets"))
    assert data.name == "pets-test"
    assert data.names == ("Abyssinian_1", "american_bulldog_1")
    assert data.classes == (0, 1)
    assert data.class_names == ("Abyssinian", "american bulldog")
    # Pets of 20 x 18 and 20 x 28 pixels, two of them unknown on each side.
    assert boxes(data) == [[[6, 6, 22, 20]], [[8, 4, 24, 28]]]
    assert counts(data, 0) == [1200 - 20 * 18, 16 * 14, 20 * 18 - 16 * 14]
    assert len(open_localization(sample("pets"), split="all")) == 3


def test_pets_heads():
    data = open_localization(sample("pets"), split="trainval", boxes="head")
    assert data.names == ("Abyssinian_2",)
    assert boxes(data) == [[[12, 10, 20, 18]]]  # published 13,11,20,18, from 1
    assert data.class_names == ("Abyssinian",)
    assert "has no heads of this split" in message(open_localization, sample("pets"), boxes="head")
    assert "use a split of test, trainval, all" in message(open_localization, sample("pets"), split="val")
    assert "boxes 'trimap' or 'head'" in message(open_localization, sample("pets"), boxes="tail")


def test_imagenet_s(tmp_path):
    data = open_localization(sample("imagenet-s"))
    assert data.names == (
        "ILSVRC2012_val_00000001:n01443537",
        "ILSVRC2012_val_00000002:n01443537",
        "ILSVRC2012_val_00000002:n02123045",
    )
    assert data.classes == (0, 0, 1)
    assert boxes(data) == [[[4, 4, 20, 20]], [[18, 6, 30, 20]], [[2, 2, 14, 16]]]
    assert counts(data, 0) == [1200 - 400, 256, 400 - 256]  # 1000 is written as red 232, green 3
    assert counts(data, 1) == [768 - 168, 168, 0]
    classes = tmp_path / "LOC_synset_mapping.txt"
    classes.write_text("n01440764 tench\nn01443537 goldfish\nn02123045 tabby, tabby cat\n")
    mapped = open_localization(sample("imagenet-s"), classes=classes)
    assert mapped.classes == (1, 1, 2)
    assert mapped.class_names == ("tench", "goldfish", "tabby")
    classes.write_text("n01443537 goldfish\n")
    assert "lacks 1 of the 2 classes (n02123045)" in message(open_localization, sample("imagenet-s"), classes=classes)


def test_formats_by_name():
    assert "unknown format 'voc2012'; near: voc" in message(open_localization, sample("voc"), "voc2012")
    text = message(open_localization, sample("cub"), boxes="head", difficult=True)
    assert text == "format 'cub' has no option 'boxes', 'difficult': it takes split, images"
    assert "format 'plain' has no option 'split'" in message(
        open_localization, recipe_path("scenes") / "sample", split="test"
    )
    assert "has no images.csv" in message(open_localization, sample("cub"), "plain")
    assert "no folder" in message(open_localization, "/nowhere")
    assert "is a file" in message(open_data, sample("cub") / "images.txt")


@pytest.mark.parametrize(
    ("folder", "name", "images", "count", "edges"),
    [
        ("ILSVRC/test", "ilsvrc-test", 50_000, 80_477, "inclusive"),
        ("ILSVRC/val", "imagenetv2-val", 10_000, 18_532, "inclusive"),
        ("CUB/test", "cub-test", 5_794, 5_794, "exclusive"),
        ("CUB/val", "cubv2-val", 1_000, 1_000, "exclusive"),
        ("CUB/train", "cub-train", 5_994, 5_994, "exclusive"),
    ],
)
def test_real_metadata(folder, name, images, count, edges):
    root = PACKS / "wsol-metadata"
    if not root.is_dir():
        pytest.skip("no data pack wsol-metadata beside the checkout")
    data = open_localization(root / folder)
    assert (data.name, len(data), data.edges) == (name, images, edges)
    assert sum(map(len, data.boxes)) == count
    assert min(map(len, data.boxes)) == 1
    if folder == "ILSVRC/test":
        assert data.names[0] == "val/ILSVRC2012_val_00000001.JPEG"
        assert (data.classes[0], data.sizes[0]) == (65, (375, 500))
        assert boxes(data)[:2] == [[[111, 108, 442, 194]], [[45, 49, 500, 163], [2, 69, 438, 208]]]
        assert sum(len(each) - len(set(map(tuple, each.tolist()))) for each in data.boxes) == 4
        listed = blacklisted(data, {2, 50_000})
        assert np.flatnonzero(listed).tolist() == [1, 49_999]
    if folder == "CUB/test":
        assert boxes(data)[0] == [[60, 27, 385, 331]]
        assert data.class_names[0] == "Black_footed_Albatross"
        assert len(data.class_names) == 200
    if folder == "ILSVRC/val":
        assert max(map(len, data.boxes)) == 259
