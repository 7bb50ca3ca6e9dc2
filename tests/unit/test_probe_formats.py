"""Readers of published probe formats, each on tiny files in the exact layout, with labels written down by hand."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import probe_layouts as layouts
import pytest

import explain
from explain.data import as_probe, check, open_data, open_localization, open_probe, probe_column, recipe_path
from explain.data.probes.catalog import PROBE_FORMATS, detect_probe
from explain.data.probes.sources import class_layers
from explain.errors import DataError
from explain.neurons.cells import CellBuilder
from explain.types import ProbeSet

PACKS = Path(__file__).resolve().parents[2].parent / "shared" / "data"

LAYOUTS = {
    "broden": "broden",
    "sceneparsing": "sceneparsing",
    "ade_2016": "ade20k",
    "ade_2021": "ade20k",
    "voc": "voc",
    "coco": "coco",
    "coco_stuff": "coco-stuff",
    "coco_panoptic": "coco-panoptic",
    "coco_stuff_maps": "coco-stuff-maps",
    "cityscapes": "cityscapes",
    "camvid": "camvid",
    "camvid_32": "camvid-32",
    "camvid_701": "camvid-32",
    "dtd": "dtd",
    "attributes": "attributes",
    "celeba": "celeba",
    "cub_attributes": "cub-attributes",
    "pascal_part": "pascal-part",
    "pascal_context": "pascal-context",
    "pascal_context_59": "pascal-context",
}


@pytest.fixture
def drawn(tmp_path):
    def draw(name):
        root = tmp_path / name
        layouts.lay_out(name, root)
        return root

    return draw


def named(data):
    return [(concept.name, concept.category) for concept in data.concepts]


def seen(data, index, size=layouts.SIZE):
    """The concept of each pixel of each layer, as lines of names' first letters ('.': none), and the whole ones."""
    labels = data.labels(index, size)
    assert labels.maps.dtype == np.int32
    assert labels.maps.shape[1:] == size
    letters = [concept.name[0] for concept in data.concepts] + ["."]
    maps = ["|".join("".join(letters[number] for number in row) for row in layer) for layer in labels.maps]
    return maps, [data.concepts[number].name for number in labels.whole]


@pytest.mark.parametrize(("name", "kind"), LAYOUTS.items())
def test_every_layout_is_recognised_and_sound(drawn, name, kind):
    root = drawn(name)
    assert detect_probe(root).name == kind
    assert check(root) == []
    data = open_probe(root)
    assert isinstance(data, ProbeSet)
    assert data.hash == open_probe(root, kind).hash == as_probe(str(root)).hash == open_data(root, "probe").hash
    assert len(data) == len(data.names) == len(set(data.names))
    assert all(len(values) == len(data) for values in data.columns.values())
    assert all(path.is_file() for path in data.images)
    again = pickle.loads(pickle.dumps(data.labels))
    builder = CellBuilder(data.concepts)
    for index in range(len(data)):
        labels = data.labels(index, (4, 5))
        assert np.array_equal(again(index, (4, 5)).maps, labels.maps)
        assert {data.concepts[number].name for number in labels.whole} <= {each.name for each in data.concepts}
        builder.add(labels)
    assert builder.finish().cells.counts.sum() <= 20 * len(data)
    assert explain.__version__


def test_every_format_has_a_layout():
    assert {each.name for each in PROBE_FORMATS} == set(LAYOUTS.values())


def test_a_changed_table_changes_the_hash(drawn):
    root = drawn("broden")
    before = open_probe(root).hash
    table = (root / "label.csv").read_text()
    (root / "label.csv").write_text(table.replace("fur", "wool"))
    assert open_probe(root).hash != before
    assert open_probe(root, split="val").hash != open_probe(root).hash


def test_broden(drawn):
    data = open_probe(drawn("broden"))
    # 3 covers more as a part than as an object, 2 more as an object than as a texture.
    assert named(data) == [
        ("red-c", "color"), ("cat", "object"), ("head", "part"), ("street-s", "scene"), ("fur", "texture"),
    ]  # fmt: skip
    assert data.names == ("ade20k/a.jpg", "ade20k/b.jpg", "dtd/c.jpg")
    assert data.columns == {"split": ("train", "val", "val")}
    parts = ["hh..|....|....", "f...|f...|f..."]
    assert seen(data, 0, (3, 4)) == ([*parts, "cchh|cc..|cc..", "rrrr|rrrr|...."], ["street-s"])
    assert seen(data, 1, (3, 4)) == (["....|.cc.|.cc."], [])
    assert seen(data, 2, (3, 4)) == ([], ["fur", "cat"])
    annotated = [set(data.labels(index, (2, 2)).annotated) for index in range(3)]
    # Scene 0 is in no list: image b was given no scene.
    assert annotated == [{"part", "object", "color", "scene"}, {"object"}, {"texture"}]


