"""Units of sentence-pair models: the same bits for any batch, states of recurrent layers, tokens; the built-in net."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from text_grammar import VOCABULARY, Bag, grammar_pairs, grammar_vectors, planted_model, planted_net, word_ids
from torch import nn

from explain.data.pairs import LABELS
from explain.errors import DataError, DependencyError, InputError, ModelError, RunError
from explain.text import SentencePairModel, train_nli
from explain.text.models import open_model
from explain.text.nli_net import NetSize, NliNet, adapter, load_net
from explain.text.preparing import texts_of
from explain.text.reading import class_weights, default_layer, predict, read_units

TEXTS = texts_of(grammar_pairs(70))
LONGER = [(f"{premise} {premise}" if number % 3 else premise, other) for number, (premise, other) in enumerate(TEXTS)]


class Siamese(nn.Module):
    """A bidirectional LSTM that pools over time without a mask: padding changes what it gives."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), 5)
        self.lstm = nn.LSTM(5, 4, bidirectional=True, batch_first=True)
        self.norm = nn.BatchNorm1d(16)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(16, 3)

    def forward(self, premises, hypotheses):
        states = [self.lstm(self.embedding(ids))[0].amax(1) for ids in (premises, hypotheses)]
        return self.out(self.drop(self.relu(self.norm(torch.cat(states, 1)))))


def siamese(**options):
    torch.manual_seed(0)
    return SentencePairModel(
        Siamese(), lambda premises, hypotheses: (word_ids(premises), word_ids(hypotheses)), **options
    )


def test_bits_do_not_depend_on_the_batch_size_nor_on_the_mode():
    model = siamese()
    model.module.train()
    state = torch.get_rng_state()
    whole = read_units(model, LONGER, "relu")
    for size in (1, 7, 64):
        other = read_units(model, LONGER, "relu", batch_size=size)
        assert np.array_equal(whole.values, other.values)
        assert np.array_equal(whole.logits, other.logits)
    some = read_units(model, LONGER[5:9], "relu")
    assert np.array_equal(some.values, whole.values[5:9])
    assert model.module.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_values_are_those_of_each_pair_alone():
    model = siamese()
    found = read_units(model, LONGER, "relu")
    model.module.eval()
    for number in (0, 1, 2, 69):
        with torch.no_grad():
            logits = model.module(*model.tokenize([LONGER[number][0]], [LONGER[number][1]]))
        np.testing.assert_allclose(found.logits[number], logits[0].numpy(), atol=1e-5)
    assert np.array_equal(predict(model, LONGER), found.logits.argmax(1))


def test_units_of_a_recurrent_layer_are_its_last_states():
    model = siamese()
    found = read_units(model, TEXTS[:3], "lstm").values
    assert found.shape == (3, 16)
    module = model.module.eval()
    with torch.no_grad():
        for side in (0, 1):
            ids = word_ids([TEXTS[1][side]])
            _, (state, _) = module.lstm(module.embedding(ids))
            own = state[:, 0].flatten().numpy()  # forwards, then backwards
            np.testing.assert_allclose(found[1, 8 * side : 8 * side + 8], own, atol=1e-6)


def test_units_of_tokens_are_the_first_or_the_largest():
    model = siamese()
    first = read_units(model, TEXTS[:2], "embedding").values
    largest = read_units(model, TEXTS[:2], "embedding", tokens="max").values
    with torch.no_grad():
        embedded = model.module.embedding(word_ids([TEXTS[0][1]]))[0]  # the last call: the hypothesis
    assert np.array_equal(first[0], embedded[0].numpy())
    assert np.array_equal(largest[0], embedded.amax(0).numpy())
    with pytest.raises(InputError, match="unknown tokens 'last'"):
        read_units(model, TEXTS, "embedding", tokens="last")


