"""``python -m kanlens``."""

from kanlens.cli import run

if __name__ == "__main__":
    run()
