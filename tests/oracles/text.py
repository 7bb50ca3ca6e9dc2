"""Overlap and NEIGHBORS from the paper's words, slow and literal (Mu & Andreas 2020, section 3)."""

from __future__ import annotations

import math

STOPS = ("a", "an", "the", "of")


def words(tokens):
    """The words of a sentence: not the four stop words, nothing without a letter or a digit."""
    return {token.lower() for token in tokens if token.lower() not in STOPS and any(map(str.isalnum, token))}


def overlap(premise, hypothesis):
    """IoU of the two sets of words."""
    one, other = words(premise), words(hypothesis)
    both = sum(word in other for word in one)
    either = len(one) + sum(word not in one for word in other)
    return both / either if either else 0.0


def cosine(one, other):
    dot = math.fsum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    sizes = [math.sqrt(math.fsum(float(a) ** 2 for a in vector)) for vector in (one, other)]
    return dot / (sizes[0] * sizes[1])


def neighbors(word, vocabulary, vectors, count=5):
    """The words of the vocabulary whose vectors are nearest to a word's, without itself; nearest first."""
    others = [other for other in vocabulary if other != word and other in vectors]
    ranked = sorted(
        others, key=lambda other: (-round(cosine(vectors[word], vectors[other]), 12), vocabulary.index(other))
    )
    return tuple(ranked[:count])
