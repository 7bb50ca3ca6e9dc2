"""Image → maps."""

from explain.saliency.cam import cam, watch

__all__ = ["cam", "watch"]
