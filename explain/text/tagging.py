"""Parts of speech (and lemmas) of sentences that come without: by spaCy, NLTK or a function of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from explain.data.pairs import PairSet, Sentence
from explain.errors import DependencyError, InputError

__all__ = ["Tagger", "tagged"]

Tagger = Callable[[list[list[str]]], Sequence[Sequence[str]]]
"""From the tokens of sentences to a tag for each token."""

_SPACY = "en_core_web_sm"


def tagged(pairs: PairSet, tagger: str | Tagger = "auto") -> PairSet:
    """Return the pairs with parts of speech.

    Parameters
    ----------
    tagger
        ``"auto"``: what the file says, or nothing; ``"none"``: nothing, also where the file says something;
        ``"spacy"`` (or ``"spacy:MODEL"``): spaCy's tags and lemmas; ``"nltk"``: NLTK's tags; or a function from lists
        of tokens to lists of tags. The tokens stay those of the file.

    Raises
    ------
    DependencyError
        The library or its model is not installed.
    InputError
        An unknown tagger, or one that does not give a tag for each token.
    """
    if tagger == "auto":
        return pairs
    if tagger == "none":
        return _with(pairs, [replace(one, tags=None, lemmas=None) for one in _sentences(pairs)])
    if isinstance(tagger, str):
        library, _, model = tagger.partition(":")
        if library == "spacy":
            return _with(pairs, _by_spacy(_sentences(pairs), model or _SPACY))
        if tagger != "nltk":
            raise InputError(f"unknown tagger {tagger!r}: use auto, none, spacy, spacy:MODEL or nltk")
        tagger = _nltk()
    tokens = [list(one.tokens) for one in _sentences(pairs)]
    tags = [tuple(str(tag) for tag in row) for row in tagger(tokens)]
    wrong = [place for place, (row, own) in enumerate(zip(tags, tokens, strict=False)) if len(row) != len(own)]
    if wrong or len(tags) != len(tokens):
        raise InputError(f"the tagger gives {len(tags)} rows for {len(tokens)} sentences, or not one tag per token")
    return _with(pairs, [replace(one, tags=row) for one, row in zip(_sentences(pairs), tags, strict=True)])


def _sentences(pairs: PairSet) -> list[Sentence]:
    return [*pairs.premises, *pairs.hypotheses]


def _with(pairs: PairSet, sentences: list[Sentence]) -> PairSet:
    return replace(pairs, premises=tuple(sentences[: len(pairs)]), hypotheses=tuple(sentences[len(pairs) :]))


def _by_spacy(sentences: list[Sentence], model: str) -> list[Sentence]:
    try:
        import spacy
        from spacy.tokens import Doc
    except ImportError:
        raise DependencyError("spaCy is not installed: pip install spacy, or use another tagger") from None
    try:
        nlp: Any = spacy.load(model, disable=["ner", "parser"])
    except OSError:
        raise DependencyError(f"spaCy has no model {model!r}: python -m spacy download {model}") from None
    docs = nlp.pipe(Doc(nlp.vocab, words=list(one.tokens)) for one in sentences)
    return [
        replace(one, tags=tuple(token.tag_ for token in doc), lemmas=tuple(token.lemma_ for token in doc))
        for one, doc in zip(sentences, docs, strict=True)
    ]


def _nltk() -> Tagger:
    try:
        import nltk
    except ImportError:
        raise DependencyError("NLTK is not installed: pip install nltk, or use another tagger") from None

    def tag(sentences: list[list[str]]) -> list[list[str]]:
        try:
            return [[tag for _, tag in row] for row in nltk.pos_tag_sents(sentences)]
        except LookupError:
            raise DependencyError(
                "NLTK's tagger has no model: python -m nltk.downloader averaged_perceptron_tagger_eng"
            ) from None

    return tag
