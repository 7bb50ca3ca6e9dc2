"""A class activation map by hand: three channels of 4 x 4, two classes, no bias.

Run it: python examples/worked_example.py
"""

import torch
from torch import nn

import explain

CHANNELS = torch.tensor(
    [
        [[1, 2, 0, 0], [2, 4, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 2, 2, 0], [0, 2, 4, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 3], [0, 0, 0, 1], [0, 0, 0, 0], [4, 0, 0, 0]],
    ],
    dtype=torch.float32,
)
WEIGHTS = torch.tensor([[0.3, 0.5, 0.1], [0.4, 0.6, 0.8]])


class Net(nn.Module):
    """The smallest network with an exact map: a trunk (here only a ReLU), mean, one linear layer."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.ReLU()
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.head.weight.copy_(WEIGHTS)
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(self.trunk(x).mean((2, 3)))


def main():
    maps = explain.cam(Net(), CHANNELS[None], classes=[0, 1])
    for k in range(2):
        print(f"class {k}: map")
        print(maps.values[0, k])
        total = float(maps.values[0, k].sum())
        print(f"  sum over positions (the paper's score)   {total:.4f}")
        print(f"  mean over positions + constant           {total / 16 + float(maps.constants[0, k]):.4f}")
        print(f"  logit                                    {float(maps.scores[0, k]):.4f}")
    print(f"exact: {maps.exact}, residual {maps.residual:.0e}")
    print(f"box of class 0: {explain.locate(maps)[0][0]}")
    return maps


if __name__ == "__main__":
    main()
