"""Give each arm of a designed experiment its learning rate: a rule by method and width, and the pilot it comes from.

Why a rate for each arm: a shared tensor receives the sum of the gradients of its uses, so one rate for all favours one
arm. Why by width: the best rate of Adam falls with it (Yang et al. 2022, "Tensor Programs V", section 3).
"""

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from bench.runs import machine
from bench.runs.store import Status

Overrides = dict[str, str]
"""Keys of the config with their values, as a command line gives them."""

Rule = dict[str, float]
"""`at_64`, the rate at width 64, and `power`: the rate is at_64 * (width / 64) ** power."""

PILOT_RATES = {
    "text_gru": (0.0015, 0.004, 0.01, 0.025),
    "text_transformer": (0.0006, 0.0015, 0.004, 0.01),
}
PILOT_METHODS, PILOT_WIDTHS, PILOT_SEED = ("none", "embedding", "cross_layer"), (32, 64, 128), 100


def rate_of(task: str, method: str, width: int) -> float:
    """Return the learning rate that conf/rates.yaml gives a method; a pattern along depth has that of cross_layer."""
    rules = recorded_rules()[task]
    rule = rules.get(method) or rules["cross_layer"]
    return rule["at_64"] * (width / 64) ** rule["power"]


@functools.cache
def recorded_rules() -> Mapping[str, Mapping[str, Rule]]:
    """Return the rules of conf/rates.yaml by task and method."""
    return OmegaConf.to_container(OmegaConf.load(machine.CONF / "rates.yaml"))["rates"]


def pilot_runs(cfg: Any) -> list[Overrides]:
    """Return the overrides of all runs of the pilot: each method and width at four rates.

    A method that shares tensors is also run at rates that are divided by the root of a tensor's uses.
    """
    return [
        {
            "task": f"map/{task}",
            "tying": method,
            "model.width": str(width),
            "optimizer.lr": str(rate),
            "optimizer.shared_lr": shared,
            "seed": str(PILOT_SEED),
        }
        for shared, (task, rates) in itertools.product(("null", "sqrt"), PILOT_RATES.items())
        for method, width, rate in itertools.product(PILOT_METHODS, PILOT_WIDTHS, rates)
        if shared == "null" or method != "none"
    ]


def fitted(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Rule]]:
    """Return the rules that the records of the pilot give, by task and method.

    At each width the best rate is where a parabola through the lowest validation nll and its neighbours has its
    bottom, over the logarithm of the rate; the lowest itself at an end of the grid. Then lines through the logarithms
    of the best rates over that of the width, of one slope for all methods of a task: three widths tell no more.

    Args:
        records: Those at one rate for all tensors; others and runs that did not finish are left out.
    """
    reached: dict[tuple[str, str], dict[int, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        if record["status"] == Status.DONE and record["config"]["optimizer"]["shared_lr"] is None:
            width, rate = record["config"]["model"]["width"], record["config"]["optimizer"]["lr"]
            reached[record["task"], record["tying"]][width][rate] = record["val"]["nll"]
    lines: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for (task, method), of_width in sorted(reached.items()):
        best = [math.log(best_rate(of_rate)) for of_rate in of_width.values()]
        lines[task][method] = np.polyfit([math.log(width / 64) for width in of_width], best, 1)
    return {
        task: {
            method: {
                "at_64": float(f"{math.exp(at_64):.3g}"),
                "power": round(float(np.mean([slope for slope, _ in of_method.values()])), 2),
            }
            for method, (_, at_64) in of_method.items()
        }
        for task, of_method in lines.items()
    }


def best_rate(nll: Mapping[float, float]) -> float:
    """Return the rate at which the nll, given at some rates, is lowest, between two of them."""
    rates = sorted(nll)
    lowest = min(range(len(rates)), key=lambda index: nll[rates[index]])
    if lowest in (0, len(rates) - 1):
        return rates[lowest]
    around = rates[lowest - 1 : lowest + 2]
    a, b, _ = np.polyfit([math.log(rate) for rate in around], [nll[rate] for rate in around], 2)
    return math.exp(-b / (2 * a))