def test_broden_at_another_size(drawn):
    data = open_probe(drawn("broden"))
    assert seen(data, 1, (6, 8)) == (["........|........|..cccc..|..cccc..|..cccc..|..cccc.."], [])


def test_broden_by_categories_and_index(drawn):
    root = drawn("broden")
    data = open_probe(root, categories=["object", "texture"])
    # The category of a label is the one among those asked for; red-c and street-s occur in none of them.
    assert named(data) == [("cat", "object"), ("head", "object"), ("fur", "texture")]
    assert seen(data, 0, (3, 4)) == (["cchh|cc..|cc.."], [])
    assert data.labels(0, (2, 2)).annotated == ("object",)
    lines = (root / "index.csv").read_text().splitlines()
    (root / "index_small.csv").write_text("\n".join(lines[:2]) + "\n")
    assert open_probe(root, index="index_small.csv").names == ("ade20k/a.jpg",)
    assert open_probe(root, split="train").names == ("ade20k/a.jpg",)


def test_broden_without_category_tables(drawn):
    root = drawn("broden")
    for path in root.glob("c_*.csv"):
        path.unlink()
    # By label.csv: cat object(2), texture(1); head object(1), part(1): of equals the later column of the index.
    assert named(open_probe(root))[1:3] == [("cat", "object"), ("head", "object")]


def test_sceneparsing(drawn):
    data = open_probe(drawn("sceneparsing"))
    # "screen" alone would be two classes.
    assert named(data) == [
        ("wall", "object"), ("building", "object"), ("screen, silver screen", "object"),
        ("screen, CRT screen", "object"), ("airport_terminal-s", "scene"), ("street-s", "scene"),
    ]  # fmt: skip
    assert data.columns["split"] == ("training", "validation", "validation")
    assert seen(data, 0) == (["|".join(["wwwwwwww"] * 3 + ["ss......"] * 3)], ["airport_terminal-s"])
    assert seen(data, 1) == (["|".join(["bbbbssss"] * 6)], ["street-s"])
    assert [data.labels(index, (1, 1)).annotated for index in (1, 2)] == [("object", "scene"), ("object",)]
    assert open_probe(data.root, split="validation").names == ("ADE_val_00000001", "ADE_val_00000002")
    only = open_probe(data.root, categories=["scene"])
    assert named(only) == [("airport_terminal-s", "scene"), ("street-s", "scene")]
    assert seen(only, 1) == (["|".join(["........"] * 6)], ["street-s"])
    assert only.labels(2, (1, 1)).annotated == ()


ADE_IMAGE = ["|".join(["aaaaaaaa"] + ["aaddaaaa"] * 3 + ["........"] * 2)]
ADE_PARTS = ["|".join(["dd......"] * 2 + ["........"] * 4), "|".join(["h......."] + ["........"] * 5)]


def test_ade_of_2016(drawn):
    data = open_probe(drawn("ade_2016"))
    assert len(data.concepts) == 601
    assert named(data)[:2] == [("abbey", "object"), ("door", "object")]  # a door is a part only once of two
    assert named(data)[-2:] == [("handle", "part"), ("abbey-s", "scene")]
    assert seen(data, 0) == (ADE_IMAGE + ADE_PARTS, ["abbey-s"])
    assert seen(data, 1) == (ADE_IMAGE, [])  # an outlier has no scene
    assert [data.labels(index, (1, 1)).annotated for index in (0, 1)] == [("object", "part", "scene"), ("object",)]


def test_ade_of_2021(drawn):
    data = open_probe(drawn("ade_2021"))
    assert named(data) == [
        ("abbey", "object"), ("door", "object"), ("handle", "part"), ("bathroom-s", "scene"), ("street-s", "scene"),
    ]  # fmt: skip
    assert seen(data, 0) == (ADE_IMAGE + ADE_PARTS, ["street-s"])
    assert seen(data, 1) == (ADE_IMAGE, ["bathroom-s"])
    assert data.labels(0, (1, 1)).annotated == ("object", "part", "scene")
    assert data.labels(1, (1, 1)).annotated == ("object", "scene")
    assert data.columns["split"] == ("training", "validation")


