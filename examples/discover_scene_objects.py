"""Which objects make a scene? What lies under the class maps of drawn scenes, by frequency and against chance.

The sky is under nearly every map, because it is large: *frequency* says so, *lift* corrects for it.

Run it: python examples/discover_scene_objects.py [RUN_DIR]      (needs the extras "demo" and "discovery")
"""

import sys
import tempfile
from pathlib import Path

import explain
from explain.data.scenes import write_scenes
from explain.localization.discovery import scene_objects


def main(out=None, count=56):
    # The network knows nothing of these scenes: linear SVMs on its features tell them apart.
    subject = explain.load("demo", input_size=128)
    with tempfile.TemporaryDirectory() as folder:
        drawn = write_scenes(Path(folder) / "scenes", count)
        result = scene_objects(subject, drawn, categories=["object"], top=3, folds=4)
        result.show()
        if out:
            result.save(out)
            print("report:", explain.render(out))
    return result


if __name__ == "__main__":
    main(*sys.argv[1:2])
