"""`python -m retain`, which `torchrun -m retain` runs too."""

from retain.apps.cli import main

if __name__ == "__main__":
    main()
