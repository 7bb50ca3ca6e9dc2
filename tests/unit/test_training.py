"""One trainer: right steps, the same answer after an interruption, nothing left behind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles.training import adamw
from torch import nn

from explain.errors import InputError, ModelError, RunError
from explain.nets.training import fine_tune, warm_cosine


class Noisy(torch.utils.data.Dataset):
    """Ten rows with noise of their own (augmentation)."""

    def __init__(self, count=10, noise=0.5):
        rows = torch.Generator().manual_seed(1)
        self.rows, self.noise = torch.randn(count, 4, generator=rows), noise
        self.fetched = []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.fetched.append(index)
        return self.rows[index] + self.noise * torch.randn(4), torch.tensor(index % 3)


def made():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def same(first, second):
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


class Stopped(Exception):
    """Stands for a kill."""


def stop_after(step):
    def progress(stage, done, total):
        if done == step:
            raise Stopped

    return progress


def test_steps_are_those_of_adamw_at_the_rates_of_the_schedule():
    net = nn.Linear(4, 3, bias=False)
    before = net.weight.detach().double().numpy()
    data = Noisy(noise=0.0)
    training = fine_tune(net, data, epochs=2, batch_size=4, lr=0.1, seed=3)
    assert sorted(data.fetched[:10]) == sorted(data.fetched[10:]) == list(range(10))
    assert data.fetched[:10] != data.fetched[10:]
    # Ten items in batches of at most four: 4, 3, 3.
    cuts = [slice(a, b) for a, b in ((0, 4), (4, 7), (7, 10), (10, 14), (14, 17), (17, 20))]
    batches = [(data.rows[rows].double().numpy(), [i % 3 for i in rows]) for rows in (data.fetched[c] for c in cuts)]
    rates = [0.1 * warm_cosine((step + 0.5) / 6) for step in range(6)]
    weight, losses = adamw(before, batches, rates)
    np.testing.assert_allclose(net.weight.detach().numpy(), weight, atol=1e-5)
    np.testing.assert_allclose(training.losses, [np.mean(losses[:3]), np.mean(losses[3:])], rtol=1e-5)
    assert (training.steps, training.resumed) == (6, 0)


def test_schedule_rises_then_falls_to_zero():
    values = [warm_cosine(share) for share in np.linspace(0, 1, 101)]
    assert values[0] == 0.0
    assert values[-1] == pytest.approx(0.0)
    assert max(values) == values[5]
    assert values[50] == pytest.approx(0.5)


@pytest.mark.parametrize("stop", [1, 4, 5, 11])
@pytest.mark.parametrize("workers", [0, 1])
def test_interrupted_training_gives_the_same_answer(tmp_path, stop, workers):
    if workers and stop != 4:
        pytest.skip("processes are slow to start: once is enough")
    whole, parted = made(), made()
    path = tmp_path / "deep" / "net.pt"
    options = {"epochs": 3, "batch_size": 3, "seed": 5, "checkpoint": path, "seconds": 0.0}
    told = []
    expected = fine_tune(whole, Noisy(), **(options | {"checkpoint": None}), progress=lambda *a: told.append(a))
    assert told == [("steps", step, 12) for step in range(1, 13)]
    with pytest.raises(Stopped):
        fine_tune(parted, Noisy(), **options, progress=stop_after(stop))
    assert not same(whole, parted)
    torch.manual_seed(123)  # what the second process did before
    again = made()
    with torch.no_grad():
        again[0].weight.fill_(7)  # whatever it held: the checkpoint's weights count
    training = fine_tune(again, Noisy(), **options, workers=workers)
    assert training.resumed == stop
    assert same(whole, again)
    assert training.losses == expected.losses
    done = made()
    assert fine_tune(done, Noisy(), **options).resumed == 12  # nothing is trained twice
    assert same(whole, done)


def test_seed_decides_all_chance_and_the_callers_is_left_alone():
    first, second, third = made(), made(), made()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    fine_tune(first, Noisy(), epochs=2, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    fine_tune(second, Noisy(), epochs=2, seed=0)
    fine_tune(third, Noisy(), epochs=2, seed=1)
    assert same(first, second)
    assert not same(first, third)


def test_only_a_part_is_trained():
    net = made()
    net[4].weight.requires_grad_(False)  # frozen by the user: asked for by name, it is trained all the same
    net.train()
    net[3].eval()
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen = []
    handle = net[1].register_forward_hook(lambda m, args, out: seen.append((m.training, out.requires_grad)))
    fine_tune(net, Noisy(), only=net[4], epochs=1)
    handle.remove()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"4.weight", "4.bias"}  # not the statistics of the BatchNorm
    assert seen == [(False, False)]  # and no graph is built through the frozen part
    assert [module.training for module in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == [True] * 4 + [False, True]
    assert all(p.grad is None for p in net.parameters())


def test_whole_network_leaves_frozen_parameters_alone_and_restores_modes_after_an_exception():
    net = made().eval()
    net[0].weight.requires_grad_(False)
    kept = net[0].weight.clone()
    with pytest.raises(Stopped):
        fine_tune(net, Noisy(), progress=stop_after(2), batch_size=5)
    assert torch.equal(net[0].weight, kept)
    assert float(net[1].running_mean.abs().max()) > 0  # trained in train mode
    assert not any(module.training for module in net.modules())
    assert not net[0].weight.requires_grad
    assert all(p.grad is None for p in net.parameters())


class Pair(nn.Module):
    """Two inputs, as a model of sentence pairs has."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 3)
        self.out = nn.Linear(6, 2)

    def forward(self, first, second):
        return {"logits": self.out(torch.cat([self.words(first).mean(1), self.words(second).mean(1)], 1))}