def test_the_default_layer_is_what_the_last_linear_layer_reads():
    model = planted_model()
    assert default_layer(model, TEXTS) == "act"
    assert default_layer(siamese(), TEXTS) == "relu"
    assert default_layer(planted_model(layer="hidden"), TEXTS) == "hidden"
    weights = class_weights(model, TEXTS, "act")
    assert np.array_equal(weights, model.module.out.weight.detach().numpy())
    assert class_weights(model, TEXTS, "hidden") is None


def test_classes_are_put_in_the_order_of_the_data():
    net = planted_net()
    mixed = planted_model(net, classes=("contradiction", "ENTAILMENT", "neutral"))
    plain, found = read_units(planted_model(net), TEXTS, "act"), read_units(mixed, TEXTS, "act")
    assert np.array_equal(found.logits, plain.logits[:, [1, 2, 0]])
    assert np.array_equal(class_weights(mixed, TEXTS, "act"), net.out.weight.detach().numpy()[[1, 2, 0]])


def nan_net():
    net = planted_net()
    with torch.no_grad():
        net.hidden.bias[2] = torch.nan
    return net


def two_classes():
    net = planted_net()
    net.out = nn.Linear(7, 2)
    return net


@pytest.mark.parametrize(
    ("model", "layer", "told"),
    [
        (lambda: planted_model(two_classes()), "act", r"gives \(32, 2\) for 32 pairs: the data have 3 classes"),
        (lambda: planted_model(nan_net()), "hidden", "unit 2 of layer 'hidden' gives NaN"),
        (lambda: planted_model(), "acts", "no layer 'acts'; near: act"),
        (lambda: SentencePairModel(planted_net(), lambda p, h: [1, 2]), "act", "gives .'int', 'int'. for one pair"),
        (lambda: SentencePairModel(planted_net(), lambda p, h: 1 / 0), "act", "tokenize of model failed on 'the "),
        (lambda: SentencePairModel(planted_net(), lambda p, h: word_ids(p)), "act", "missing 1 required positional"),
    ],
)
def test_models_that_do_not_fit_are_told_in_one_line(model, layer, told):
    with pytest.raises(ModelError, match=told) as error:
        read_units(model(), TEXTS, layer)
    assert "\n" not in str(error.value)


def test_adapters_that_are_none_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has 2 classes \(yes, no\): it must have the three"):
        planted_model(classes=("yes", "no"))
    with pytest.raises(ModelError, match="needs a torch.nn.Module and a function, got str"):
        SentencePairModel("net", lambda p, h: p)
    (tmp_path / "own.py").write_text(
        "from text_grammar import planted_model, planted_net\n"
        "def bare(): return planted_net()\n"
        "def broken(): raise ValueError('no weights')\n"
    )
    assert open_model(f"{tmp_path}/own.py:planted_model").name == f"{tmp_path}/own.py:planted_model"
    for spec, told in (
        ("bare", "gives Bag: it must return explain.text.SentencePairModel"),
        ("broken", "failed: ValueError: no weights"),
        ("other", "has no 'other'"),
    ):
        with pytest.raises(ModelError, match=told):
            open_model(f"{tmp_path}/own.py:{spec}")
    with pytest.raises(ModelError, match="no model 'bert': give FILE.py:callable"):
        open_model("bert")


# --- the built-in network ---------------------------------------------------------------------------------------

SMALL = {"hidden": 6, "mlp": 12, "epochs": 3, "batch_size": 20, "lr": 0.01}


@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_after_the_words_changes_nothing(bidirectional):
    torch.manual_seed(0)
    net = NliNet(NetSize(20, 5, 4, 6, bidirectional)).eval()
    ids = torch.randint(2, 20, (3, 7))
    padded = torch.cat([ids, torch.zeros(3, 4, dtype=torch.int64)], 1)
    with torch.no_grad():
        states = net.encode(ids)
        torch.testing.assert_close(net.encode(padded), states)
        torch.testing.assert_close(net(padded, ids), net(ids, ids))
        assert states.shape == (3, 8 if bidirectional else 4)
        _, (last, _) = net.encoder(net.embedding(ids))
        torch.testing.assert_close(states[:, :4], last[0])
        if bidirectional:
            _, (last, _) = net.backward_encoder(net.embedding(ids.flip(1)))
            torch.testing.assert_close(states[:, 4:], last[0])


