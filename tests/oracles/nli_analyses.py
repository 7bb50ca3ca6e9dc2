"""Slow, literal versions of the analyses of NLI models: one pair, one concept, one word at a time."""

from __future__ import annotations

import math
from collections import Counter


def pmi(pairs, labels, concepts, classes=3, smoothing=100.0):
    """``pairs``: sets of concepts. Return {(concept, class): PMI in nats}; concepts and classes by number."""
    joint = {(concept, label): smoothing for concept in range(concepts) for label in range(classes)}
    for having, label in zip(pairs, labels, strict=True):
        if label < 0:
            continue
        for concept in having:
            joint[concept, label] += 1
    total = sum(joint.values())
    found = {}
    for concept, label in joint:
        of_concept = sum(joint[concept, other] for other in range(classes)) / total
        of_class = sum(joint[other, label] for other in range(concepts)) / total
        found[concept, label] = math.log(joint[concept, label] / total / (of_concept * of_class))
    return found


def confusion(holds, labels, predictions):
    """Return {(label, prediction): pairs} and the labels' entropy in bits."""
    cells = Counter()
    for here, label, prediction in zip(holds, labels, predictions, strict=True):
        if here and label >= 0:
            cells[label, prediction] += 1
    of_labels = Counter()
    for (label, _), count in cells.items():
        of_labels[label] += count
    total = sum(of_labels.values())
    entropy = -sum(count / total * math.log2(count / total) for count in of_labels.values())
    return cells, entropy


def accuracy_when_firing(firing, labels, predictions):
    """Return, per unit, (right pairs, pairs)."""
    found = []
    for unit in range(len(firing[0])):
        chosen = [number for number in range(len(labels)) if firing[number][unit] and labels[number] >= 0]
        found.append((sum(labels[number] == predictions[number] for number in chosen), len(chosen)))
    return found


def with_word(tokens, word):
    """Insert before a closing full stop; None where the word stands there already."""
    if word in tokens:
        return None
    if tokens and tokens[-1] in (".", "!", "?"):
        return [*tokens[:-1], word, tokens[-1]]
    return [*tokens, word]


def without_words(tokens, words):
    """Remove all occurrences; None where there are none, or nothing but marks would be left."""
    left = [token for token in tokens if token not in words]
    if len(left) == len(tokens) or all(token in (".", "!", "?") for token in left):
        return None
    return left


def nearest_words(word, sentences, count, without, among=None):
    """Control words by log frequency in some sentences; frequent ones first, then by name."""
    counts = Counter(token for sentence in sentences for token in sentence if any(sign.isalnum() for sign in token))
    own = math.log(1 + counts[word])
    ranked = []
    for place, other in enumerate(sorted(counts, key=lambda one: (-counts[one], one))):
        if other != word and other not in without and (among is None or other in among):
            tie = other if among is not None else place
            ranked.append((abs(math.log(1 + counts[other]) - own), tie, other))
    return [other for *_, other in sorted(ranked)[:count]]


def inserted(model, pairs, labels, word, target, controls, without):
    """Insert a word into hypotheses of the right pairs of other classes, one by one; return (hits, control shares)."""
    hypotheses = [hypothesis for _, hypothesis in pairs]
    words = nearest_words(word, hypotheses, controls, without)
    hits, shares = [], []
    for (premise, hypothesis), label in zip(pairs, labels, strict=True):
        if label == target or label < 0 or model(premise, hypothesis) != label:
            continue
        changed = with_word(hypothesis, word)
        others = [made for made in (with_word(hypothesis, other) for other in words) if made is not None]
        if changed is None or not others:
            continue
        hits.append(model(premise, changed) == target)
        shares.append(sum(model(premise, other) == target for other in others) / len(others))
    return hits, shares


def removed(model, pairs, labels, word, target, controls, without):
    """Remove a word from the hypotheses of the right pairs of the class; return (hits, control shares)."""
    hypotheses = [hypothesis for _, hypothesis in pairs]
    hits, shares = [], []
    for (premise, hypothesis), label in zip(pairs, labels, strict=True):
        if label != target or model(premise, hypothesis) != label:
            continue
        changed = without_words(hypothesis, [word])
        if changed is None:
            continue
        words = nearest_words(word, hypotheses, controls, without, among=set(hypothesis))
        others = [made for made in (without_words(hypothesis, [other]) for other in words) if made is not None]
        if not others:
            continue
        hits.append(model(premise, changed) != target)
        shares.append(sum(model(premise, other) != target for other in others) / len(others))
    return hits, shares
