"""`python -m bench.measure [--again] [overrides]`: what cells cost, measured without training. Imports no torch."""

import sys
from collections.abc import Sequence

from bench.__main__ import main as bench
from bench.command import framed
from bench.errors import BadInput

AGAIN = "--again"
OVERRIDES = ("hydra/help=measure", "hydra/launcher=measure", "hydra.mode=MULTIRUN")


@framed
def main() -> int:
    """The command line of a sweep, under the launcher that measures; its exit codes and its one line on stderr."""
    given = [word for word in sys.argv[1:] if word != AGAIN]
    if elsewhere := [word for word in given if word.startswith("hydra/launcher")]:
        raise BadInput(f"{elsewhere[0]} is not allowed: costs are measured on this machine alone")
    sys.argv[1:] = _with_ours(given, again=AGAIN in sys.argv)
    return bench()


def _with_ours(given: Sequence[str], again: bool) -> list[str]:
    """The words with our overrides after theirs, so that ours hold: Hydra takes them in one piece."""
    ends = [at + 1 for at, word in enumerate(given) if "=" in word and not word.startswith("-")]
    end = ends[-1] if ends else len(given)
    return [*given[:end], *OVERRIDES, f"hydra.launcher.again={str(again).lower()}", *given[end:]]


if __name__ == "__main__":
    sys.exit(main())
