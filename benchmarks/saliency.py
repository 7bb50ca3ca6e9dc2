"""What maps cost beside a plain forward pass, with torch-cam, pytorch-grad-cam and captum in the same run.

    make bench ARGS="--only saliency --full"                # needs the peers: see the Makefile
    python benchmarks/saliency.py [--pairs 15] [--device cuda] [--batch 16] [--model resnet50]

Each case is paired with a plain ``inference_mode`` forward pass of the same network and batch, interleaved; see
`timing`. Peak memory is measured in a fresh process for each case, above the loaded network and batch. Five classes
are the five with the largest logits for ours; the peers are given five indices in turn, as they take one per image
and call, and spared the search for them. Rows go to ``benchmarks/results/saliency.csv``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import HERE, Row, commit, device_name, paired, peak_of, ratio, today, write_rows
from torch import Tensor, nn
from torchvision import models

RESULTS = HERE / "results" / "saliency.csv"
LAYERS = {"resnet50": "layer4", "resnet18": "layer4", "mobilenet_v2": "features"}
SLOW = ("pytorch-grad-cam GradCAM top5", "captum LayerGradCam top5", "pytorch-grad-cam GradCAM top1")
"""Several times a forward pass: few pairs tell."""
SLOW_PAIRS = 3
FIRST = "explain cam top5"
"""What a first call costs is told of this one."""
PACKAGES = {"torch-cam": "torchcam", "pytorch-grad-cam": "grad-cam", "captum": "captum"}


def made(name: str, batch: int, device: torch.device) -> tuple[nn.Module, Tensor]:
    """Return the network with random weights and filled BatchNorm statistics, and a batch."""
    torch.manual_seed(0)
    model = models.get_model(name, weights=None)
    with torch.no_grad():
        model(torch.randn(4, 3, 224, 224))
    return model.eval().to(device), torch.randn(batch, 3, 224, 224).to(device)


def cases(model: nn.Module, images: Tensor, layer: str, only: str = "") -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; peers that are not installed are left out.

    ``only``: make this case alone, so that a process that measures its memory holds nothing of the others.
    """
    import explain

    def plain() -> object:
        with torch.inference_mode():
            return model(images)

    found: dict[str, Callable[[], object]] = {"plain forward": plain}
    for k in (1, 5):
        top = f"top{k}"
        found |= {
            f"explain cam {top}": lambda top=top: explain.cam(model, images, top),
            f"explain gradcam {top}": lambda top=top: explain.attribute(model, images, "gradcam", top),
            f"explain gradcam++ {top}": lambda top=top: explain.attribute(model, images, "gradcam++", top),
            f"explain gradcam {top} at {layer}": lambda top=top: explain.attribute(
                model, images, "gradcam", top, layer=layer
            ),
        }
    for peer in (torch_cam, grad_cam, captum):
        if not only or only.startswith(NAMES[peer.__name__]):
            try:
                found |= peer(model, images, layer, only)
            except ImportError as error:
                print(f"left out: {error}", file=sys.stderr)
    return found


NAMES = {"torch_cam": "torch-cam", "grad_cam": "pytorch-grad-cam", "captum": "captum"}


def torch_cam(model: nn.Module, images: Tensor, layer: str, only: str) -> dict[str, Callable[[], object]]:
    """torch-cam: one forward pass, then one call for each class."""
    from torchcam.methods import CAM, GradCAM

    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]

    def cam(classes: int) -> object:
        with CAM(model, layer, last) as extractor, torch.inference_mode():
            model(images)
            return [extractor([index] * len(images)) for index in range(classes)]

    def gradient(classes: int) -> object:
        with GradCAM(model, layer) as extractor:
            out = model(images)
            calls = range(classes)
            return [extractor([i] * len(images), out, retain_graph=i + 1 < classes) for i in calls]

    return {f"torch-cam {name} top{k}": lambda run=run, k=k: run(k) for k in (1, 5) for name, run in
            (("CAM", cam), ("GradCAM", gradient))}  # fmt: skip


