"""``python -m explain``: the command line, in the form that launchers such as torchrun need."""

from explain.cli import main

if __name__ == "__main__":
    main()
