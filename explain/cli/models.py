"""``explain models``: the zoo, and what a model supports."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from explain.cli import options as opt

__all__ = ["models"]


def models(
    check: Annotated[
        str | None, typer.Option(metavar="MODEL", help="take this model apart and say what it supports")
    ] = None,
    weights: opt.Weights = "none",
    input_size: opt.InputSize = None,
    device: opt.Device = "auto",
) -> None:
    """List the models known by name; with --check, say whether one has exact class activation maps, and why not."""
    console = Console()
    if check is None:
        from explain.nets.subject import torchvision_names

        names = torchvision_names()
        console.print(f"demo (EfficientNet-Lite0), {len(names)} classifiers of torchvision, or module:callable:")
        console.print(", ".join(names), soft_wrap=False)
        console.print("what one supports: explain models --check NAME")
        return
    subject = opt.open_subject(opt.ModelOptions(check, weights, input_size=input_size, device=device))
    console.print(anatomy_table(subject, trained=weights != "none" or ":" in check or check == "demo"))


def anatomy_table(subject: object, *, trained: bool) -> Table:
    """Return what anatomy found, as a table."""
    import torch

    from explain.nets.modes import naming_errors
    from explain.nets.subject import as_subject
    from explain.nets.trace import anatomy

    known = as_subject(subject)  # type: ignore[arg-type]  # checked there
    size = known.input_size
    noise = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0)).to(known.device)
    if not trained:
        # Random weights with empty BatchNorm statistics give logits near zero: one pass fills them.
        with torch.random.fork_rng(), torch.no_grad(), naming_errors(noise):
            known.model.train()(noise)
        known.model.eval()
    parts = anatomy(known.model, images=noise)
    table = Table("property", "found", title=known.name)
    rows = {
        "input": f"3 x {size[0]} x {size[1]}",
        "map": f"{parts.layer}: {parts.channels} channels, {parts.grid[0]} x {parts.grid[1]}",
        "classes": str(parts.classes),
        "exact CAM": f"{'yes' if parts.exact else 'no'}: {parts.reason}",
        "residual": f"{parts.residual:.1e} of the largest logit" if parts.exact else "-",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
