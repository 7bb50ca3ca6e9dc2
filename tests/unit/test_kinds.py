"""Kinds of formula."""

from __future__ import annotations

import pytest

from explain.neurons.formula import parse
from explain.neurons.kinds import kind_of, shares, suggests_polysemantic

CATEGORIES = {"dog": "animal", "cat": "animal", "red": "color", "car": "vehicle", "bus": "vehicle"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, "none"),
        ("dog", "single"),
        ("dog AND dog", "single"),
        ("dog OR cat", "related"),
        ("dog OR red", "unrelated"),
        ("dog OR cat OR car OR bus", "unrelated"),  # two groups
        ("dog AND red", "specialised"),
        ("dog AND NOT red AND NOT cat", "specialised"),
        ("(dog OR cat) AND red", "mixed"),
        ("dog OR NOT cat", "mixed"),
        ("NOT dog", "mixed"),
    ],
)
def test_kinds(text, kind):
    assert kind_of(parse(text) if text else None, CATEGORIES) == kind


def test_relatedness_of_ones_own_joins_chains():
    chain = {("dog", "red"), ("red", "car")}
    near = lambda one, other: (one, other) in chain or (other, one) in chain  # noqa: E731
    assert kind_of(parse("dog OR red OR car"), CATEGORIES, near) == "related"
    assert kind_of(parse("dog OR car"), CATEGORIES, near) == "unrelated"


def test_shares_and_suggestion():
    assert shares(["single", "none", "related", "single"]) == {"single": 2 / 3, "related": 1 / 3}
    assert shares(["none"]) == {}
    assert suggests_polysemantic("unrelated")
    assert not suggests_polysemantic("related")
