"""Draw the samples of lists of photos, of sentence pairs and of word vectors: called by ``draw_samples.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from draw_samples import text
from PIL import Image


def small_photo(path: Path) -> None:
    """Write a picture 8 pixels wide and 6 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(path)


def dtd(root: Path) -> None:
    names = ("banded/banded_0002.jpg", "banded/banded_0004.jpg", "zigzagged/zigzagged_0001.jpg")
    for name in names:
        small_photo(root / "images" / name)
    for split, name in zip(("train", "val", "test"), names, strict=True):
        text(root / f"labels/{split}1.txt", name)
    text(root / "labels/test2.txt", names[0], names[1])
    joint = (f"{names[0]} banded grid ", f"{names[1]} banded ", f"{names[2]} zigzagged banded ")
    text(root / "labels/labels_joint_anno.txt", *joint)


def celeba(root: Path) -> None:
    text(
        root / "list_attr_celeba.txt",
        "2",
        "5_o_Clock_Shadow Smiling Young ",
        "000001.jpg -1  1  1",
        "000002.jpg  1 -1 -1",
    )
    text(root / "list_eval_partition.txt", "000001.jpg 0", "000002.jpg 2")
    for number in (1, 2):
        small_photo(root / f"img_align_celeba/{number:06d}.jpg")


def cub_attributes(root: Path) -> None:
    text(root / "images.txt", "1 001.Albatross/A_0001.jpg", "2 002.Tern/T_0001.jpg")
    text(root / "train_test_split.txt", "1 0", "2 1")
    text(root / "attributes.txt", "1 has_bill_shape::curved_(up_or_down)", "2 has_wing_color::blue")
    text(
        root / "attributes/image_attribute_labels.txt",
        *("1 1 0 3 27.7", "1 2 1 1 5.0", "2 1 1 4 1.5", "2 2 1 3 0 1.1"),
    )
    for name in ("001.Albatross/A_0001.jpg", "002.Tern/T_0001.jpg"):
        small_photo(root / "images" / name)


def places365(root: Path) -> None:
    """Three places of the 365, and two photos of the validation set at 256 pixels' place."""
    text(root / "categories_places365.txt", "/a/airfield 0", "/a/apartment_building/outdoor 1", "/z/zen_garden 2")
    text(root / "places365_val.txt", "Places365_val_00000001.jpg 2", "Places365_val_00000002.jpg 1")
    for number in (1, 2):
        small_photo(root / f"val_256/Places365_val_{number:08d}.jpg")


def sun397(root: Path) -> None:
    """The list of classes, and the first of ten partitions, which come in an archive of their own."""
    names = {
        "/a/abbey": ("sun_aaalbzqrimafwbiv", "sun_aaaulhwrhqgejnyt"),
        "/a/apartment_building/outdoor": ("sun_aaetdjdebcpbblkd", "sun_aahhhhswtvlnzwqa"),
    }
    text(root / "ClassName.txt", *names)
    for place, name in enumerate(("Training_01", "Testing_01")):
        text(root / f"Partitions/{name}.txt", *(f"{folder}/{own[place]}.jpg" for folder, own in names.items()))
    for folder, own in names.items():
        for name in own:
            small_photo(root / f"{folder[1:]}/{name}.jpg")


PAIRS = (
    (
        "entailment",
        "A dog sleeps on a red sofa.",
        "An animal sleeps.",
        "entailment entailment entailment neutral neutral",
    ),
    ("contradiction", "A dog sleeps on a red sofa.", "Nobody is here.", "contradiction " * 5),
    ("neutral", "Two girls play by the sea.", "The girls are sisters.", "neutral neutral neutral entailment neutral"),
    ("-", "Two girls play by the sea.", "It isn't cold.", "neutral neutral entailment entailment contradiction"),
)
"""Pairs of our own, in the style of SNLI; the last one has no majority."""

TAGS = {
    "a": "DT", "an": "DT", "the": "DT", "two": "CD", "dog": "NN", "sofa": "NN", "animal": "NN", "sea": "NN",
    "girls": "NNS", "sisters": "NNS", "sleeps": "VBZ", "is": "VBZ", "play": "VBP", "are": "VBP", "red": "JJ",
    "cold": "JJ", "on": "IN", "by": "IN", "nobody": "NN", "here": "RB", "it": "PRP", "n't": "RB", ".": ".",
}  # fmt: skip


def words_of(sentence: str) -> list[str]:
    """Cut a sentence as the Penn Treebank does."""
    return sentence.replace("n't", " n't").replace(".", " .").split()


