"""`python -m bench.foretell`: predict the next points of the designed experiment before they are run, to be judged."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from threadpoolctl import threadpool_limits

from bench.analysis import points
from bench.analysis.points import METHODS, Measurement, fingerprint
from bench.analysis.prediction import DUMMIES, Predictor, dummy, hull_of, predictor, query
from bench.audit.advice import distinct_of, saved_by
from bench.audit.sizes import Given, Sized, sized
from bench.report.foretold import FILE, Batch, batches
from bench.runs import machine
from bench.runs.command_line import add_places, framed, parser
from bench.runs.store import write_json
from bench.sweep import design
from bench.training.build import plan_for
from bench.tying.errors import BadInput

COUNT = 20
EXAMPLES = """examples:
  python -m bench.foretell --root data               twenty predictions after the points of conf/sweep/map.yaml
  python -m bench.foretell --after 80 --count 10     ten, from the 81st point on

Commit the file that it writes, then run the command that it prints; `python -m bench.map` judges it.
"""


def foretell(measured: Sequence[Measurement], after: int, count: int, root: str | None) -> dict[str, Any]:
    """Predict the arms of the points that follow the first `after` ones of the design, until there are `count`.

    Args:
        root: folder of data sets; without it the points of WikiText-2 are passed over, as the sweep does.

    Raises:
        BadInput: a place is measured already, or no method has points to predict from.
    """
    predictors = {method: predictor(measured, method) for method in METHODS}
    if not any(predictors.values()):
        raise BadInput("there are too few points to predict from: run `make sweep SWEEP=map` first")
    predictions: list[dict[str, Any]] = []
    number = after
    while len(predictions) < count:
        number += 1
        point = design.points(number)[-1]
        if point.data == "wikitext2" and root is None:
            continue
        for arm, method in _arms(point, root):
            if predictors.get(method) is not None and len(predictions) < count:
                predictions.append(_prediction(measured, predictors[method], arm, method))
    return {
        "made_from": fingerprint(measured),
        "points": len(measured),
        "command": f"python -m bench -m sweep=map sweep.points={number}{' data.root=FOLDER' if root else ''}",
        "predictions": predictions,
    }


def _arms(point: design.Point, root: str | None) -> list[tuple[Sized, str]]:
    """Return the tied arms of a point of the design, each with its method."""
    arms: dict[str, Sized] = {}
    for overrides in point.overrides():
        method = overrides["tying"]
        if method != "none" and "control" not in overrides and method not in arms:
            keys = [f"{key}={value}" for key, value in overrides.items()]
            arms[method] = sized([*keys, *([f"data.root={root}"] if root else [])], Given())
    return [(arm, method) for method, arm in arms.items()]


def _prediction(
    measured: Sequence[Measurement], predict: Predictor, arm: Sized, method: str
) -> dict[str, Any]:
    plan = plan_for(arm.config, arm.model)
    place = query(arm.point, method, distinct_of(plan, arm.point.depth), saved_by(plan, arm.model)[0])
    if (place.point, method, place.distinct) in [(row.point, row.method, row.distinct) for row in measured]:
        raise BadInput(f"{place.label} is measured already at {place.point.title}: give a higher --after")
    mean, low, high, _ = predict([place])[0]
    dummies = {name: float(dummy(name, measured, method)([place])[0]) for name in DUMMIES}
    return {
        "method": method,
        "distinct": place.distinct,
        "point": vars(arm.point),
        "predicted": [mean, low, high],
        "model": predict.model,
        "outside": hull_of(measured, method).outside(place),
        "dummies": {name: value for name, value in dummies.items() if math.isfinite(value)},
    }


# Its matrices are small: threads that wait for a busy core cost more than the sums.
@framed
@threadpool_limits.wrap(limits=1)
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the predictions that the command line asks for beside earlier ones, unless one of these is not run yet."""
    options = parser("bench.foretell", "Predict the next points of the map before they are run.", EXAMPLES)
    add_places(options, results="that holds the map")
    options.add_argument(
        "--after", type=int, metavar="N", help="points that count as run (default: those of the sweep)"
    )
    options.add_argument(
        "--count", type=int, default=COUNT, metavar="N", help="predictions (default: %(default)s)"
    )
    options.add_argument("--root", metavar="FOLDER", help="folder of data sets, for the points of WikiText-2")
    chosen = options.parse_args(arguments)
    if chosen.count < 1 or (chosen.after is not None and chosen.after < 1):
        raise BadInput(f"--count {chosen.count}, --after {chosen.after}: give whole numbers from 1")
    folder = Path(chosen.results) / points.FOLDER
    measured = points.from_csv(folder / points.FILE)
    earlier = batches(folder / FILE)
    if still_open := [batch["command"] for batch in earlier if Batch.of(batch, measured).n_open]:
        raise BadInput(
            f"{folder / FILE} has predictions that are not run yet: run `{still_open[0]}`, then `python -m bench.map`"
        )
    after = chosen.after or OmegaConf.load(machine.CONF / "sweep" / "map.yaml").sweep.points
    foretold = foretell(measured, after, chosen.count, chosen.root)
    write_json(folder / FILE, [*earlier, foretold])
    command = foretold["command"].replace("FOLDER", str(chosen.root))
    print(f"{len(foretold['predictions'])} predictions: {folder / FILE}\ncommit it, then run\n  {command}")


if __name__ == "__main__":
    sys.exit(main())