def test_logits_follow_the_papers_architecture():
    torch.manual_seed(0)
    net = NliNet(NetSize(20, 5, 4, 6, False)).eval()
    p, h = torch.randint(2, 20, (3, 7)), torch.randint(2, 20, (3, 5))
    with torch.no_grad():
        u, v = net.encode(p), net.encode(h)
        pair = net.norm(torch.cat([u, v, u - v, u * v], 1))
        expected = (pair @ net.hidden.weight.T + net.hidden.bias).clamp(min=0) @ net.out.weight.T + net.out.bias
        torch.testing.assert_close(net(p, h), expected)
        net.train()
        for layer in (net.drop, net.drop_pair, net.norm):
            layer.eval()
        torch.testing.assert_close(net(p, h), expected)  # both sentences at once


def test_training_learns_the_grammar_and_its_network_is_explained(tmp_path):
    pairs = grammar_pairs(300)
    options = {**SMALL, "hidden": 16, "epochs": 8, "batch_size": 20}
    trained = train_nli(pairs, grammar_vectors(tmp_path / "v.txt"), test=[grammar_pairs(200, 5)], **options)
    assert trained.accuracies[0].value > 0.8
    assert trained.training.losses[-1] < trained.training.losses[0] / 2
    assert str(trained.accuracies[0]).endswith("% of 200 pairs")
    folder = trained.save(tmp_path / "net")
    model = open_model(str(folder))
    assert isinstance(model.module, NliNet)
    texts = texts_of(pairs)[:40]
    again, here = read_units(model, texts, "act"), read_units(trained.model, texts, "act")
    assert np.array_equal(again.values, here.values)
    assert default_layer(model, texts) == "act"
    assert class_weights(model, texts, "act").shape == (3, 12)
    stored = json.loads((folder / "training.json").read_text())
    assert (stored["kind"], stored["accuracies"][0]["pairs"]) == ("nli-net", 200)
    (folder / "model.json").write_text('{"size": {"words": "x"}}')
    with pytest.raises(ModelError, match="holds no network of `explain text train`"):
        load_net(folder)


class Stopped(Exception):
    """Stands for a kill."""


