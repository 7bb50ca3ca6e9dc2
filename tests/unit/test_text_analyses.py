"""PMI, confusion, accuracy when firing, other data, and words that flip answers, against literal oracles."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import nli_analyses as oracle
from scipy import stats

from explain.data.pairs import Sentence
from explain.errors import InputError, ModelError
from explain.neurons.formula import parse
from explain.text.analyses.accuracies import (
    accuracy_when_firing,
    correlations_by_length,
    ious_by_length,
)
from explain.text.analyses.association import class_counts, class_pmi, leading
from explain.text.analyses.confusion import confusion
from explain.text.analyses.edits import Edit, Pair, WordConcept, edited, literals, proposals
from explain.text.analyses.flips import flips
from explain.text.analyses.gains import gain
from explain.text.analyses.matching import control_words, vocabulary_of
from explain.text.analyses.out_of_distribution import out_of_distribution

SEEDS = st.integers(0, 10**6)
SNLI = Path(__file__).parents[3] / "shared" / "data" / "nli" / "snli_dev.tsv.gz"
CLASSES = ("entailment", "neutral", "contradiction")


def as_rows(sets):
    """Sets of numbers as (indptr, indices)."""
    return np.cumsum([0, *map(len, sets)]), np.array([one for row in sets for one in sorted(row)], np.int32)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 5), st.sampled_from([100.0, 1.0, 0.5]))
def test_pmi_is_that_of_the_smoothed_counts(seed, concepts, smoothing):
    rng = np.random.default_rng(seed)
    sets = [set(np.flatnonzero(rng.random(concepts) < 0.4).tolist()) for _ in range(30)]
    labels = rng.integers(-1, 3, 30)
    counts = class_counts(*as_rows(sets), labels, concepts)
    found = class_pmi(counts, smoothing)
    for (concept, label), value in oracle.pmi(sets, labels.tolist(), concepts, smoothing=smoothing).items():
        assert found[concept, label] == pytest.approx(value, abs=1e-12)


def test_without_smoothing_what_never_meets_is_minus_infinity():
    pmi = class_pmi(np.array([[4, 0, 0], [1, 1, 1]]), smoothing=0)
    assert pmi[0, 1] == -np.inf
    assert pmi[0, 0] == pytest.approx(np.log(4 * 7 / (4 * 5)))


def test_pmi_refuses_labels_that_are_no_classes():
    with pytest.raises(InputError, match="labels run from 0 to 3"):
        class_counts(np.array([0, 0, 0]), np.zeros(0, np.int32), np.array([0, 3]), 1)
    with pytest.raises(InputError, match="1 labels for 2 pairs"):
        class_counts(np.array([0, 0, 0]), np.zeros(0, np.int32), np.array([0]), 1)
    with pytest.raises(InputError, match="smoothing -1"):
        class_pmi(np.zeros((1, 3), np.int64), -1)


@pytest.mark.skipif(not SNLI.exists(), reason="the SNLI pack is not there")
def test_sleeping_and_nobody_lead_contradiction_on_snli():
    with gzip.open(SNLI, "rt", encoding="utf-8") as file:
        header, *lines = (line.rstrip("\n").split("\t") for line in file)
    gold, hypothesis = header.index("gold"), header.index("hypothesis")
    sets = [set(row[hypothesis].lower().split()) for row in lines]
    words = sorted(set().union(*sets))
    numbers = {word: number for number, word in enumerate(words)}
    labels = np.array([CLASSES.index(row[gold]) if row[gold] in CLASSES else -1 for row in lines])
    counts = class_counts(*as_rows([{numbers[word] for word in one} for one in sets]), labels, len(words))
    top = leading(class_pmi(counts), counts, words, top=3)[2]
    assert [one.concept for one in top[:2]] == ["sleeping", "nobody"]
    assert [one.counts for one in top[:2]] == [(7, 6, 95), (0, 0, 53)]


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_confusion_counts_pairs_one_by_one(seed):
    rng = np.random.default_rng(seed)
    holds, labels, predictions = rng.random(40) < 0.5, rng.integers(-1, 3, 40), rng.integers(0, 3, 40)
    found = confusion(holds, labels, predictions)
    cells, entropy = oracle.confusion(holds.tolist(), labels.tolist(), predictions.tolist())
    assert {(i, j): n for i, row in enumerate(found.counts) for j, n in enumerate(row) if n} == dict(cells)
    assert found.pairs == sum(cells.values())
    assert found.label_entropy == pytest.approx(entropy)
    assert found.accuracy == pytest.approx(sum(cells[k, k] for k in range(3)) / max(found.pairs, 1))


def test_confusion_where_nothing_holds_and_with_wrong_sizes():
    found = confusion(np.zeros(2, bool), np.array([0, 1]), np.array([0, 1]))
    assert (found.pairs, found.accuracy, found.label_entropy) == (0, 0.0, 0.0)
    with pytest.raises(InputError, match="2 pairs, 1 labels, 2 predictions"):
        confusion(np.ones(2, bool), np.array([0]), np.array([0, 1]))


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_accuracy_when_firing(seed):
    rng = np.random.default_rng(seed)
    firing, labels, predictions = rng.random((25, 4)) < 0.2, rng.integers(-1, 3, 25), rng.integers(0, 3, 25)
    accuracy, pairs = accuracy_when_firing(firing, labels, predictions)
    for unit, (right, n) in enumerate(oracle.accuracy_when_firing(firing, labels.tolist(), predictions.tolist())):
        assert pairs[unit] == n
        assert (np.isnan(accuracy[unit]) and n == 0) or accuracy[unit] == right / n


def test_correlations_for_every_length_and_iou_that_keeps_rising():
    found = [[0.1, 0.2], [0.3], [], [0.2, 0.2, 0.6], [0.05, 0.06, 0.07]]
    units = [SimpleNamespace(best_by_length=[(at, "f", iou) for at, iou in enumerate(one, 1)]) for one in found]
    ious = ious_by_length(units)
    assert ious.tolist() == [[0.1, 0.2, 0.2], [0.3] * 3, [0] * 3, [0.2, 0.2, 0.6], [0.05, 0.06, 0.07]]
    rows = correlations_by_length(ious, np.array([0.5, 0.2, 0.9, 0.1, np.nan]))
    assert [row.length for row in rows] == [1, 2, 3]
    assert [row.gaining for row in rows] == [0.75, 0.25, 0.25]  # of the four units with an accuracy
    assert rows[2].mean_iou == pytest.approx((0.2 + 0.3 + 0.6) / 4)
    assert rows[0].pearson.value == pytest.approx(np.corrcoef(ious[:4, 0], [0.5, 0.2, 0.9, 0.1])[0, 1])
    assert rows[0].spearman.value == pytest.approx(stats.spearmanr(ious[:4, 0], [0.5, 0.2, 0.9, 0.1]).statistic)


def test_the_bootstrap_of_a_difference_is_that_over_pairs():
    rng = np.random.default_rng(1)
    first, second = (rng.random(80) < 0.6).astype(float), rng.integers(0, 3, 80) / 2
    found = gain(first, second, replicates=20_000)
    draws = (first - second)[rng.integers(0, 80, (20_000, 80))].mean(1)
    assert found.value == pytest.approx(100 * (first - second).mean())
    assert (found.low, found.high) == pytest.approx(tuple(100 * np.quantile(draws, [0.025, 0.975])), abs=2)
    assert gain(np.zeros(0), np.zeros(0)).n == 0


def test_accuracy_on_other_data_by_category():
    labels, predictions = np.array([2, 2, 2, 0, -1, 0]), np.array([2, 0, 0, 0, 1, 0])
    found = out_of_distribution(labels, predictions, ["colors", "colors", "colors", "synonyms", "synonyms", "colors"])
    assert (found.accuracy.value, found.accuracy.n, found.majority.value) == (60, 5, 60)
    first, second = found.categories
    assert (first.category, first.accuracy.value, first.predicted, first.labelled) == (
        "colors", 50, (3, 0, 1), (1, 0, 3),
    )  # fmt: skip
    assert (second.category, second.accuracy.n) == ("synonyms", 1)
    assert out_of_distribution(labels, predictions).categories == ()
    with pytest.raises(InputError, match="6 labels, 2 predictions"):
        out_of_distribution(labels, predictions[:2])


def sentence(text, **more):
    return Sentence(text, tuple(text.split()), **more)


def test_edits_of_a_pair():
    pair = Pair(sentence("A man sleeps ."), sentence("The Man runs"))

    def after(kind, side, *words, position="end"):
        made = edited(pair, Edit(kind, side, words), position)
        if made is None:
            return None
        assert made.side(side).tokens == tuple(made.side(side).text.split())
        return made.side(side).text

    assert after("insert", "premise", "dog") == "A man sleeps dog ."
    assert after("insert", "hypothesis", "dog") == "The Man runs dog"
    assert after("insert", "hypothesis", "dog", position="start") == "dog The Man runs"
    assert after("insert", "hypothesis", "man") is None
    assert after("remove", "hypothesis", "man", "runs") == "The"
    assert after("remove", "premise", "a", "man", "sleeps") is None
    assert after("remove", "premise", "dog") is None


def test_edits_keep_spacing_and_lemmas():
    one = Sentence("He doesn't run.", ("He", "does", "n't", "run", "."), lemmas=("he", "do", "not", "run", "."))
    pair = Pair(one, one)
    put = edited(pair, Edit("insert", "premise", ("dog",))).premise
    assert (put.text, put.words) == ("He doesn't run dog.", ("he", "do", "not", "run", "dog", "."))
    gone = edited(pair, Edit("remove", "hypothesis", ("not",))).hypothesis
    assert (gone.text, gone.words) == ("He does run.", ("he", "do", "run", "."))
    assert edited(pair, Edit("insert", "premise", ("do",))) is None


def test_proposals_follow_polarity_and_the_largest_weight():
    formula = parse('hyp:nobody AND NOT (pre:dog OR "hyp tag") OR near')
    assert list(literals(formula)) == [("hyp:nobody", True), ("pre:dog", False), ("hyp tag", False), ("near", True)]
    words = {
        "hyp:nobody": WordConcept("hypothesis", ("nobody",)),
        "pre:dog": WordConcept("premise", ("dog",)),
        "near": WordConcept("hypothesis", ("cat", "kitten")),
    }
    found = proposals(7, formula, [0.1, -2.0, 0.4], words)
    assert {(one.unit, one.target) for one in found} == {(7, 2)}
    assert [(one.concept, *one.edit, one.toward) for one in found] == [
        ("hyp:nobody", "insert", "hypothesis", ("nobody",), True),
        ("hyp:nobody", "remove", "hypothesis", ("nobody",), False),
        ("pre:dog", "insert", "premise", ("dog",), False),
        ("pre:dog", "remove", "premise", ("dog",), True),
        ("near", "insert", "hypothesis", ("cat",), True),
        ("near", "remove", "hypothesis", ("cat", "kitten"), False),
    ]
    with pytest.raises(InputError, match="weights of unit 7"):
        proposals(7, formula, [1.0, float("nan")], words)


def test_controls_are_as_frequent_and_of_the_same_tag():
    text = "a a a dog cat runs sleeps sleeps . eats eats"
    plain = vocabulary_of([sentence(text)] * 2)
    assert "." not in plain.counts
    assert control_words("sleeps", plain, 2) == ("eats", "a")
    assert control_words("sleeps", plain, 2, without=["eats"]) == ("a", "cat")
    tagged = sentence(text, tags=tuple("DDDNNVVV.VV"))
    assert control_words("dog", vocabulary_of([tagged] * 2), 3) == ("cat", "runs", "eats")
    rarer = "dog runs cat cat cat"  # a word of the same tag comes first, however frequent it is
    assert control_words("dog", vocabulary_of([sentence(rarer, tags=tuple("NVNNN"))]), 2) == ("cat", "runs")
    assert control_words("dog", vocabulary_of([sentence(rarer)]), 2) == ("runs", "cat")
    assert control_words("dog", plain, 3, among=["dog", "a", "sleeps", "."]) == ("sleeps", "a")


def grammar(count=120, seed=0):
    """Template sentences; the planted model answers "nobody" with contradiction, else compares the verbs."""
    rng = np.random.default_rng(seed)
    subjects, verbs, places = ["man", "dog", "child", "woman"], ["runs", "eats", "sleeps", "sings"], ["here", "there"]
    pairs, labels = [], []
    for _ in range(count):
        premise = ["a", *(str(rng.choice(part)) for part in (subjects, verbs, places)), "."]
        subject = "nobody" if rng.random() < 0.3 else str(rng.choice(subjects))
        hypothesis = [subject, str(rng.choice(verbs)), str(rng.choice(places)), "."]
        if subject != "nobody":
            hypothesis.insert(0, "a")
        pairs.append((premise, hypothesis))
        labels.append(planted(premise, hypothesis) if rng.random() < 0.9 else int(rng.integers(0, 3)))
    return pairs, np.array(labels)


def planted(premise, hypothesis):
    if "nobody" in hypothesis:
        return 2
    return 0 if premise[2] in hypothesis else 1


def answers(pairs):
    return np.array([planted(pair.premise.tokens, pair.hypothesis.tokens) for pair in pairs])


def as_pairs(pairs):
    return [Pair(*(sentence(" ".join(tokens)) for tokens in pair)) for pair in pairs]


WORDS = {f"hyp:{word}": WordConcept("hypothesis", (word,)) for word in ("nobody", "man", "there")}


def test_flips_find_exactly_the_planted_word():
    pairs, labels = grammar()
    given_pairs = as_pairs(pairs)
    proposed = [
        *proposals(0, parse("hyp:nobody"), [0, 0, 1.0], WORDS),
        *proposals(1, parse("hyp:man OR hyp:there"), [0, 0, 1.0], WORDS),
    ]
    found = flips(answers, given_pairs, labels, answers(given_pairs), proposed, controls=3)
    right = answers(given_pairs) == labels
    assert found.pairs == right.sum()
    by_word = {(one.proposal.edit.kind, one.proposal.edit.words[0]): one for one in found.rows}
    for kind in ("insert", "remove"):
        row = by_word[kind, "nobody"]
        assert (row.flips.value, row.control, row.gain.value, row.gain.low) == (100, 0, 100, 100)
        assert "nobody" not in row.controls and len(row.controls) == 3
    assert by_word["insert", "nobody"].flips.n == (right & (labels != 2)).sum()
    assert by_word["remove", "nobody"].flips.n == (right & (labels == 2)).sum()
    for word in ("man", "there"):
        row = by_word["insert", word]
        assert row.flips.value == 0 and row.gain.high <= 0  # "nobody" may be among the controls
    shown = by_word["insert", "nobody"].examples[0]
    assert shown.after.hypothesis.text.endswith(" nobody .") and shown.answer == 2 and shown.label == labels[shown.pair]
    edits = [(one.flips.value - one.control, one.flips.n) for one in found.rows]
    assert found.gains["all"].value == pytest.approx(sum(v * n for v, n in edits) / sum(n for _, n in edits))
    assert found.gains["insert"].n + found.gains["remove"].n == found.gains["all"].n


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.integers(1, 4))
def test_flips_are_those_of_a_loop_over_pairs_and_words(seed, controls):
    """A model that many words move, so that controls flip answers too."""
    pairs, labels = grammar(60, seed)
    weights = {word: int(seed >> number) % 3 for number, word in enumerate(["man", "dog", "sleeps", "there", "nobody"])}

    def model(premise, hypothesis):
        return sum(weights.get(word, 0) for word in hypothesis) % 3

    given_pairs = as_pairs(pairs)
    predictions = np.array([model(*pair) for pair in pairs])
    labels = np.where(np.arange(len(labels)) % 4 == 0, labels, predictions)
    proposed = proposals(0, parse("hyp:man OR hyp:there"), [0, 1.0, 0], WORDS)
    found = flips(
        lambda some: np.array([model(pair.premise.tokens, pair.hypothesis.tokens) for pair in some]),
        given_pairs, labels, predictions, proposed, controls=controls, replicates=100,
    )  # fmt: skip
    rows = {(one.proposal.edit.kind, one.proposal.edit.words[0]): one for one in found.rows}
    for word in ("man", "there"):
        for kind, run in (("insert", oracle.inserted), ("remove", oracle.removed)):
            hits, shares = run(model, pairs, labels.tolist(), word, 1, controls, {"man", "there"})
            if not hits:
                assert (kind, word) not in rows
                continue
            row = rows[kind, word]
            assert (row.flips.n, row.flips.value) == (len(hits), pytest.approx(100 * np.mean(hits)))
            assert row.control == pytest.approx(100 * np.mean(shares))
            assert row.gain.value == pytest.approx(100 * (np.mean(hits) - np.mean(shares)))


def test_each_edit_is_asked_once_and_few_pairs_where_limited():
    pairs, labels = grammar()
    given_pairs = as_pairs(pairs)
    seen = []

    def model(some):
        seen.extend(some)
        return answers(some)

    proposed = [one for unit in (0, 1) for one in proposals(unit, parse("hyp:nobody"), [0, 0, 1.0], WORDS)]
    twice = flips(model, given_pairs, labels, answers(given_pairs), proposed, limit=20, seed=4)
    count = len(seen)
    seen.clear()
    once = flips(model, given_pairs, labels, answers(given_pairs), proposed[:2], limit=20, seed=4)
    assert len(seen) == count  # the second unit proposes the same
    assert twice.rows[:2] == once.rows
    assert twice.pairs == 20


def test_flips_say_what_is_wrong():
    pairs = as_pairs(grammar(4)[0])
    labels, proposed = np.array([0, 1, 2, -1]), proposals(0, parse("hyp:man"), [1.0, 0, 0], WORDS)
    with pytest.raises(InputError, match="no pair is classified correctly"):
        flips(answers, pairs, labels, np.array([1, 2, 0, 0]), proposed)
    with pytest.raises(InputError, match="4 pairs, 4 labels, 1 predictions"):
        flips(answers, pairs, labels, labels[:1], proposed)
    with pytest.raises(InputError, match="controls 0"):
        flips(answers, pairs, labels, labels, proposed, controls=0)
    with pytest.raises(InputError, match="position 'middle'"):
        flips(answers, pairs, labels, labels, proposed, position="middle")
    with pytest.raises(InputError, match="limit 0"):
        flips(answers, pairs, labels, labels, proposed, limit=0)
    with pytest.raises(ModelError, match="want one class each"):
        flips(lambda some: np.zeros((len(some), 3)), pairs, labels, labels, proposed)