def test_voc(drawn):
    data = open_probe(drawn("voc"))
    assert data.names == ("2007_000001", "2007_000002")
    assert data.columns["split"] == ("train", "val")
    assert len(data.concepts) == 20
    assert (data.concepts[7].name, data.concepts[14].name) == ("cat", "person")
    assert seen(data, 0)[0] == ["|".join(["........"] + [".cc....."] * 2 + ["........"] * 3)]
    ignored = np.zeros((6, 8), bool)
    ignored[:4, :4] = True
    ignored[1:3, 1:3] = False
    assert np.array_equal(data.labels(0, (6, 8)).ignored, ignored)
    assert data.labels(1, (6, 8)).ignored is None
    assert open_probe(data.root, split="trainval").names == data.names
    assert open_probe(data.root, split="val").columns["split"] == ("val",)


def test_the_samples_of_localization_label_pixels_too():
    data = open_probe(recipe_path("voc") / "sample")
    maps = data.labels(0, (30, 40)).maps
    assert data.name == "sample-all"
    assert [int((maps == number).sum()) for number in (7, 11)] == [296, 171]
    things = open_probe(recipe_path("coco") / "sample")
    assert named(things) == [("person", "object"), ("dog", "object")]
    # Half-open rectangles and triangles of the sample: 12 x 16 dog, 14 x 18 person by run lengths.
    maps = things.labels(0, (30, 40)).maps
    assert [int((maps == number).sum()) for number in (0, 1)] == [14 * 18, 12 * 16]


def test_coco_things(drawn):
    data = open_probe(drawn("coco"))
    assert data.names == ("000000000003", "000000000007")
    assert named(data) == [("cat", "object"), ("dog", "object")]
    cats = "|".join(["cccc..cc"] * 2 + ["cccc...."] * 2 + ["........"] * 2)
    dogs = "|".join(["........"] * 2 + ["..dddd.."] * 4)
    assert seen(data, 1) == ([cats, dogs], [])
    assert seen(data, 0) == ([], [])  # nothing there, and that is known
    assert data.labels(0, (3, 3)).annotated == ("object",)
    assert data.columns["split"] == ("val2017", "val2017")
    assert open_probe(data.root / "annotations/instances_val2017.json").hash == data.hash


def test_coco_stuff(drawn):
    data = open_probe(drawn("coco_stuff"))
    assert named(data) == [("sky-other", "stuff")]
    assert seen(data, 0) == (["|".join(["ss......"] * 6)], [])  # 12 pixels column by column; "other" is no concept
    assert data.labels(0, (1, 1)).annotated == ("stuff",)


def test_coco_panoptic(drawn):
    data = open_probe(drawn("coco_panoptic"))
    assert named(data) == [("cat", "object"), ("sky-other-merged", "stuff")]
    assert data.names == ("000000000007",)
    assert seen(data, 0) == (["|".join(["cccc..cc"] + ["cccc...."] * 3 + ["ssssssss"] * 2)], [])
    assert named(open_probe(data.root, categories=["stuff"])) == [("sky-other-merged", "stuff")]


def test_coco_stuff_maps(drawn, tmp_path):
    root = drawn("coco_stuff_maps")
    data = open_probe(root)
    assert data.name == "coco-stuff-maps-all"
    assert data.names == ("000000000009", "000000000139")
    assert data.columns["split"] == ("train2017", "val2017")
    assert len(data.concepts) == 182
    # What the published list says: a category's number less one.
    listed = {0: "person", 16: "cat", 90: "hair brush", 91: "banner", 156: "sky-other", 181: "wood"}
    assert {number: data.concepts[number].name for number in listed} == listed
    assert [concept.category for concept in data.concepts] == ["object"] * 91 + ["stuff"] * 91
    labels = data.labels(1, layouts.SIZE)
    assert labels.maps.tolist() == [[[0, 0, 90, 91, 181, 181, -1, 16]] * 6]
    assert labels.ignored.tolist() == [[False] * 6 + [True, False]] * 6
    stuff = open_probe(root, split="val2017", categories=["stuff"])
    assert stuff.labels(0, layouts.SIZE).maps.tolist() == [[[-1, -1, -1, 0, 90, 90, -1, -1]] * 6]