def test_an_interrupted_training_gives_the_same_network(tmp_path):
    pairs, path = grammar_pairs(60), tmp_path / "c.pt"

    def stop(stage, done, total):
        if done == 4:
            raise Stopped

    whole = train_nli(pairs, **SMALL)
    with pytest.raises(Stopped):
        train_nli(pairs, **SMALL, checkpoint=path, progress=stop, seconds=0.0)
    assert path.exists()
    resumed = train_nli(pairs, **SMALL, checkpoint=path)
    assert resumed.training.resumed == 4
    states = zip(whole.net.state_dict().items(), resumed.net.state_dict().items(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in states)
    other = train_nli(pairs, **SMALL, seed=1)
    assert not torch.equal(other.net.hidden.weight, whole.net.hidden.weight)
    with pytest.raises(RunError, match="is no checkpoint of this training"):
        train_nli(pairs, **(SMALL | {"epochs": 4}), checkpoint=path)


def test_words_begin_with_their_vectors_and_keep_them(tmp_path):
    vectors = grammar_vectors(tmp_path / "v.txt")
    kept = train_nli(grammar_pairs(40), vectors, **SMALL)
    tuned = train_nli(grammar_pairs(40), vectors, **SMALL, tune_vectors=True)
    row = kept.words.index("dog") + 2
    assert kept.net.embedding.weight[row, 0] == 10
    assert kept.net.embedding.weight.shape[1] == 8
    assert tuned.net.embedding.weight[row, 0] != 10


def test_training_refuses_what_it_cannot_use(tmp_path):
    with pytest.raises(InputError, match="no data to train on"):
        train_nli([])
    with pytest.raises(InputError, match="hidden=0"):
        train_nli(grammar_pairs(5), hidden=0)
    (tmp_path / "v.txt").write_text("le 1 2\nla 3 4\n")
    with pytest.raises(DataError, match="less than half"):
        train_nli(grammar_pairs(5), tmp_path / "v.txt")


def test_a_vocabulary_of_another_language_is_told():
    from explain.text import dissect_text

    torch.manual_seed(0)
    french = adapter(NliNet(NetSize(4, 5, 4, 6)).eval(), ["chien", "dort"])
    with pytest.raises(DataError, match="the words that NliNet knows cover 0 % of the words of templates"):
        dissect_text(french, grammar_pairs(60), min_active=0.05)


# --- Hugging Face -----------------------------------------------------------------------------------------------


def hugging_face(labels):
    """Return a stand-in for transformers whose one classifier is a planted net."""

    class Net(Bag):
        def forward(self, premise, hypothesis):
            return types.SimpleNamespace(logits=super().forward(premise, hypothesis))

    net = Net(VOCABULARY)
    net.load_state_dict(planted_net().state_dict())
    net.config = types.SimpleNamespace(id2label=dict(enumerate(labels)), num_labels=len(labels))

    class Tokenizer:
        def __call__(self, premises, hypotheses, padding, truncation, return_tensors):
            return {"premise": word_ids(premises), "hypothesis": word_ids(hypotheses)}

    fake = types.ModuleType("transformers")
    fake.AutoTokenizer = types.SimpleNamespace(from_pretrained=lambda name: Tokenizer())
    fake.AutoModelForSequenceClassification = types.SimpleNamespace(from_pretrained=lambda name: net)
    return fake


def test_hugging_face_classifiers_are_read_by_their_labels(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", hugging_face(("CONTRADICTION", "Entailment", "neutral")))
    model = open_model("hf:some/name")
    assert model.classes == ("contradiction", "entailment", "neutral")
    plain = read_units(planted_model(), TEXTS, "act")
    found = read_units(model, TEXTS, "act")
    assert np.array_equal(found.values, plain.values)
    assert np.array_equal(found.logits, plain.logits[:, [1, 2, 0]])
    monkeypatch.setitem(sys.modules, "transformers", hugging_face(("entailment", "not_entailment")))
    with pytest.raises(ModelError, match=r"hf:x has 2 classes \(entailment, not_entailment\)"):
        open_model("hf:x")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DependencyError, match="transformers is not installed"):
        open_model("hf:x")


@pytest.mark.slow
def test_a_transformer_of_hugging_face_is_read(tmp_path):
    """A small BERT with random weights, in a process of its own: the library warns as it is imported."""
    pytest.importorskip("transformers", reason="the extra text is not installed")
    code = f"""
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *{VOCABULARY!r}]
open(r"{tmp_path}/vocab.txt", "w").write("\\n".join(words))
BertTokenizer(r"{tmp_path}/vocab.txt").save_pretrained(r"{tmp_path}")
torch.manual_seed(0)
labels = dict(enumerate({LABELS!r}))
size = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=len(words))
BertForSequenceClassification(BertConfig(**size, id2label=labels)).save_pretrained(r"{tmp_path}")
from explain.text.models import open_model
from explain.text.reading import class_weights, default_layer, read_units
model, texts = open_model(r"hf:{tmp_path}"), {TEXTS[:40]!r}
layer = default_layer(model, texts)
first = read_units(model, texts, "bert.encoder.layer.1.intermediate")
largest = read_units(model, texts, "bert.encoder.layer.1.intermediate", tokens="max", batch_size=3)
print(layer, first.values.shape, (largest.values >= first.values).all(), (first.logits == largest.logits).all())
print(class_weights(model, texts, layer).shape)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-2:] == ["bert.pooler.activation (40, 16) True True", "(3, 8)"], done.stderr
