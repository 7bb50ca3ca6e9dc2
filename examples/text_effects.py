"""Do the words that a unit's formula names move the answers? A small network trained on template sentences.

Run it: python examples/text_effects.py [RUN_DIR]      (offline, in seconds)
"""

import random
import sys

from explain.text import dissect_text, pairs_from, train_nli
from explain.text.analyses import accuracy, flipped_words, pmi

PEOPLE = ("man", "woman", "boy", "girl", "nobody")
DOES = ("runs", "sleeps", "eats", "sings")


def drawn(count, seed):
    """Pairs with nobody contradict, pairs with the same verb entail, all others are neutral."""
    chance = random.Random(seed)
    pairs = []
    for _ in range(count):
        one, other = ((chance.choice(PEOPLE), chance.choice(DOES)) for _ in range(2))
        label = "contradiction" if other[0] == "nobody" else "entailment" if one[1] == other[1] else "neutral"
        pairs.append((f"A {one[0]} {one[1]} .", f"The {other[0]} {other[1]} .", label))
    return pairs


def main(out=None):
    pairs = pairs_from(drawn(400, seed=0), "templates")
    trained = train_nli(pairs, hidden=8, mlp=16, epochs=6, batch_size=20, lr=0.01)
    run = dissect_text(trained.model, pairs, length=3, beam=5, min_active=0.05, shuffles=0, draws=0)
    pmi(run, smoothing=1, top=3).show()
    accuracy(run).show()
    found = flipped_words(run, controls=3)
    found.show()
    if out:
        print("written:", found.save(out))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
