"""Network dissection of a layer: how many units detect a concept, of which categories, and each unit's best of each.

A unit detects its best concept where their IoU is above 0.04 (Bau et al. 2017). Positions are made from the pixels.

Run it: python examples/dissect_layer.py [RUN_DIR]      (needs the extra "demo")
"""

import sys

import numpy as np

import explain
from explain.data import open_data, with_pixel_concepts
from explain.data.recipes import recipe_path
from explain.neurons.counts import iou
from explain.neurons.formula import Leaf

CATEGORIES = ("object", "color", "position")


def best_by_category(run, category):
    """Name and IoU of every unit's best concept of a category: the counts of the run serve for any question."""
    names = [concept.name for concept in run.index.cells.concepts if concept.category == category]
    scores = np.array([iou(run.index.cells, Leaf(name), run.counts) for name in names])  # (concepts, units)
    return [(names[best], score) for best, score in zip(scores.argmax(0), scores.max(0), strict=True)]


def main(out=None):
    # Three scenes, to run in seconds; "scenes" draws 320, and any folder of images and masks will do.
    probe = with_pixel_concepts(open_data(recipe_path("scenes") / "sample", "probe"), ["position"])
    run = explain.dissect(explain.load("demo"), probe=probe, length=1, units=range(128), shuffles=0, draws=0)
    facts = run.summary()
    print(f"{facts['interpretable']} of {facts['units']} units detect one of {facts['unique_concepts']} concepts")
    for category, units in facts["by_category"].items():
        print(f"  {category:<10} {units:>4} units")
    print(f"{'unit':>5}" + "".join(f"  {'best ' + category:<20} {'IoU':>5}" for category in CATEGORIES))
    columns = [best_by_category(run, category) for category in CATEGORIES]
    for place in np.argsort([-unit.score for unit in run.units], kind="stable")[:10]:
        cells = "".join(f"  {column[place][0]:<20} {column[place][1]:>5.3f}" for column in columns)
        print(f"{list(run.units)[place].unit:>5}{cells}")
    if out:
        run.save(out)
        print("report:", explain.render(out))
    return run


if __name__ == "__main__":
    main(*sys.argv[1:2])
