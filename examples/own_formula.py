"""A method of one's own: a function of the map and the gradient, with everything else as for the built-in ones.

Run it: python examples/own_formula.py
"""

import torch
from torch import nn

import explain


def best_quarter_cam(feature_map, gradient):
    """Grad-CAM over the channels with the largest part in the score: (b, c, h, w), (b, k, c, h, w) -> (b, k, h, w)."""
    weights = gradient.mean((3, 4))  # (b, k, c)
    parts = weights * feature_map.mean((2, 3))[:, None]
    keep = parts >= parts.quantile(0.75, dim=2, keepdim=True)
    return torch.einsum("bkc,bchw->bkhw", weights * keep, feature_map).relu()


def main():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 5))
    model = nn.Sequential(trunk, head).eval()
    images = torch.randn(4, 3, 64, 64)
    maps = explain.attribute(model, images, method=best_quarter_cam, classes="top3")
    print(maps)
    with explain.watch(model) as w:
        model(images)
    same = w.attribute(best_quarter_cam, "top3")
    print("in one's own loop:", "the same maps" if torch.allclose(same.values, maps.values) else "other maps")
    return maps


if __name__ == "__main__":
    main()
