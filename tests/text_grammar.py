"""Sentence pairs from a template, and a network whose units are known formulas of their words."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from explain.data.words import split_words
from explain.text import SentencePairModel, pairs_from

HOUNDS = ("dog", "puppy", "hound", "terrier", "poodle", "beagle")
SUBJECTS = (*HOUNDS, "fox", "wolf", "cat", "man", "woman", "nobody")
VERBS = ("runs", "sleeps", "eats", "jumps", "sings")
PLACES = ("park", "house", "street", "beach", "garden")
PLANTED = {
    0: "pre:cat AND hyp:sleeps",
    1: "hyp:nobody",
    2: "NEIGHBORS(pre:dog)",
    3: "(hyp:park OR hyp:beach) AND NOT pre:man",
    4: "NEIGHBORS(hyp:dog) AND NOT hyp:runs",
}
"""Formulas of the units; unit 5 never fires, unit 6 for any of four words."""


def sentence(random):
    subject, verb, place = (random.choice(words) for words in (SUBJECTS, VERBS, PLACES))
    return f"the {subject} {verb} in the {place} ."


def drawn(count=400, seed=0):
    """Return (premise, hypothesis, label): contradiction with nobody, entailment of the same verb, else neutral."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        premise, hypothesis = sentence(random), sentence(random)
        same = premise.split()[2] == hypothesis.split()[2]
        label = "contradiction" if "nobody" in hypothesis else "entailment" if same else "neutral"
        pairs.append((premise, hypothesis, label))
    return pairs


def grammar_pairs(count=400, seed=0):
    return pairs_from(drawn(count, seed), "templates")


class Bag(nn.Module):
    """Words of either side as 0 and 1, a linear layer, ReLU: the units; a linear layer to three classes."""

    def __init__(self, vocabulary):
        super().__init__()
        self.size = len(vocabulary)
        self.hidden = nn.Linear(2 * self.size, 7)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(7, 3)

    def forward(self, premises, hypotheses):
        bags = [torch.zeros(len(ids), self.size).scatter_(1, ids, 1.0) for ids in (premises, hypotheses)]
        return self.out(self.drop(self.act(self.hidden(torch.cat(bags, 1)))))


VOCABULARY = tuple(sorted({word for premise, hypothesis, _ in drawn() for word in split_words(premise + hypothesis)}))


def planted_net():
    """Return a network whose units fire where the formulas of `PLANTED` hold."""
    net = Bag(VOCABULARY)
    at = {word: place for place, word in enumerate(VOCABULARY)}
    at |= {f"hyp:{word}": len(VOCABULARY) + place for place, word in enumerate(VOCABULARY)}
    with torch.no_grad():
        net.hidden.weight.zero_()
        net.hidden.bias.zero_()
        weight, bias = net.hidden.weight, net.hidden.bias
        weight[0, at["cat"]] = weight[0, at["hyp:sleeps"]] = 1
        bias[0] = -1
        weight[1, at["hyp:nobody"]] = 2
        for word in HOUNDS:
            weight[2, at[word]] = 1
            weight[4, at[f"hyp:{word}"]] = 1
        weight[3, at["hyp:park"]] = weight[3, at["hyp:beach"]] = 1
        weight[3, at["man"]] = -1
        weight[4, at["hyp:runs"]] = -1
        bias[5] = -1
        for name in ("house", "eats", "hyp:garden", "hyp:sings"):
            weight[6, at[name]] = 1
        net.out.weight.copy_(torch.arange(21).reshape(3, 7) / 10)
        net.out.bias.zero_()
        net.out.weight[:, 1] = torch.tensor([-3.0, -2.0, 4.0])
    return net


def word_ids(sentences):
    rows = [[VOCABULARY.index(word) for word in split_words(sentence)] for sentence in sentences]
    return torch.tensor(rows)


def planted_model(net=None, **options):
    return SentencePairModel(
        net or planted_net(), lambda premises, hypotheses: (word_ids(premises), word_ids(hypotheses)), **options
    )


def grammar_vectors(path):
    """Write word vectors in which the five nearest of dog, and of no other word, are the other hounds."""
    random = np.random.default_rng(3)
    rows = {word: random.normal(size=8) for word in VOCABULARY}
    for word, angle in zip((*HOUNDS, "fox", "wolf"), (0, 0.2, -0.2, 0.25, -0.25, 0.3, 0.45, -0.45), strict=True):
        rows[word] = np.array([10, 10 * angle, 0, 0, 0, 0, 0, 0])
    path.write_text("".join(f"{word} {' '.join(f'{value:.6f}' for value in row)}\n" for word, row in rows.items()))
    return path
