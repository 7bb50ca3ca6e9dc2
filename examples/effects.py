"""What do explained units do to predictions? A classifier of drawn scenes, its units in words, and what they decide.

On the command line: explain effects RUN_DIR accuracy --data DATA, explain effects RUN_DIR contributions --data DATA

Run it: python examples/effects.py [RUN_DIR]      (needs the extra "demo")
"""

import sys
import tempfile
from pathlib import Path

import explain
from explain.data import as_localization
from explain.data.scenes import write_scenes
from explain.nets import linear_head
from explain.neurons import effects


def main(out=None):
    with tempfile.TemporaryDirectory() as folder:
        scenes = write_scenes(Path(folder) / "scenes", count=33, seed=1)
        others = as_localization(write_scenes(Path(folder) / "others", count=33, seed=2))
        # A linear classifier of the eleven objects on the pretrained network's last map: a head of known weights.
        subject = linear_head(explain.load("demo"), list(others.images), others.classes, classes=others.class_names)
        run = explain.dissect(subject, probe=scenes, length=2, units=range(48), shuffles=0, draws=0)
        # Labels are those of the scenes; the network of a run in memory is known.
        accuracy = effects.accuracy(run, scenes, draws=200)
        accuracy.show()
        given = effects.contributions(run, scenes, top=2, show=3)
        given.show()
        if out:
            run.save(out)
            accuracy.save(Path(out) / "effects" / "accuracy")
            given.save(Path(out) / "effects" / "contributions")
            print("report:", explain.render(out))
    return accuracy, given


if __name__ == "__main__":
    main(*sys.argv[1:2])
