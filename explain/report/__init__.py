"""Run folder → HTML. Needs neither torch nor the model, and can be repeated at any time."""

from explain.report.rendering import render, render_all

__all__ = ["render", "render_all"]
