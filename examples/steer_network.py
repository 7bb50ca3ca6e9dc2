"""Find the units that look for a concept by their formulas, and take them out of the network.

On the command line: explain effects RUN_DIR ablation --data DATA, explain effects RUN_DIR steer --data DATA --concept C

Run it: python examples/steer_network.py      (needs the extra "demo")
"""

import tempfile
from pathlib import Path

import torch

import explain
from explain.data import as_localization
from explain.data.scenes import write_scenes
from explain.nets import linear_head
from explain.neurons import effects


def main():
    with tempfile.TemporaryDirectory() as folder:
        scenes = write_scenes(Path(folder) / "scenes", count=33, seed=1)
        others = as_localization(write_scenes(Path(folder) / "others", count=33, seed=2))
        # A linear classifier of the eleven objects on the pretrained network's last map.
        subject = linear_head(explain.load("demo"), list(others.images), others.classes, classes=others.class_names)
        run = explain.dissect(subject, probe=scenes, length=2, units=range(48), shuffles=0, draws=0)
        # What is lost without a unit, and without several? The scenes have masks and labels, both in one folder.
        lost = effects.ablation(run, scenes, replace=["zero", "resample"], top=8, least=3, controls=10, draws=200)
        lost.show()
        # Without the units whose formula asks for the beach: scenes that show it, and scenes that do not.
        without = effects.steer(run, scenes, concept="beach", draws=200)
        without.show()
        # The same edit on one's own network, for the length of a block.
        image = torch.rand(1, 3, 224, 224)
        with torch.no_grad(), effects.steered(subject, run, image, concept="beach"):
            edited = subject.model(image)
        with torch.no_grad():
            print("largest change of a logit:", float((edited - subject.model(image)).abs().max()))
    return lost, without


if __name__ == "__main__":
    main()