def parses(sentence: str) -> tuple[str, str]:
    """Return a binary and a constituency parse, both flat: brackets nest to the right."""
    words = words_of(sentence)
    binary = words[-1]
    for word in reversed(words[:-1]):
        binary = f"( {word} {binary} )"
    return binary, f"(ROOT (S {' '.join(f'({TAGS[word.lower()]} {word})' for word in words)}))"


def nli_row(number: int, ids: tuple[str, ...]) -> list[str]:
    """Return the cells that SNLI and MultiNLI share, with those of ``ids`` between sentences and annotators."""
    gold, premise, hypothesis, annotators = PAIRS[number]
    (binary, tree), (own_binary, own_tree) = parses(premise), parses(hypothesis)
    return [gold, binary, own_binary, tree, own_tree, premise, hypothesis, *ids, *annotators.split()]


PARSED = [f"sentence{side}_{kind}" for kind in ("binary_parse", "parse") for side in (1, 2)]


def snli(root: Path) -> None:
    header = [
        "gold_label",
        *PARSED,
        "sentence1",
        "sentence2",
        "captionID",
        "pairID",
        *(f"label{n}" for n in range(1, 6)),
    ]
    rows = [
        nli_row(number, (f"10{number // 2}.jpg#0", f"10{number // 2}.jpg#0r1{'ecn'[number % 3]}"))
        for number in range(4)
    ]
    text(root / "snli_1.0/snli_1.0_dev.txt", "\t".join(header), *("\t".join(row) for row in rows))
    keys = ["captionID", "pairID"]
    lines = [
        json.dumps(
            {"annotator_labels": row[-5:], **dict(zip(header[:7], row[:7], strict=True))}
            | dict(zip(keys, row[7:9], strict=True))
        )
        for row in rows
    ]
    text(root / "snli_1.0/snli_1.0_dev.jsonl", *lines)


def multinli(root: Path) -> None:
    ids = ["promptID", "pairID", "genre"]
    header = ["gold_label", *PARSED, "sentence1", "sentence2", *ids, *(f"label{n}" for n in range(1, 6))]
    rows = [nli_row(number, (str(number), f"{number}{'ecn'[number % 3]}", "fiction")) for number in range(3)]
    for name in ("matched", "mismatched"):
        text(root / f"multinli_1.0/multinli_1.0_dev_{name}.txt", "\t".join(header), *("\t".join(row) for row in rows))


def sick(root: Path) -> None:
    header = (
        "pair_ID sentence_A sentence_B entailment_label relatedness_score entailment_AB entailment_BA"
        " sentence_A_original sentence_B_original sentence_A_dataset sentence_B_dataset SemEval_set"
    ).split()
    rows = []
    for number, (gold, premise, hypothesis, _) in enumerate(PAIRS[:3], 1):
        first, second = premise.rstrip("."), hypothesis.rstrip(".")
        ways = {"entailment": "entails", "contradiction": "contradicts", "neutral": "neutral"}
        part = ("TRAIN", "TRIAL", "TEST")[number - 1]
        ways_of = [f"A_{ways[gold]}_B", "B_neutral_A"]
        rows.append(
            [str(number), first, second, gold.upper(), "3.6", *ways_of, premise, hypothesis, "FLICKR", "FLICKR", part]
        )
    text(root / "SICK.txt", "\t".join(header), *("\t".join(row) for row in rows))


def breaking_nli(root: Path) -> None:
    pairs = (
        ("contradiction", "A dog sleeps on a red sofa.", "A dog sleeps on a blue sofa.", "colors"),
        ("entailment", "A dog sleeps on a red sofa.", "A dog sleeps on a red couch.", "synonyms"),
    )
    lines = [
        json.dumps(
            {"sentence1": first, "sentence2": second, "gold_label": gold, "category": category}
            | {"annotator_labels": [gold] * 3, "pairID": number}
        )
        for number, (gold, first, second, category) in enumerate(pairs)
    ]
    text(root / "data/dataset.jsonl", *lines)


def glove(root: Path) -> None:
    """Seven words and four dimensions, seeded."""
    rng = np.random.default_rng(0)
    words = ("the", ".", "dog", "animal", "sofa", "couch", "n't")
    lines = (f"{word} {' '.join(f'{value:.5f}' for value in rng.normal(size=4))}" for word in words)
    text(root / "glove.6B.4d.txt", *lines)


LISTED_SAMPLES = {
    "dtd/sample": dtd,
    "celeba/sample": celeba,
    "cub/sample-attributes": cub_attributes,
    "places365/sample": places365,
    "sun397/sample": sun397,
    "snli/sample": snli,
    "multinli/sample": multinli,
    "sick/sample": sick,
    "breaking-nli/sample": breaking_nli,
    "glove/sample": glove,
}
"""Where each sample lies below ``datasets/``, and what draws it."""
