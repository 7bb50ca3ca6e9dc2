"""Ablation, literally: one image, one edit, one whole forward pass at a time."""

from __future__ import annotations

import numpy as np
import torch


def maps_of(model, module, image):
    """The output of ``module`` for one image ``(c, h, w)``; a vector is a map of one place."""
    kept = []
    handle = module.register_forward_hook(lambda one, args, output: kept.append(output.detach().clone()))
    with torch.no_grad():
        model(image[None])
    handle.remove()
    return kept[-1][0] if kept[-1].ndim == 4 else kept[-1][0][:, None, None]


def logits_with(model, module, image, change):
    """The logits where ``change(map (c, h, w))`` takes the place of the module's output."""

    def put(one, args, output):
        return change(output[0].clone().reshape(output.shape[1], *(output.shape[2:] or (1, 1)))).reshape(output.shape)

    handle = module.register_forward_hook(put)
    with torch.no_grad():
        found = model(image[None])[0]
    handle.remove()
    return found.double().numpy()


def ablated(model, module, images, units, how, donors=None, places=None, levels=None, factor=None):
    """Logits ``(n, classes)`` with ``units`` replaced in every image, as the words say."""
    maps = [maps_of(model, module, image) for image in images]
    mean = torch.stack(maps).mean((0, 2, 3))
    rows = []
    for number, image in enumerate(images):

        def change(own, number=number):
            for unit in units:
                if how == "zero":
                    own[unit] = 0
                elif how == "mean":
                    own[unit] = mean[unit]
                elif how == "resample":
                    own[unit] = maps[donors[number]][unit]
                elif how == "scale":
                    own[unit] = own[unit] * factor
                else:
                    for y, x in zip(*np.nonzero(places), strict=True):
                        own[unit, y, x] = max(float(own[unit, y, x]), float(levels[unit]))
            return own

        rows.append(logits_with(model, module, image, change))
    return np.stack(rows)


def winners(logits, weights, shifts):
    """The class of the largest logit of each image and unit, one by one."""
    found = np.empty(shifts.shape, int)
    for image in range(len(logits)):
        for unit in range(shifts.shape[1]):
            moved = [logits[image, c] + shifts[image, unit] * weights[unit, c] for c in range(logits.shape[1])]
            found[image, unit] = int(np.argmax(moved))
    return found
