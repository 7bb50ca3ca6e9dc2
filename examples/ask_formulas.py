"""Any formula, asked of a saved run: from its table of counts, without the network, the images and torch.

On the command line: explain ask RUN_DIR "sky AND NOT sea"

Run it: python examples/ask_formulas.py [RUN_DIR]      (a run of `explain neurons`; without it, one is made)
"""

import sys
import tempfile
from pathlib import Path

from explain.neurons.asking import ask, open_run, told
from explain.neurons.formula import parse


def make_run(folder):
    import explain
    from explain.data.recipes import recipe_path

    run = explain.dissect(
        explain.load("demo"), probe=recipe_path("scenes") / "sample", length=2, units=range(64), shuffles=0, draws=0
    )
    return run.save(folder)


def main(folder=None, formulas=()):
    with tempfile.TemporaryDirectory() as own:
        saved = open_run(folder or make_run(Path(own) / "run"))
    if not formulas:
        first, second = (concept.name for concept in saved.cells.concepts[:2])
        formulas = (f'"{first}"', f'"{first}" OR "{second}"', f'NOT ("{first}" OR "{second}")')
    answers = {}
    for text in formulas:
        formula = parse(text)
        answers[text] = ask(saved, formula)  # every unit, best first
        print(told(saved, formula))
        for one in answers[text][:3]:
            print(f"  unit {one.unit:>4}: IoU {one.iou:.3f}, precision {one.precision:.3f}, recall {one.recall:.3f};")
            print(f"    its own formula: {one.found} (IoU {one.found_iou:.3f})")
    return answers


if __name__ == "__main__":
    main(*sys.argv[1:2], sys.argv[2:])
