"""Your own network, your own labels: exact maps, boxes and scores from tensors, without any file.

Run it: python examples/own_model.py
"""

import torch
from torch import nn

import explain


def bright_squares(count, side=32, seed=0):
    """Noise with one square: bright in the red channel (class 0) or in the green one (class 1)."""
    generator = torch.Generator().manual_seed(seed)
    images, items = [], []
    for number in range(count):
        image = 0.1 * torch.rand(3, side, side, generator=generator)
        x, y = torch.randint(0, side - 10, (2,), generator=generator).tolist()
        image[number % 2, y : y + 10, x : x + 10] += 1
        images.append(image)
        items.append((image, number % 2, [[x, y, x + 10, y + 10]]))
    return torch.stack(images), torch.arange(count) % 2, items


def main():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
    model = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
    images, labels, _ = bright_squares(64)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    with explain.watch(model.eval()) as w:  # maps from your own forward pass
        logits = model(images[:4])
        maps = w.cam("top1")
    print("predicted", logits.argmax(1).tolist(), "residual", f"{maps.residual:.0e}")

    _, _, held_out = bright_squares(40, seed=1)
    result = explain.evaluate_localization(model, held_out)
    result.show()
    return result


if __name__ == "__main__":
    main()