def grad_cam(model: nn.Module, images: Tensor, layer: str, only: str) -> dict[str, Callable[[], object]]:
    """pytorch-grad-cam: forward and backward pass for each class."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def gradient(classes: int) -> object:
        with GradCAM(model=model, target_layers=[model.get_submodule(layer)]) as extractor:
            found = [extractor(images, [ClassifierOutputTarget(i)] * len(images)) for i in range(classes)]
        model.zero_grad()  # it leaves gradients behind
        return found

    return {f"pytorch-grad-cam GradCAM top{k}": lambda k=k: gradient(k) for k in (1, 5)}


def captum(model: nn.Module, images: Tensor, layer: str, only: str) -> dict[str, Callable[[], object]]:
    """captum: forward pass and derivatives of the head for each class."""
    from captum.attr import LayerGradCam

    def gradient(classes: int) -> object:
        method = LayerGradCam(model, model.get_submodule(layer))
        return [method.attribute(images, target=i, relu_attributions=True).detach() for i in range(classes)]

    return {f"captum LayerGradCam top{k}": lambda k=k: gradient(k) for k in (1, 5)}


def memory(name: str, arguments: argparse.Namespace) -> float:
    """Return the peak memory of one case in MB, measured in a process of its own: the most of three runs in a loop."""
    command = [sys.executable, __file__, "--memory-of", name]
    command += [f"--{key}={getattr(arguments, key)}" for key in ("model", "batch", "device", "threads")]
    # Freed memory goes back at once, so that the resident set is what is held (glibc would keep some, now and then).
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=settings)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure_memory(arguments: argparse.Namespace, device: torch.device) -> float:
    """Return what `memory` asked for."""
    model, images = made(arguments.model, arguments.batch, device)
    # The case itself, on one image: libraries that it loads are not what it needs for a batch.
    cases(model, images[:1], LAYERS[arguments.model], arguments.memory_of)[arguments.memory_of]()
    run = cases(model, images, LAYERS[arguments.model], arguments.memory_of)[arguments.memory_of]

    def loop() -> None:
        for _ in range(3):
            run()

    return peak_of(loop, device)


def once(run: Callable[[], object], settle: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    settle()
    begun = time.perf_counter()
    run()
    settle()
    return time.perf_counter() - begun


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", choices=sorted(LAYERS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="*", default=[""], help="cases whose name holds one of these")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--memory-of", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Time, measure memory, write."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments, device)))
        return
    model, images = made(arguments.model, arguments.batch, device)
    every = {
        name: run
        for name, run in cases(model, images, LAYERS[arguments.model]).items()
        if any(part in name for part in arguments.only)
    }
    plain = cases(model, images, LAYERS[arguments.model])["plain forward"]
    every.setdefault("plain forward", plain)
    settle = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)

    def progress(name: str, done: int) -> None:
        if name == next(iter(every)):
            print(f"pair {done} of {arguments.pairs}", file=sys.stderr, flush=True)

    def pairs(name: str) -> int:
        return min(SLOW_PAIRS, arguments.pairs) if name in SLOW else arguments.pairs

    first, second = (once(every.get(FIRST, plain), settle) for _ in range(2))
    print(f"{FIRST}: first call of the process {first:.3f} s, second {second:.3f} s; steady ones follow", flush=True)
    seconds = paired(every, plain, pairs, settle, progress)
    case = f"{arguments.model}, batch {arguments.batch}, 224"
    versions = f"torch {torch.__version__}"
    rows = []
    for name in every:
        middle, low, high = ratio(seconds[name])
        package = next((PACKAGES[peer] for peer in PACKAGES if name.startswith(peer)), None)
        version = f"{versions}, {package} {importlib.metadata.version(package)}" if package else versions
        own, base = (float(value) for value in torch.tensor(seconds[name]).median(0).values)
        peak = memory(name, arguments)
        rows.append(
            Row(f"saliency {name}", case, "plain forward", own, base, middle, low, high, peak, len(seconds[name]),
                device_name(device), arguments.threads, version, commit(), today())
        )  # fmt: skip
        print(f"{name:34} {middle:6.3f} [{low:.3f}, {high:.3f}]  peak {peak:7.1f} MB", flush=True)
    write_rows(arguments.out, rows, [row.name for row in rows], device_name(device))
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
