"""The network that Mu & Andreas (2020) explain, section 3: an LSTM reads both sentences, an MLP of 1024 units decides.

``u``, ``v``: the last states of one LSTM (one way, or both) for premise and hypothesis. ``[u; v; u - v; u * v]`` →
BatchNorm → dropout → 1024 → ReLU (the units that are explained) → dropout → three classes. After Bowman et al. (2016).
The published network is larger: 512 states, one way, dropout 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from explain.data.words import split_words
from explain.errors import ModelError, RunError
from explain.nets.weights import load_weights
from explain.runs import read_json, write_json
from explain.text.models import SentencePairModel

__all__ = ["NetSize", "NliNet", "adapter", "load_net", "save_net", "word_ids"]

PADDING, UNKNOWN = 0, 1


@dataclass(frozen=True)
class NetSize:
    """How large the network is."""

    words: int
    """Rows of the embedding, with those for padding and unknown words."""
    dimensions: int = 50
    hidden: int = 100
    """Of the LSTM, in each direction."""
    mlp: int = 1024
    bidirectional: bool = True
    dropout: float = 0.2


class NliNet(nn.Module):
    """Premise and hypothesis ids int64 ``(b, t)`` (0: padding, at the end) to logits ``(b, 3)``."""

    def __init__(self, size: NetSize) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(size.words, size.dimensions, padding_idx=PADDING)
        self.encoder = nn.LSTM(size.dimensions, size.hidden, batch_first=True)
        # The other direction is a layer of its own, which reads the words from the last to the first.
        other = nn.LSTM(size.dimensions, size.hidden, batch_first=True) if size.bidirectional else None
        self.backward_encoder = other
        pair = 4 * size.hidden * (2 if size.bidirectional else 1)
        self.norm = nn.BatchNorm1d(pair)
        self.drop_pair = nn.Dropout(size.dropout)
        self.hidden = nn.Linear(pair, size.mlp)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(size.dropout)
        self.out = nn.Linear(size.mlp, 3)

    def encode(self, ids: Tensor) -> Tensor:
        """Return the last state ``(b, hidden)`` (twice as wide in both directions) of each sentence."""
        # Padding comes after the words, so no state that is taken has seen it; faster than packed sequences.
        last = (ids != PADDING).sum(1).clamp(min=1) - 1
        rows, steps = torch.arange(len(ids), device=ids.device), torch.arange(ids.shape[1], device=ids.device)
        embedded = self.embedding(ids)
        states = [self.encoder(embedded)[0][rows, last]]
        if self.backward_encoder is not None:
            turned = embedded[rows[:, None], (last[:, None] - steps).clamp(min=0)]
            states.append(self.backward_encoder(turned)[0][rows, last])
        return torch.cat(states, 1)

    def forward(self, premises: Tensor, hypotheses: Tensor) -> Tensor:
        """Return logits in the order entailment, neutral, contradiction."""
        if self.training:  # both at once, which takes half the time; else one after the other, for who listens
            both = pad_sequence([*premises, *hypotheses], batch_first=True, padding_value=PADDING)
            u, v = self.encode(both).chunk(2)
        else:
            u, v = self.encode(premises), self.encode(hypotheses)
        pair = torch.cat([u, v, u - v, u * v], 1)
        units = self.drop(self.act(self.hidden(self.drop_pair(self.norm(pair)))))
        logits: Tensor = self.out(units)
        return logits


def word_ids(sentences: Sequence[str], ids: dict[str, int]) -> Tensor:
    """Return int64 ``(b, t)``: the built-in rule's tokens, without capitals; padded at the end with 0."""
    rows = [[ids.get(word.lower(), UNKNOWN) for word in split_words(sentence)] or [UNKNOWN] for sentence in sentences]
    found = torch.full((len(rows), max(map(len, rows))), PADDING, dtype=torch.int64)
    for place, row in enumerate(rows):
        found[place, : len(row)] = torch.tensor(row)
    return found


def adapter(net: NliNet, words: Sequence[str], *, name: str = "NliNet", source: str = "") -> SentencePairModel:
    """Return the network behind the adapter; ``words`` have the ids from 2 on."""
    ids = {word: number for number, word in enumerate(words, UNKNOWN + 1)}

    def tokenize(premises: list[str], hypotheses: list[str]) -> tuple[Tensor, Tensor]:
        return word_ids(premises, ids), word_ids(hypotheses, ids)

    return SentencePairModel(net, tokenize, layer="act", words=frozenset(ids), name=name, source=source)


def save_net(net: NliNet, words: Sequence[str], folder: Path) -> None:
    """Write ``model.json`` (size and words) and ``model.safetensors``."""
    from safetensors.torch import save_file

    write_json(folder / "model.json", {"kind": "nli-net", "size": asdict(net.size), "words": list(words)})
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def load_net(folder: str | Path) -> SentencePairModel:
    """Read what `save_net` wrote.

    Raises
    ------
    ModelError
        The folder holds no such network.
    """
    place = Path(folder)
    try:
        stored = read_json(place / "model.json")
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced
            net, words = NliNet(NetSize(**stored["size"])), list(stored["words"])
    except (RunError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{place} holds no network of `explain text train`: {error}") from None
    load_weights(net, place / "model.safetensors", str(place))
    return adapter(net.eval(), words, name=str(place), source=str(place / "model.safetensors"))
