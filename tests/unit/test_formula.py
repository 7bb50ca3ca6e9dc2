import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explain.errors import InputError
from explain.neurons import formula as language
from explain.neurons.formula import (
    And,
    Leaf,
    Not,
    Or,
    canonical,
    check_names,
    evaluate,
    leaves,
    length,
    parse,
)

names = st.one_of(
    st.sampled_from(["a", "b", "c", "AND", "not", "swimming pool", 'a"b', "x(1)", "back\\"]),
    st.text(min_size=1),
)
letters = st.sampled_from(["a", "b", "c"])
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine stops a test for half a second now and then."""


def formulas(leaf=names):
    return st.recursive(
        leaf.map(Leaf),
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: And(tuple(parts))),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: Or(tuple(parts))),
        ),
        max_leaves=8,
    )


ROWS = np.array(list(np.ndindex(2, 2, 2)), bool)
MASKS = {"a": ROWS[:, 0], "b": ROWS[:, 1], "c": ROWS[:, 2]}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("red", "red"),
        ("(red OR blue) AND NOT sky", "(red OR blue) AND NOT sky"),
        ("red or blue and not sky", "red OR blue AND NOT sky"),
        ("((red) OR ((blue)))", "red OR blue"),
        ("(a OR b) OR c", "a OR b OR c"),
        ("NOT (a OR b)", "NOT (a OR b)"),
        ("NOT NOT a", "NOT NOT a"),
        ("NOT a OR b", "NOT a OR b"),
        ('"swimming pool" AND red-c', '"swimming pool" AND red-c'),
        (r'"a \"b\" \\ c"', r'"a \"b\" \\ c"'),
        ('"plain"', "plain"),
        ('"and" OR "Not"', '"and" OR "Not"'),
        ("dog's OR a/b:c_d.e-1", "dog's OR a/b:c_d.e-1"),
        ("android OR nothing", "android OR nothing"),
        ("a AND(b)OR c", "a AND b OR c"),
    ],
)
def test_prints_with_few_parentheses(text, printed):
    assert str(parse(text)) == printed


def test_not_binds_tighter_than_and_tighter_than_or():
    read = parse("NOT a AND b OR c")
    assert isinstance(read, Or)
    assert isinstance(read.parts[0], And)
    assert isinstance(read.parts[0].parts[0], Not)


@pytest.mark.parametrize(
    ("text", "column", "expected", "got"),
    [
        ("", 1, 'a concept, NOT or "("', "the end"),
        ("red OR", 7, 'a concept, NOT or "("', "the end"),
        ("red OR OR blue", 8, 'a concept, NOT or "("', 'OR (a concept of this name is written "OR")'),
        ("red blue", 5, "AND, OR or the end", "'blue' (names with blanks"),
        ("(red OR blue", 13, 'AND, OR or ")"', "the end"),
        ("red)", 4, "AND, OR or the end", "')'"),
        ('red OR "blue', 8, 'a closing "', "the end"),
        ('red OR ""', 8, "a concept name", "an empty name"),
        ("red NOT blue", 5, "AND, OR or the end", "NOT"),
        ("(" * 500 + "a" + ")" * 500, 102, "at most 100 levels", "more"),
    ],
)
def test_errors_name_the_column_and_what_was_expected(text, column, expected, got):
    with pytest.raises(InputError) as caught:
        parse(text)
    message = str(caught.value)
    assert f"at column {column} expected {expected}" in message
    assert got in message
    assert "\n" not in message


@PATIENT
@given(formulas())
def test_parse_reads_what_str_prints(formula):
    read = parse(str(formula))
    assert read == formula
    assert str(canonical(read)) == str(canonical(formula))
    assert hash(read) == hash(formula)
    assert str(parse(str(canonical(formula)))) == str(canonical(formula))


@PATIENT
@given(formulas(letters))
def test_canonical_form_means_the_same(formula):
    assert np.array_equal(evaluate(formula, MASKS.__getitem__), evaluate(canonical(formula), MASKS.__getitem__))
    assert str(canonical(canonical(formula))) == str(canonical(formula))


@PATIENT
@given(formulas(letters), formulas(letters))
def test_equal_formulas_have_equal_masks(one, other):
    if one == other:
        assert np.array_equal(evaluate(one, MASKS.__getitem__), evaluate(other, MASKS.__getitem__))


@PATIENT
@given(formulas(letters), formulas(letters))
def test_de_morgan(one, other):
    left = evaluate(Not(And((one, other))), MASKS.__getitem__)
    right = evaluate(Or((Not(one), Not(other))), MASKS.__getitem__)
    assert np.array_equal(left, right)


def test_equality_knows_order_duplicates_and_double_negation():
    assert parse("a OR b") == parse("b OR a OR b")
    assert parse("NOT NOT a") == parse("a AND a")
    assert parse("(a AND b) AND c") == parse("c AND (b AND a)")
    assert len({parse("a OR b"), parse("b OR a")}) == 1
    assert parse("a OR b") != parse("a AND b")
    assert parse("a AND NOT b") != parse("b AND NOT a")
    assert parse("a") != "a"


def test_length_counts_leaves_only():
    formula = parse("(a OR NOT b) AND NOT (a AND c)")
    assert length(formula) == 4
    assert leaves(formula) == ("a", "b", "a", "c")


def test_evaluates_tensors():
    masks = {name: torch.from_numpy(mask) for name, mask in MASKS.items()}
    got = evaluate(parse("(a OR b) AND NOT c"), masks.__getitem__)
    assert torch.equal(got, (masks["a"] | masks["b"]) & ~masks["c"])


def test_refuses_masks_that_are_not_bool():
    with pytest.raises(InputError, match="int64, not bool"):
        evaluate(parse("NOT a"), {"a": np.array([0, 1])}.__getitem__)


def test_unknown_names_come_with_near_ones():
    check_names(parse("red AND sky"), ["red", "sky"])
    with pytest.raises(InputError, match=r"unknown concept 'gras' in formula gras; near: grass"):
        check_names(parse("gras"), ["grass", "dog"])


def test_repr_can_be_read_back():
    formula = parse('a AND NOT "b c"')
    assert eval(repr(formula), {"parse": language.parse}) == formula
