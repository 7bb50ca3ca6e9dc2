"""Which concepts are related: word vectors and taxonomies, on files written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from explain.data.vectors import read_taxonomy, read_vectors, taxonomy_distance
from explain.errors import DataError, InputError
from explain.neurons.formula import parse
from explain.neurons.kinds import kind_of
from explain.neurons.relatedness import COSINE, name_words, relatedness
from explain.types import Concept

GLOVE = """dog 1 0 0
cat 0.8 0.6 0
car 0 0 1
hot 0 1 0
zero 0 0 0
t-shirt 0 0.6 0.8
sky 0 -1 0
"""
TREE = "child,parent\nDog,mammal\ncat,mammal\nmammal,animal\neagle,bird\nbird,animal\nbus,vehicle\ncat,pet\nfish,pet\n"


def concepts(*names, category="object"):
    return [Concept(name, category) for name in names]


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text(GLOVE)
    return path


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text(TREE)
    return path


def test_vectors_from_text_and_arrays(glove, tmp_path):
    found = read_vectors(glove, ["dog", "sky", "nothing"])
    assert {word: vector.tolist() for word, vector in found.items()} == {"dog": [1, 0, 0], "sky": [0, -1, 0]}
    assert found["dog"].dtype == np.float32
    (tmp_path / "word2vec.txt").write_text("2 3\n. . . 4 5 6\ndog 1 2 3\n")
    with pytest.raises(DataError, match=r"word2vec.txt line 2: not a word|line 3"):
        read_vectors(tmp_path / "word2vec.txt", ["dog"])
    (tmp_path / "word2vec.txt").write_text("2 3\ndog 1 2 3\n. . . 4 5 6\n")  # GloVe 840B has words with blanks
    assert read_vectors(tmp_path / "word2vec.txt", ["dog", ". . ."])[". . ."].tolist() == [4, 5, 6]
    vectors = np.array([[1, 0.5], [2, 4]], np.float16)
    for name, words in (("lines", np.array("dog\ncat")), ("array", np.array(["dog", "cat"]))):
        np.savez(tmp_path / f"{name}.npz", words=words, vectors=vectors)
        assert read_vectors(tmp_path / f"{name}.npz", ["cat"])["cat"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog 1 2\ncat 1\n", "line 2: not a word and 2 numbers"),
        ("dog 1 x\n", "line 1: could not convert"),
        ("dog 1 nan\n", "the vector of 'dog' is not finite"),
        ("dog\n", "line 1: not a word"),
        ("", "is empty"),
    ],
)
def test_broken_vectors(text, message, tmp_path):
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "v.txt", ["dog", "cat"])


def test_files_that_hold_no_vectors(tmp_path):
    with pytest.raises(DataError, match="no file"):
        read_vectors(tmp_path / "none.txt", ["dog"])
    (tmp_path / "binary.bin").write_bytes(b"\xff\xfe\x00dog")
    with pytest.raises(DataError, match="no UTF-8"):
        read_vectors(tmp_path / "binary.bin", ["dog"])
    np.savez(tmp_path / "other.npz", words=np.array(["dog"]))
    with pytest.raises(DataError, match="it needs the arrays 'words' and 'vectors'"):
        read_vectors(tmp_path / "other.npz", ["dog"])
    np.savez(tmp_path / "short.npz", words=np.array(["dog"]), vectors=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"1 words and vectors \(2, 3\)"):
        read_vectors(tmp_path / "short.npz", ["dog"])


@pytest.mark.parametrize(
    ("one", "other", "edges"),
    [
        ("dog", "dog", 0),
        ("dog", "Cat", 2),
        ("dog", "mammal", 1),
        ("dog", "eagle", 4),
        ("cat", "fish", 2),  # through the other parent
        ("dog", "bus", float("inf")),
        ("animal", "eagle", 2),
    ],
)
def test_edges_through_the_lowest_common_ancestor(tree, one, other, edges):
    assert taxonomy_distance(read_taxonomy(tree), one, other) == edges
    assert taxonomy_distance(read_taxonomy(tree), other, one) == edges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("child\ndog\n", "line 1 lacks the column parent"),
        ("child,parent\ndog,\n", "line 2: child or parent is empty"),
        ("child,parent\n", "holds no edge"),
        ("child,parent\na,b\nb,c\nc,a\nd,a\n", "'a' lies on or below a circle"),
        ("", "line 1 lacks the column child, parent"),
    ],
)
def test_broken_taxonomies(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_taxonomy(tmp_path / "t.csv")


def test_names_and_their_words():
    assert name_words("Hot dog") == (("hot dog", "hot-dog", "hot_dog"), ("hot", "dog"))
    assert name_words("floor-other-merged")[1] == ("floor",)
    assert name_words("sky-c")[1] == ("sky",)
    assert name_words("other") == (("other",), ("other",))
    assert name_words("t-shirt")[0][0] == "t-shirt"


def test_related_by_vectors(glove):
    listed = concepts("dog", "cat", "car", "hot dog", "t-shirt", "unheard of", "zero", "sky-c")
    found = relatedness(glove, listed)
    assert (found.kind, found.file, found.at) == ("vectors", "glove.txt", COSINE)
    assert found.unknown == ("unheard of", "zero")  # a vector of zeros points nowhere
    assert found.near("dog", "cat")  # .8
    assert not found.near("dog", "car")
    assert found.near("dog", "hot dog")  # the mean of hot and dog: .71
    assert found.near("car", "t-shirt")  # .8: the whole name is a word
    assert not found.near("dog", "sky-c")
    assert found.near("unheard of", "car")  # unknown: the same category
    assert found.near("zero", "zero")
    assert "2 of 8 names (25 %) are not in it" in str(found)
    assert found.describe()["unknown"] == ["unheard of", "zero"]
    other = relatedness(glove, [*listed, Concept("unknown color", "color")])
    assert not other.near("unknown color", "unheard of")
    assert not relatedness(glove, listed, 0.9).near("dog", "cat")
    exact = relatedness(glove, listed, 0.8 - 1e-6)
    assert exact.near("dog", "cat")


def test_related_by_a_taxonomy(tree):
    listed = [*concepts("dog", "cat", "eagle", "bus"), Concept("unknown", "object"), Concept("strange", "part")]
    found = relatedness(tree, listed)
    assert found.unknown == ("unknown", "strange")
    assert found.near("dog", "cat")
    assert not found.near("dog", "eagle")
    assert not found.near("dog", "bus")
    assert found.near("unknown", "bus")
    assert not found.near("strange", "bus")
    assert relatedness(tree, listed, 4).near("dog", "eagle")
    assert not relatedness(tree, listed, 1).near("dog", "cat")
    assert "at most 2 edges" in str(found)


def test_kinds_follow_the_file(glove):
    listed = [*concepts("dog", "cat", "car"), Concept("sky", "scene")]
    categories = {concept.name: concept.category for concept in listed}
    near = relatedness(glove, listed).near
    assert kind_of(parse("dog OR cat"), categories, near) == "related"
    assert kind_of(parse("dog OR car"), categories, near) == "unrelated"
    assert kind_of(parse("dog OR car"), categories) == "related"


def test_what_is_refused(glove, tree, tmp_path):
    listed = concepts("dog", "cat")
    assert relatedness(None, listed) is None
    for options, message in (
        ((None, listed, 0.5), "related_at 0.5 needs related_by"),
        ((glove, listed, 1.5), "give a cosine above -1"),
        ((glove, listed, float("nan")), "give a cosine above -1"),
        ((tree, listed, 0.5), "give a whole number of edges"),
        ((tree, listed, 0), "give a whole number of edges"),
        ((tree, listed, float("nan")), "give a whole number of edges"),
        ((tree, listed, float("inf")), "give a whole number of edges"),
        ((glove, [], None), "no concepts"),
    ):
        with pytest.raises(InputError, match=message):
            relatedness(*options)
    with pytest.raises(DataError, match="knows none of the 2 concepts"):
        relatedness(glove, concepts("gato", "perro"))
    with pytest.raises(DataError, match="no file"):
        relatedness(tmp_path / "none.csv", listed)


def test_the_threshold_on_real_vectors():
    """What the documentation says of GloVe and COCO's names."""
    shared = Path(__file__).parents[3] / "shared" / "data"
    vectors, classes = shared / "nli" / "glove50.npz", shared / "probe-coco" / "classes.json"
    if not (vectors.is_file() and classes.is_file()):
        pytest.skip("needs the shared packs of word vectors and COCO's names")
    import json

    rows = json.loads(classes.read_text())["layers"]["mask"]["classes"]
    found = relatedness(vectors, [Concept(row["name"], row["category"]) for row in rows])
    group = np.array([row["supercategory"] for row in rows])
    known = np.array([row["name"] not in found.unknown for row in rows])
    pair = np.triu(known[:, None] & known[None], 1)
    same = group[:, None] == group[None]
    assert found.pairs[pair & same].mean() == pytest.approx(0.52, abs=0.01)
    assert found.pairs[pair & ~same].mean() == pytest.approx(0.13, abs=0.01)