def test_coco_stuff_maps_in_other_places(drawn):
    root = drawn("coco_stuff_maps")
    before = open_probe(root)
    (root / "annotations").rename(root / "stuffthingmaps")
    (root / "images/val2017").rename(root / "val2017")
    assert open_probe(root).hash == before.hash
    (root / "stuffthingmaps").rename(root / "maps")
    assert detect_probe(root) is None
    apart = open_probe(root, "coco-stuff-maps", split="val2017", masks=root / "maps", images=root / "val2017")
    assert apart.names == ("000000000139",)
    with pytest.raises(DataError, match=r"maps has no split 'test2017' \(it has: train2017, val2017\)"):
        open_probe(root, "coco-stuff-maps", split="test2017", masks=root / "maps")
    with pytest.raises(DataError, match="has no split with images and labels"):
        open_probe(root, "coco-stuff-maps")


def test_coco_with_all_files_is_panoptic_unless_told(drawn, tmp_path):
    root = drawn("coco_panoptic")
    layouts.lay_out("coco", root)
    assert detect_probe(root).name == "coco-panoptic"
    assert open_probe(root, "coco").name == "coco-things-val2017"
    assert open_data(root).frame == "original"  # without a word, labelled images


def test_cityscapes(drawn):
    data = open_probe(drawn("cityscapes"))
    assert data.columns == {"split": ("train", "val"), "city": ("aachen", "lindau")}
    assert len(data.concepts) == 28
    # 0, 1 and 255 are left out, 4 (static) is no concept, 33 is a bicycle.
    assert seen(data, 0) == (["|".join(["....brrr"] * 6)], [])
    assert data.concepts[data.labels(0, (6, 8)).maps[0, 0, 4]].name == "bicycle"
    assert data.labels(0, (6, 8)).ignored[0].tolist() == [True, True, False, True, False, False, False, False]
    assert open_probe(data.root, split="test").names == ("bonn_000000_000019",)


def test_camvid_of_the_tutorial(drawn):
    data = open_probe(drawn("camvid"))
    assert data.columns["split"] == ("train", "test")
    # Id 0 is the sky, 11 is left out.
    assert seen(data, 0) == (["|".join([".sssssss"] * 3 + [".rrrrrrr"] * 3)], [])
    assert data.concepts[0].name == "sky"
    assert data.labels(0, (6, 8)).ignored[:, 0].all()
    assert data.labels(0, (6, 8)).ignored.sum() == 6
    (data.root / "train.txt").unlink()  # the folders alone tell, too
    assert open_probe(data.root).names == data.names


@pytest.mark.parametrize("name", ["camvid_32", "camvid_701"])
def test_camvid_in_colours(drawn, name):
    data = open_probe(drawn(name))
    assert named(data) == [("lane mkgs driv", "object"), ("suvpickup truck", "object")]
    assert seen(data, 0) == (["|".join(["llllllll"] * 2 + ["ssssssss"] * 3 + ["........"])], [])
    assert data.labels(0, (6, 8)).ignored[5].all()
    assert data.columns == ({"split": ("val",)} if name == "camvid_32" else {})


def test_dtd(drawn):
    data = open_probe(drawn("dtd"))
    assert named(data) == [("banded", "texture"), ("zigzagged", "texture")]
    assert data.columns["split"] == ("train", "val", "test")
    assert [seen(data, index) for index in range(3)] == [([], ["banded"]), ([], ["banded"]), ([], ["zigzagged"])]
    joint = open_probe(data.root, joint=True)
    assert [concept.name for concept in joint.concepts] == ["banded", "grid", "zigzagged"]
    assert seen(joint, 0)[1] == ["banded", "grid"]
    assert seen(joint, 2)[1] == ["zigzagged", "banded"]
    assert open_probe(data.root, split="test2").names == data.names[:2]


def test_attributes(drawn):
    data = open_probe(drawn("attributes"))
    assert named(data) == [("has stripes", "attribute"), ("furry", "attribute")]
    assert data.columns == {"split": ("train", "test"), "note": ("first", "second")}
    assert [seen(data, index)[1] for index in (0, 1)] == [["has stripes"], ["has stripes", "furry"]]
    assert open_probe(data.root, split="test").names == ("b.png",)
    assert open_probe(data.root / "attributes.csv", "attributes").hash == data.hash


