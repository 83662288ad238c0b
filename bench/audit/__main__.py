"""`python -m bench.audit MODEL`: where could this model be tied, and what would that save?"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.audit.audit import Audit, audit
from bench.audit.load import ALLOWED, subject
from bench.audit.report import as_json, page, pictures
from bench.report.markup import markdown, plain
from bench.runs.command_line import Parser, framed, parser, refuse
from bench.runs.store import write_bytes_atomic
from bench.tying.errors import BadInput

EXAMPLES = """examples:
  python -m bench.audit runs/1a2b3c4d5e6f                       a run's best weights
  python -m bench.audit tied.safetensors --out audit            what bench.saving.save wrote; tables and pictures too
  python -m bench.audit ~/models/bert --stack encoder.layer     a folder or hub name of transformers
  python -m bench.audit ~/models/gpt2 --sample some.txt         what its blocks compute, too
  python -m bench.audit my.package:model --fail-if-savings-above 10%  exit code 1 if it could be smaller
"""


@framed
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the audit that the command line asks for. Returns 1 where more could be saved than it allows."""
    chosen = _options().parse_args(arguments)
    limit = None if chosen.limit is None else _share(chosen.limit)
    threshold = _cosine(chosen.threshold)
    other = None if chosen.other is None else subject(chosen.other)
    scope = chosen.scope if chosen.scope in ("weights", "all") else chosen.scope.split(",")
    audited = audit(subject(chosen.model), threshold, chosen.stack, scope, other, chosen.sample)
    if chosen.out is not None:
        write(audited, chosen.out)
    print(json.dumps(as_json(audited), indent=2) if chosen.json else page(audited, plain, ""))
    if limit is None or audited.savings <= limit:
        return 0
    share = f"{100 * audited.savings:.1f} % of the parameters, more than {100 * limit:g} %"
    return refuse(f"tying what is alike would save {share}", code=1)


def write(audited: Audit, folder: Path) -> None:
    """Write audit.md, audit.json, audit.png and audit.svg into `folder`. BadInput where they cannot be written."""
    files = {
        ".json": json.dumps(as_json(audited), indent=2).encode(),
        ".md": page(audited, markdown, "#").encode(),
    }
    for ending, content in {**files, **pictures(audited)}.items():
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
        cosine = float(text)
    except ValueError:
        cosine = 2.0
    if not -1 <= cosine <= 1:
        raise BadInput(f"--threshold is {text!r}; a cosine lies between -1 and 1")
    return cosine


def _options() -> Parser:
    options = parser(
        "bench.audit",
        "How alike the namesakes of a trained model are, against chance, and what sharing them would save.",
        EXAMPLES,
    )
    options.add_argument("model", metavar="MODEL", help=ALLOWED)
    options.add_argument(
        "--stack", help="the blocks: a module list, or a pattern with * (default: the largest)"
    )
    options.add_argument(
        "--scope",
        default="weights",
        help="weights, all, or roles such as attention,conv (default: %(default)s)",
    )
    options.add_argument(
        "--threshold", default="0.8", help="cosine from which on two tensors are alike (default: %(default)s)"
    )
    options.add_argument(
        "--other", metavar="MODEL", help="the same network from another seed: how alike two trainings are"
    )
    options.add_argument(
        "--sample",
        metavar="FILE",
        help="what the blocks' outputs are compared on: a text file, or package.module:function that returns a list "
        "of batches (dicts or tuples of the model's arguments); a run has its validation split",
    )
    options.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write audit.md, .json, .png and .svg there too"
    )
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument(
        "--fail-if-savings-above", dest="limit", metavar="SHARE", help="exit with 1 above, as 10%% or 0.1"
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
