"""`python -m bench.audit MODEL`: where could this model be tied, and what would that save?"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.audit.audit import Audit, audit
from bench.audit.page import as_json, pictures, written
from bench.audit.subjects import ALLOWED, subject
from bench.errors import BadInput
from bench.records import write_bytes_atomic
from bench.report.markup import markdown, plain

EXAMPLES = """examples:
  python -m bench.audit runs/1a2b3c4d5e6f                       a run's best weights
  python -m bench.audit tied.safetensors --out audit            what bench.saving.save wrote; tables and pictures too
  python -m bench.audit ~/models/bert --stack encoder.layer     a folder or hub name of transformers
  python -m bench.audit ~/models/gpt2 --sample some.txt         what its blocks compute, too
  python -m bench.audit my.package:model --fail-if-savings-above 10%  exit code 1 if it could be smaller
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 more could be saved than is allowed, 2 bad input."""
    chosen = _parser().parse_args(arguments)
    try:
        limit = None if chosen.limit is None else _share(chosen.limit)
        threshold = _cosine(chosen.threshold)
        other = None if chosen.other is None else subject(chosen.other)
        found = audit(
            subject(chosen.model), threshold, chosen.stack, _scope(chosen.scope), other, chosen.sample
        )
        if chosen.out is not None:
            write(found, chosen.out)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(as_json(found), indent=2) if chosen.json else written(found, plain, ""))
    if limit is not None and found.savings > limit:
        print(
            f"error: tying what is alike would save {100 * found.savings:.1f} % of the parameters, more than "
            f"{100 * limit:g} %",
            file=sys.stderr,
        )
        return 1
    return 0


def write(found: Audit, folder: Path) -> None:
    """audit.md, audit.json, audit.png and audit.svg into `folder`. BadInput where they cannot be written."""
    files = {
        ".json": json.dumps(as_json(found), indent=2).encode(),
        ".md": written(found, markdown, "#").encode(),
    }
    for ending, content in {**files, **pictures(found)}.items():
        write_bytes_atomic(folder / f"audit{ending}", content)


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise BadInput(f"--fail-if-savings-above is {text!r}; give a share of the parameters, as 10% or 0.1")
    return share


def _cosine(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 2.0
    if not -1 <= found <= 1:
        raise BadInput(f"--threshold is {text!r}; a cosine lies between -1 and 1")
    return found


def _scope(text: str) -> str | list[str]:
    return text if text in ("weights", "all") else text.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.audit",
        description="How alike the namesakes of a trained model are, against chance, and what sharing them would save.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help=ALLOWED)
    parser.add_argument(
        "--stack", help="the blocks: a module list, or a pattern with * (default: the largest)"
    )
    parser.add_argument(
        "--scope",
        default="weights",
        help="weights, all, or roles such as attention,conv (default: %(default)s)",
    )
    parser.add_argument(
        "--threshold", default="0.8", help="cosine from which on two tensors are alike (default: %(default)s)"
    )
    parser.add_argument(
        "--other", metavar="MODEL", help="the same network from another seed: how alike two trainings are"
    )
    parser.add_argument(
        "--sample",
        metavar="FILE",
        help="what the blocks' outputs are compared on: a text file, or package.module:function that returns a list "
        "of batches (dicts or tuples of the model's arguments); a run has its validation split",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write audit.md, .json, .png and .svg there too"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--fail-if-savings-above", dest="limit", metavar="SHARE", help="exit with 1 above, as 10%% or 0.1"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