def test_celeba(drawn):
    data = open_probe(drawn("celeba"))
    assert [concept.name for concept in data.concepts] == ["5 o Clock Shadow", "Smiling", "Young"]
    assert [seen(data, index)[1] for index in (0, 1)] == [["Smiling", "Young"], ["5 o Clock Shadow"]]
    assert data.columns["split"] == ("train", "test")
    assert open_probe(data.root, split="test").names == ("000002.jpg",)


def test_cub_attributes(drawn):
    data = open_probe(drawn("cub_attributes"))
    assert named(data) == [("bill shape: curved (up or down)", "attribute"), ("wing color: blue", "attribute")]
    both = ["bill shape: curved (up or down)", "wing color: blue"]
    assert [seen(data, index)[1] for index in (0, 1)] == [both[1:], both]
    assert seen(open_probe(data.root, certainty=4), 1)[1] == both[:1]
    assert data.columns["split"] == ("test", "train")
    assert open_localization  # the same folder with boxes is labelled images


def test_pascal_part(drawn):
    data = open_probe(drawn("pascal_part"))
    assert named(data) == [("car", "object"), ("person", "object"), ("head", "part"), ("wheel", "part")]
    first = "|".join(["pppp...."] * 2 + ["pppp.ccc"] * 3 + ["ppppcccc"])
    second = "|".join([".hh....."] * 2 + ["........"] * 2 + [".....w.w"] * 2)
    assert seen(data, 0) == ([first, second], [])
    assert data.columns == {}
    assert open_probe(data.root, split="val").columns == {"split": ("val",)}


def test_pascal_context(drawn):
    data = open_probe(drawn("pascal_context"))
    assert named(data) == [("accordion", "object"), ("aeroplane", "object"), ("mouse", "object")]
    assert seen(data, 0)[0] == ["|".join(["mmmmmmmm"] * 3 + ["aaaa...."] * 3)]
    assert data.concepts[data.labels(0, (6, 8)).maps[0, 5, 0]].name == "aeroplane"
    assert open_probe(data.root, split="val").columns["split"] == ("val",)
    small = open_probe(drawn("pascal_context_59"))
    assert named(small) == [("aeroplane", "object"), ("wood", "object")]
    assert seen(small, 0)[0] == ["|".join(["wwwwwwww"] * 3 + ["........"] * 3)]


def test_overlapping_masks_need_as_few_layers_as_fit():
    rng = np.random.default_rng(0)
    for _ in range(20):
        regions = [(int(rng.integers(5)), rng.random((5, 6)) < 0.3) for _ in range(6)]
        layers = class_layers(regions, (5, 6))
        for y, x in np.ndindex(5, 6):
            there = sorted({number for number, mask in regions if mask[y, x]})
            assert sorted(number for number in layers[:, y, x] if number >= 0) == there
        assert len(layers) <= len({number for number, _ in regions})
    apart = [(number, np.eye(5, dtype=bool) & (np.arange(5) == number)) for number in range(5)]
    assert len(class_layers(apart, (5, 5))) == 1


def test_the_plain_folder_keeps_text_columns(tmp_path):
    layouts.text(tmp_path / "index.csv", "image,mask,scene,split,place", "a.png,m.png,sea,train,", "b.png,,,test,pier")
    layouts.text(tmp_path / "classes.json", '{"layers": {"mask": {"classes": [{"id": 1, "name": "dog"}]}}}')
    layouts.png(tmp_path / "m.png", layouts.ids())
    for name in "ab":
        layouts.photo(tmp_path / f"images/{name}.png")
    assert open_probe(tmp_path).columns == {"split": ("train", "test"), "place": ("", "pier")}
    labels = open_probe(tmp_path, "plain").labels
    assert (labels(0, (1, 1)).annotated, labels(1, (1, 1)).annotated) == (None, ())  # empty cells: not annotated


def test_columns_of_real_packs():
    root = PACKS / "probe-camvid"
    if not root.is_dir():
        pytest.skip("needs the shared data packs")
    data = open_probe(root)
    assert data.columns["split"] == probe_column(root)
    assert set(data.columns) == {"split", "width", "height", "orig_width", "orig_height"}
    full = open_probe(PACKS / "probe-ade20k-sample/full")
    assert "part_mask" not in full.columns
    assert replace(full, columns={}).columns == {}
