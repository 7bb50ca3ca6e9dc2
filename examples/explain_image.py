"""What does a pretrained network see in a photo, and where? Two methods side by side, as a picture.

Run it: python examples/explain_image.py [PHOTO] [OUT.png]      (needs the extra "demo")
"""

import sys

import explain
from explain.data.sample import sample_photos
from explain.pictures import compare


def main(photo=None, out="explained.png"):
    subject = explain.load("demo")
    photo = photo or sample_photos()[0].path
    maps = explain.cam(subject, photo, classes="top5")
    for k, boxes in enumerate(explain.locate(maps)[0]):
        name = maps.name(int(maps.classes[0, k]))
        print(f"{name:<16} logit {float(maps.scores[0, k]):6.2f}   box {boxes.xyxy.tolist()}")
    other = explain.attribute(subject, photo, "layercam", maps.classes)  # the same classes, by another method
    compare([maps, other]).save(out)
    print(f"mean + constant = logit to {maps.residual:.0e} of the largest logit; picture: {out}")
    return maps


if __name__ == "__main__":
    main(*sys.argv[1:3])