def pad(items):
    """Collate sentences of different lengths."""
    rows, targets = zip(*items, strict=True)
    padded = [nn.utils.rnn.pad_sequence([row[k] for row in rows], batch_first=True) for k in range(2)]
    return {"first": padded[0], "second": padded[1]}, torch.tensor(targets)


@pytest.mark.parametrize("kind", ["mapping", "tuple"])
def test_text_an_iterable_any_loss_any_optimizer(kind):
    torch.manual_seed(0)
    net = Pair()
    sentences = [(torch.tensor([1 + (i % 2)] * (i + 1)), torch.tensor([3, 4])) for i in range(8)]

    def collate(items):
        inputs, targets = pad(items)
        return (inputs if kind == "mapping" else tuple(inputs.values())), targets

    training = fine_tune(
        net,
        ((pair, i % 2) for i, pair in enumerate(sentences)),
        lambda output, target: nn.functional.cross_entropy(output["logits"], target),
        epochs=30,
        batch_size=4,
        collate=collate,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    )
    assert training.losses[-1] < 0.3 < training.losses[0]


def test_mixed_precision_runs_the_network_in_bfloat16_and_keeps_float32_weights():
    net = made()
    kinds = []
    handle = net[4].register_forward_hook(lambda m, args, out: kinds.append(out.dtype))
    fine_tune(net, Noisy(), epochs=1, precision="bfloat16")
    handle.remove()
    assert kinds == [torch.bfloat16]
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_unusable_trainings_are_refused(tmp_path):
    path = tmp_path / "net.pt"
    with pytest.raises(InputError, match="0 items"):
        fine_tune(made(), [])
    with pytest.raises(InputError, match="epochs=0"):
        fine_tune(made(), Noisy(), epochs=0)
    with pytest.raises(ModelError, match="nothing to train"):
        fine_tune(made(), Noisy(), only=nn.Linear(2, 2))
    with pytest.raises(ModelError, match="nothing to train"):
        fine_tune(made().requires_grad_(False), Noisy())
    with pytest.raises(RunError, match="not finite after 1 steps"):
        fine_tune(made(), Noisy(), lambda output, target: output.sum() * math.nan, epochs=1, checkpoint=path)
    assert not path.exists()
    fine_tune(made(), Noisy(), epochs=1, checkpoint=path)
    with pytest.raises(RunError, match="'lr': 0.001"):
        fine_tune(made(), Noisy(), epochs=1, checkpoint=path, lr=1.0)
    with pytest.raises(RunError, match="no checkpoint of this training"):
        fine_tune(nn.Linear(4, 3), Noisy(), epochs=1, checkpoint=path)
    path.write_bytes(b"half")
    with pytest.raises(RunError, match=r"net\.pt is no checkpoint"):
        fine_tune(made(), Noisy(), epochs=1, checkpoint=path)
