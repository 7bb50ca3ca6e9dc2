"""Image → maps. (`explain.cam` is `explain.saliency.cam.cam`: no package gives a function the name of its module.)"""

from explain.saliency.cam import watch

__all__ = ["watch"]
