"""Image → maps.

`explain.cam` is `explain.saliency.cam.cam`: no package gives out a function under the name of one of its modules.
"""

from explain.saliency.watching import watch

__all__ = ["watch"]
