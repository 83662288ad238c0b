"""`python -m bench.selftest`: prints what each meter said and what is known; exit code 1 if one is wrong."""

import argparse
import sys
import time
from collections.abc import Sequence

import torch

from bench.report.markup import Table, plain
from bench.selftest import scores, seconds, sizes, throughput
from bench.selftest.check import Check

HEADER, ALIGN = ["meter", "what", "known", "measured", "tolerance", "right"], "llrrll"


def main(arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser("python -m bench.selftest", description=__doc__).parse_args(arguments)
    began = time.monotonic()
    torch.set_num_threads(1)
    found = [check for part in (seconds, sizes, scores, throughput) for check in part.checks()]
    print(plain(table(found)))
    wrong = sum(not check.is_right for check in found)
    said = f"{wrong} WRONG" if wrong else "all right"
    print(f"figures: {len(found)}, {said}; {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def table(found: Sequence[Check]) -> Table:
    return Table(HEADER, ALIGN, [check.row() for check in found])


if __name__ == "__main__":
    sys.exit(main())
