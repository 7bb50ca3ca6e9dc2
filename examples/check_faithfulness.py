"""Do a map's pixels matter to the network, and does the map depend on what the network learned? On a tiny network.

Run it: python examples/check_faithfulness.py
"""

import torch
from torch import nn

import explain
from explain.saliency.faithfulness import faithfulness
from explain.saliency.sanity import randomization_check


def bright_squares(count, side=32, seed=0):
    """Noise with one square in a random place: bright in the red channel (class 0) or in the green one (class 1)."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = 0.1 * torch.rand(count, 3, side, side, generator=generator), torch.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        x, y = torch.randint(0, side - 10, (2,), generator=generator).tolist()
        image[label, y : y + 10, x : x + 10] += 1
    return images, labels


def main():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
    model = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
    images, labels = bright_squares(64)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    model.eval()

    images, labels = bright_squares(12, seed=1)
    maps = explain.cam(model, images, classes=labels[:, None])
    found = faithfulness(model, images, maps, steps=16)
    print(found)
    for metric in found.scores:
        print(f"{metric}: better than shuffled maps by {found.advantage(metric, 'random')}")

    check = randomization_check(model, images, explain.cam)
    print("\nSimilarity to the trained network's maps, as layers lose what they learned from the top down:")
    print(check.table())
    return found, check


if __name__ == "__main__":
    main()
