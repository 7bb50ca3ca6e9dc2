"""What do the neurons of a layer detect? A few units of a pretrained network on scenes with every pixel labelled.

Run it: python examples/explain_neurons.py [RUN_DIR]      (needs the extra "demo")
"""

import sys

import explain
from explain.data.recipes import recipe_path


def main(out=None):
    # Three scenes, to run in seconds; probe="scenes" draws 320, and any folder of images and masks will do.
    run = explain.dissect(explain.load("demo"), probe=recipe_path("scenes") / "sample", length=3, units=range(64))
    print(run.table(10))
    if out:
        run.save(out)
        print("report:", explain.render(out))
    return run


if __name__ == "__main__":
    main(*sys.argv[1:2])
