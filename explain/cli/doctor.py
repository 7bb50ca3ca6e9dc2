"""``explain doctor``: ten lines on a model, a data set and this machine."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from explain.cli import options as opt

__all__ = ["doctor"]


def doctor(
    model: opt.Model,
    data: Annotated[str | None, typer.Option(help="labelled or probe folder")] = None,
    weights: opt.Weights = "DEFAULT",
    transform: opt.Transform = None,
    class_names: opt.ClassNames = None,
    input_size: opt.InputSize = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 16,
    limit: opt.Limit = 200,
) -> None:
    """Print versions, device, map, exactness, transform, accuracy on the data, speed, estimated time and disk."""
    import platform
    from importlib.metadata import version

    import torch

    subject = opt.open_subject(opt.ModelOptions(model, weights, transform, class_names, input_size, mean, std, device))
    names = ("explain-nets", "torch", "torchvision", "numpy", "captum")
    print(f"versions    python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names))
    place = torch.cuda.get_device_name(subject.device) if subject.device.type == "cuda" else "CPU"
    print(f"device      {subject.device} ({place}), {torch.get_num_threads()} threads")
    parts, rate = _measure(subject, batch_size)
    print(f"model       {subject.name}, {parts.classes} classes, weights {subject.source or 'as given'}")
    print(f"map         {parts.layer}: {parts.channels} channels, {parts.grid[0]} x {parts.grid[1]}")
    instead = "" if parts.exact else f"; use gradcam on the {parts.grid[0]} x {parts.grid[1]} grid"
    print(f"exact CAM   {'yes' if parts.exact else 'no'}: {parts.reason}{instead}")
    print(f"residual    {f'{parts.residual:.1e} of the largest logit' if parts.exact else '-'}")
    print(f"transform   {subject.preprocess or subject.transform or 'none: give preprocessed tensors'}")
    images, line = _look_at_data(subject, parts, data, batch_size, limit)
    print(f"accuracy    {line}")
    print(f"speed       {rate:.1f} images per second, batch {batch_size}")
    count = images if images else 1000
    disk = count * (parts.grid[0] * parts.grid[1] * 4 + 12_000) / 1e6
    print(f"estimate    {count} images: {count / rate:.0f} s forward, about {disk:.0f} MB of run folder")


def _measure(subject: Any, batch_size: int) -> tuple[Any, float]:
    """Return the anatomy, and images per second of a plain forward pass on noise."""
    import torch

    from explain.nets.trace import anatomy
    from explain.nets.zoo import fill_random

    noise = torch.randn(batch_size, 3, *subject.input_size, generator=torch.Generator().manual_seed(0))
    noise = noise.to(subject.device)
    if subject.source == "random":
        fill_random(subject.model, noise)
    parts = anatomy(subject.model, images=noise)
    with torch.inference_mode():
        subject.model(noise)
        start = time.perf_counter()
        for _ in range(2):
            subject.model(noise).sum().item()
    return parts, 2 * batch_size / (time.perf_counter() - start)


def _look_at_data(subject: Any, parts: Any, data: str | None, batch_size: int, limit: int | None) -> tuple[int, str]:
    """Return the number of images in the data, and a line on accuracy and on what looks wrong."""
    import torch

    from explain.data import open_data
    from explain.nets.inputs import stream, suspicion
    from explain.types import ProbeSet

    if data is None:
        return 0, "not measured: give --data"
    found = open_data(data)
    if isinstance(found, ProbeSet):
        return len(found), f"not measured: {found.name} is a probe set of {len(found)} images without classes"
    used = min(limit or len(found), len(found))
    # Spread over the set: folders are often sorted by class.
    numbers = [index * len(found) // used for index in range(used)]
    correct, strange = 0, None
    with torch.inference_mode():
        for indices, tensor in stream([found.images[n] for n in numbers], subject.transform, batch_size=batch_size):
            predicted = subject.model(tensor.to(subject.device)).argmax(1).tolist()
            correct += sum(found.classes[numbers[i]] == p for i, p in zip(indices, predicted, strict=True))
            strange = strange or suspicion(tensor)
    share = 100 * correct / used
    line = f"top-1 {share:.1f} % on {used} of {len(found)} images of {found.name}"
    if share <= 2 * 100 / parts.classes:
        line += "; near chance: check normalisation and class order"
    return len(found), f"{line}; {strange}" if strange else line
