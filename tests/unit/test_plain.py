"""Readers of the plain folder format: every bad input is one line with file and line; labels are literal."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explain.data import (
    as_localization,
    as_probe,
    data_home,
    localization_from_items,
    open_data,
    open_localization,
    open_probe,
    probe_column,
    probe_from_arrays,
    probe_from_dataset,
    recipe_path,
)
from explain.data.tables import header_size
from explain.errors import DataError
from explain.types import LocalizationSet, ProbeSet

CHECKOUT = Path(__file__).resolve().parents[2]
PACKS = CHECKOUT.parent / "shared" / "data"


def pack(name):
    if not (PACKS / name).is_dir():
        pytest.skip(f"no data pack {name} beside the checkout")
    return PACKS / name


CLASSES = {
    "layers": {
        "mask": {
            "category": "object",
            "classes": [
                {"id": 300, "name": "cat"},
                {"id": 2, "name": "dog", "category": "animal"},
                {"id": 5, "name": "void"},
            ],
        },
        "part_mask": {"category": "part", "classes": [{"id": 1, "name": "ear"}, {"id": 4, "name": "cat"}]},
    },
    "ignored": {"mask": [5, 9], "part_mask": [7]},
}
MASK = np.array([[0, 2, 300, 5], [9, 2, 0, 300], [300, 300, 2, 2]], np.uint16)
PART = np.array([[1, 4, 0, 0], [0, 0, 7, 1], [4, 1, 0, 0]], np.uint8)


@pytest.fixture
def probe(tmp_path):
    root = tmp_path / "mini"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((3, 4, 3), 90, np.uint8)).save(root / "images" / name)
    Image.fromarray(MASK).save(root / "masks" / "a.png")
    Image.fromarray(PART).save(root / "masks" / "a_part.png")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(root / "masks" / "b.png")
    (root / "classes.json").write_text(json.dumps(CLASSES))
    write(root, "image,mask,part_mask,scene,texture,split", "a.png,masks/a.png,masks/a_part.png,street,,train")
    with (root / "index.csv").open("a") as file:
        file.write("b.png,masks/b.png,,beach,dog,test\n")
    return root


def write(root, *lines, name="index.csv"):
    (root / name).write_text("\n".join(lines) + "\n")


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    (root / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(root / "images" / name)
    write(root, "image,class_index,name,subset", "a.png,1,dog,x", "b.png,0,cat,y", name="images.csv")
    write(root, "image,x0,y0,x1,y1", "a.png,0,0,4,5", "a.png,1.5,2,8,6", name="boxes.csv")
    return root


def message(function, *args):
    with pytest.raises(DataError) as caught:
        function(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_concepts_are_united_by_name_in_order_of_appearance(probe):
    data = open_probe(probe)
    assert [(c.name, c.category) for c in data.concepts] == [
        ("dog", "animal"),
        ("void", "object"),
        ("cat", "object"),
        ("ear", "part"),
        ("beach", "scene"),
        ("street", "scene"),
    ]
    assert data.names == ("a.png", "b.png")
    assert probe_column(probe) == ("train", "test")
    assert data.labels(0, (3, 4)).whole == (5,)
    assert data.labels(1, (3, 4)).whole == (4, 0)  # the texture named dog is the concept dog


def test_labels_are_a_literal_reading(probe):
    data = open_probe(probe)
    numbers = {"mask": {2: 0, 300: 2}, "part_mask": {1: 3, 4: 2}}
    for size in [(3, 4), (6, 8), (7, 5), (1, 1), (2, 9)]:
        labels = data.labels(0, size)
        assert labels.maps.dtype == np.int32
        ignored = np.zeros(size, bool)
        for layer, (column, ids) in enumerate([("mask", MASK), ("part_mask", PART)]):
            small = np.asarray(Image.fromarray(ids.astype(np.int32)).resize(size[::-1], Image.Resampling.NEAREST))
            for y in range(size[0]):
                for x in range(size[1]):
                    identity = int(small[y, x])
                    assert labels.maps[layer, y, x] == numbers[column].get(identity, -1)
                    ignored[y, x] |= identity in CLASSES["ignored"][column]
        assert np.array_equal(labels.ignored if labels.ignored is not None else np.zeros(size, bool), ignored)


def test_id_zero_is_counted_and_an_empty_mask_cell_labels_nothing(probe):
    labels = open_probe(probe).labels(1, (3, 4))
    assert (labels.maps == -1).all()
    assert labels.ignored is None


def test_nearest_follows_pillow_for_many_sizes():
    from explain.data.masks import nearest

    rng = np.random.default_rng(0)
    for _ in range(60):
        h, w, th, tw = rng.integers(1, 90, 4)
        mask = rng.integers(0, 2000, (h, w)).astype(np.int32)
        expected = np.asarray(Image.fromarray(mask).resize((int(tw), int(th)), Image.Resampling.NEAREST))
        assert np.array_equal(nearest(mask, (int(th), int(tw))), expected)


def test_palette_masks_hold_ids_not_colours(probe):
    palette = Image.fromarray(np.array([[0, 2, 2, 0]] * 3, np.uint8))
    palette.putpalette([7, 200, 30] * 256)  # from here on the mode is P
    palette.save(probe / "masks" / "a.png")
    assert open_probe(probe).labels(0, (3, 4)).maps[0].tolist() == [[-1, 0, 0, -1]] * 3


def test_labels_travel_to_workers(probe):
    data = open_probe(probe)
    copy = pickle.loads(pickle.dumps(data.labels))
    assert np.array_equal(copy(0, (5, 5)).maps, data.labels(0, (5, 5)).maps)


def test_the_hash_follows_tables_and_file_sizes(probe):
    before = open_probe(probe).hash
    assert before == open_probe(probe).hash
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)).save(probe / "images" / "b.png")
    assert open_probe(probe).hash != before


def test_an_id_without_a_name_is_named_on_reading(probe):
    Image.fromarray(np.full((3, 4), 77, np.uint8)).save(probe / "masks" / "b.png")
    data = open_probe(probe)
    text = message(data.labels, 1, (3, 4))
    assert "index.csv line 3" in text
    assert "b.png has id 77" in text
    assert "classes.json" in text


def test_a_colour_picture_is_no_mask(probe):
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(probe / "masks" / "b.png")
    assert "line 3" in message(open_probe(probe).labels, 1, (3, 4))


HEAD = "image,mask,part_mask"


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["image,masks", "a.png,masks/a.png"], ["index.csv line 1 labels nothing", "image, masks"]),
        (["picture,mask", "a.png,masks/a.png"], ["line 1 has no column 'image'", "it has: picture, mask"]),
        ([HEAD], ["index.csv has no rows"]),
        ([HEAD, "a.png,masks/a.png"], ["line 2: 2 cells where the header has 3 columns"]),
        ([HEAD, "a.png,,", "a.png,,"], ["line 3: image 'a.png' is already on line 2"]),
        ([HEAD, "a.png,,", "no.png,,"], ["line 3: no image 'no.png'"]),
        ([HEAD, ",,"], ["index.csv has no rows"]),
        ([HEAD, ",masks/a.png,"], ["line 2: the image cell is empty"]),
        ([HEAD, "a.png,masks/no.png,"], ["line 2: no mask", "no.png"]),
        ([HEAD, "bad.png,,"], ["line 2:", "bad.png cannot be opened as an image"]),
        ([HEAD, "a.png,masks/big.png,"], ["line 2: mask", "big.png is 9x9 pixels, its image 4x3"]),
        ([HEAD + ",other_mask", "a.png,,,"], ["classes.json has no layer for column 'other_mask'"]),
        (["image,mask", "a.png,"], ["classes.json has layer 'part_mask'", "it has: image, mask"]),
        (["image,mask,mask,part_mask", "a.png,,,"], ["line 1 names column 'mask' twice"]),
        ([HEAD, '"a.png,,'], ["is not valid CSV"]),
    ],
)
def test_bad_index(probe, lines, parts):
    (probe / "images" / "bad.png").write_text("no picture")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(probe / "masks" / "big.png")
    write(probe, *lines)
    text = message(open_probe, probe)
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{\n,", "classes.json line 2 is not valid JSON"),
        ("[]", 'has no object "layers"'),
        ('{"layers": {"mask": {}, "part_mask": {}}}', "layer 'mask' has no list 'classes'"),
        ('{"layers": {"mask": {"classes": [{"id": "a"}]}}}', "has a class without a whole-number id"),
        ('{"layers": {"mask": {"classes": [{"id": 3}]}}}', "does not name id 3"),
        (
            '{"layers": {"mask": {"classes": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}}}',
            "names id 3 twice",
        ),
        ('{"layers": {"mask": {"classes": []}}, "ignored": {"mask": ["x"]}}', "is not a list of ids"),
    ],
)
def test_bad_classes(probe, text, part):
    (probe / "classes.json").write_text(text)
    if "part_mask" not in text:
        write(probe, "image,mask", "a.png,masks/a.png")
    assert part in message(open_probe, probe)


def test_not_utf8(probe):
    (probe / "index.csv").write_bytes(b"image,mask,part_mask\n\xff\xfe,,\n")
    assert "index.csv line 2 is not UTF-8" in message(open_probe, probe)


def test_localization(photos):
    data = open_localization(photos)
    assert data.classes == (1, 0)
    assert data.class_names == ("cat", "dog")
    assert data.sizes == ((6, 8), (6, 8))
    assert data.subsets == ("x", "y")
    assert data.boxes[0].tolist() == [[0, 0, 4, 5], [1.5, 2, 8, 6]]
    assert data.boxes[1].shape == (0, 4)
    assert data.frame == "original"


def test_images_may_lie_directly_in_the_folder(photos):
    (photos / "images" / "a.png").rename(photos / "a.png")
    write(photos, "image,class_index", "a.png,3", "images/b.png,4", name="images.csv")
    (photos / "boxes.csv").unlink()
    data = open_localization(photos)
    assert data.class_names is None
    assert [path.name for path in data.images] == ["a.png", "b.png"]


def test_class_names_are_none_where_they_have_gaps(photos):
    write(photos, "image,class_index,name", "a.png,2,dog", "b.png,0,cat", name="images.csv")
    assert open_localization(photos).class_names is None


@pytest.mark.parametrize(
    ("name", "lines", "part"),
    [
        ("images.csv", ["image,label", "a.png,1"], "images.csv line 1 has no column 'class_index'"),
        ("images.csv", ["image,class_index", "a.png,dog"], "images.csv line 2: class_index 'dog'"),
        ("images.csv", ["image,class_index", "a.png,-1"], "images.csv line 2: class_index '-1'"),
        (
            "images.csv",
            ["image,class_index,name", "a.png,1,x", "b.png,1,y"],
            "images.csv line 3: class 1 is 'y' here, 'x' on an earlier line",
        ),
        ("boxes.csv", ["image,x0,y0,x1", "a.png,1,2,3"], "boxes.csv line 1 has no column 'y1'"),
        ("boxes.csv", ["image,x0,y0,x1,y1", "a.png,0,0,b,1"], "boxes.csv line 2: x1 'b' is not a number"),
        ("boxes.csv", ["image,x0,y0,x1,y1", "a.png,0,0,nan,1"], "boxes.csv line 2: x1 'nan'"),
        ("boxes.csv", ["image,x0,y0,x1,y1", "a.png,3,0,3,1"], "boxes.csv line 2: box 3,0,3,1 is empty"),
        (
            "boxes.csv",
            ["image,x0,y0,x1,y1", "z.png,0,0,1,1"],
            "boxes.csv line 2: image 'z.png' is not in images.csv",
        ),
    ],
)
def test_bad_localization(photos, name, lines, part):
    write(photos, *lines, name=name)
    assert part in message(open_localization, photos)


def test_open_data_finds_the_format(probe, photos, tmp_path):
    assert isinstance(open_data(probe), ProbeSet)
    assert isinstance(open_data(str(photos)), LocalizationSet)
    assert "has no index.csv" in message(open_data, photos, "probe")
    assert "neither index.csv" in message(open_data, tmp_path)
    assert "near: scenes" in message(open_data, "scene")
    assert "is a file" in message(open_data, photos / "images.csv")
    assert "unknown kind" in message(open_data, photos, "video")
    assert "has no images.csv" in message(open_localization, probe)
    assert "no folder" in message(open_probe, tmp_path / "nowhere")


def test_data_home(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLAIN_DATA", str(tmp_path / "here"))
    assert data_home() == tmp_path / "here"
    monkeypatch.delenv("EXPLAIN_DATA")
    assert data_home().name == "explain"


def test_recipes():
    assert (recipe_path("scenes") / "sample" / "index.csv").is_file()
    assert "near: scenes" in message(recipe_path, "scene")
    assert not list((CHECKOUT / "datasets").rglob("__init__.py"))


def test_arrays_of_ids():
    masks = torch.tensor([[[0, 1], [3, 9]], [[1, 1], [0, 3]]])
    data = probe_from_arrays(torch.rand(2, 3, 2, 2), masks, {1: "cat", 3: "dog"}, ignored=[9])
    assert [c.name for c in data.concepts] == ["cat", "dog"]
    labels = data.labels(0, (2, 2))
    assert labels.maps.tolist() == [[[-1, 0], [1, -1]]]
    assert labels.ignored.tolist() == [[False, False], [False, True]]
    assert data.images[0].shape == (3, 2, 2)
    by_list = probe_from_arrays(torch.rand(1, 3, 2, 2), masks[1:], ["cat", "bird", "dog"])
    assert by_list.labels(0, (2, 2)).maps.tolist() == [[[0, 0], [-1, 2]]]


def test_bool_masks_may_overlap():
    masks = np.zeros((1, 2, 4, 4), bool)
    masks[0, :, 1:3, 1:3] = True
    masks[0, 1, 0, 0] = True
    data = probe_from_arrays([Image.new("RGB", (4, 4))], masks, ["cat", "fur"], category="thing")
    labels = data.labels(0, (4, 4))
    assert np.array_equal(labels.maps[0] == 0, masks[0, 0])
    assert np.array_equal(labels.maps[1] == 1, masks[0, 1])
    assert pickle.loads(pickle.dumps(data.labels))(0, (2, 2)).maps.shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("masks", "names", "part"),
    [
        (torch.full((1, 2, 2), 4), ["cat"], "masks[0] has id 4"),
        (torch.zeros(1, 3, 3, dtype=torch.int64), ["cat"], "masks[0] is (3, 3) pixels, its image (2, 2)"),
        (torch.zeros(2, 2, 2, dtype=torch.int64), ["cat"], "1 images and 2 masks"),
        (torch.zeros(1, 2, 2), ["cat"], "masks[0] holds float32 values"),
        (
            torch.zeros(1, 3, 2, 2, dtype=torch.bool),
            ["cat"],
            "bool masks have 3 layers but there are 1 names",
        ),
        (torch.zeros(1, 1, 2, 2, dtype=torch.bool), {1: "cat"}, "bool masks have no ids"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), [], "names is empty"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), "cat", "names is the text 'cat'"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), {1: 7}, "names[1] is 7"),
    ],
)
def test_bad_arrays(masks, names, part):
    assert part in message(probe_from_arrays, torch.rand(1, 3, 2, 2), masks, names)


class Pairs(torch.utils.data.Dataset):
    names = ("cat", "dog")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError
        return torch.full((3, 4, 4), float(index)), torch.full((4, 4), index)


def test_datasets_of_pairs():
    data = probe_from_dataset(Pairs(), ["cat", "dog"])
    assert len(data) == 3
    assert data.labels(2, (2, 2)).maps.tolist() == [[[1, 1], [1, 1]]]
    assert float(data.images[1].mean()) == 1
    assert as_probe(Pairs()).hash == data.hash
    assert as_probe(data) is data
    assert "no length" in message(probe_from_dataset, iter([]), ["cat"])
    assert "what its ids mean" in message(as_probe, [(1, 2)])


def test_localization_items(photos):
    picture = Image.new("RGB", (8, 6))
    data = localization_from_items([(picture, 3, [[0, 0, 2, 2]]), (photos / "images" / "a.png", 1, None)])
    assert data.frame == "original"
    assert data.sizes == ((6, 8), (6, 8))
    assert [len(boxes) for boxes in data.boxes] == [1, 0]
    tensors = localization_from_items([(torch.rand(3, 5, 7), torch.tensor(2), torch.tensor([1, 1, 3, 4]))])
    assert tensors.frame == "input"
    assert tensors.sizes == ((5, 7),)
    assert as_localization(photos).classes == (1, 0)


@pytest.mark.parametrize(
    ("items", "part"),
    [
        ([], "no items"),
        ([(1, 2)], "item 0 is not a triple"),
        ([(torch.rand(3, 2, 2), "cat", None)], "item 0: class 'cat'"),
        ([(torch.rand(3, 2, 2), 0, [[1, 1, 1, 2]])], "item 0: boxes hold an empty box"),
        ([(torch.rand(3, 2, 2), 0, [[1, 1]])], "item 0: boxes have shape (1, 2)"),
        ([(torch.rand(2, 2), 0, None)], "item 0: the image is a Tensor of shape (2, 2)"),
        ([(torch.rand(3, 2, 2), 0, None), (Image.new("L", (2, 2)), 0, None)], "frames do not mix"),
    ],
)
def test_bad_items(items, part):
    assert part in message(localization_from_items, items)


@pytest.mark.parametrize(
    ("name", "images", "present"),
    [
        ("probe-coco", 200, 129),
        ("probe-camvid", 235, 11),
        ("probe-clothing", 220, 54),
        ("probe-textures", 160, 10),
        ("probe-ade20k-sample/full", 3, 37),
        ("probe-ade20k-sample/sceneparsing150", 3, 15),
    ],
)
def test_shared_probe_packs(name, images, present):
    data = open_probe(pack(name))
    assert len(data) == images
    found = set()
    for index in range(images):
        labels = data.labels(index, (56, 56))
        found.update(labels.whole)
    if name == "probe-textures":
        assert len(found) == present
        return
    sizes = [header_size(path) for path in data.images]
    for index, size in enumerate(sizes):
        found.update(np.unique(data.labels(index, size).maps).tolist())
    assert len(found - {-1}) == present


def test_shared_mask_equals_a_literal_reading():
    root = pack("probe-ade20k-sample/full")
    data = open_probe(root)
    spec = json.loads((root / "classes.json").read_text())["layers"]
    for index, name in enumerate(data.names):
        for layer, (column, folder) in enumerate([("mask", "masks"), ("part_mask", "parts")]):
            names = {entry["id"]: entry["name"] for entry in spec[column]["classes"]}
            picture = Image.open(root / folder / name.replace(".jpg", ".png"))  # resized in its own mode
            small = np.asarray(picture.resize((40, 30), Image.Resampling.NEAREST))
            got = data.labels(index, (30, 40)).maps[layer]
            for y, x in np.ndindex(30, 40):
                expected = names.get(int(small[y, x]))
                assert expected == (data.concepts[got[y, x]].name if got[y, x] >= 0 else None)


@pytest.mark.parametrize(("name", "images", "boxes"), [("wsol-ilsvrc-val", 600, 998), ("imagenet-sample", 1000, 0)])
def test_shared_localization_packs(name, images, boxes):
    data = open_localization(pack(name))
    assert len(data) == images
    assert sum(map(len, data.boxes)) == boxes
    assert (data.class_names is None) == (name == "wsol-ilsvrc-val")


def test_empty_cells_are_not_annotated(tmp_path):
    root = tmp_path / "probe"
    (root / "images").mkdir(parents=True)
    rows = [("a", True, True, "street"), ("b", True, False, ""), ("c", False, False, "room")]
    lines = ["image,mask,part_mask,scene"]
    for name, mask, part, scene in rows:
        Image.new("RGB", (4, 4)).save(root / "images" / f"{name}.png")
        Image.new("L", (4, 4), 1).save(root / f"{name}.png")
        lines.append(f"{name}.png,{f'{name}.png' if mask else ''},{f'{name}.png' if part else ''},{scene}")
    (root / "index.csv").write_text("\n".join(lines) + "\n")
    layers = {
        "mask": {"category": "object", "classes": [{"id": 1, "name": "dog"}]},
        "part_mask": {"category": "part", "classes": [{"id": 1, "name": "leg"}]},
    }
    (root / "classes.json").write_text(json.dumps({"layers": layers}))
    probe = open_probe(root)
    assert [probe.labels(number, (4, 4)).annotated for number in range(3)] == [None, ("object",), ("scene",)]
