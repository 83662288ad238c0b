"""How fast the harness itself is: ratios, measured in turns on this machine. `make perf`."""

import argparse
import importlib.metadata
import sys
import tempfile
from pathlib import Path

from bench import machine
from bench.perf import sweeps


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.perf", description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="turns of each side, A B A B ... (default 7)")
    parser.add_argument("--only", choices=("step", "sweeps"), help="one half of it")
    asked = parser.parse_args()
    torch = importlib.metadata.version("torch")
    print(f"{machine.processor()}, {machine.cores()} cores, torch {torch}, one thread a run\n")
    if asked.only != "step":
        with tempfile.TemporaryDirectory() as scratch:
            sweeps.report(Path(scratch))
    if asked.only != "sweeps":
        # Not before: the memory of a command counts what its parent had when it was started.
        from bench.perf import step

        step.report(asked.turns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
