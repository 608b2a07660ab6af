"""`python -m retain`, which `torchrun -m retain` runs too."""

from retain.apps.cli import alone

if __name__ == "__main__":
    alone()
