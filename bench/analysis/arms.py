"""Find the runs that are alike in all but tying, rate and seed: what a tied run is compared with."""

import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any

from bench.analysis.points import ALONE, CONFIG_PARTS, METHODS
from bench.analysis.runs import RunRecord, is_finite
from bench.runs.identity import identity
from bench.runs.tying_spec import TyingSpec

Arms = Mapping[tuple, Mapping[int, RunRecord]]
"""(control, method, parts of the tying) -> seed -> run, of runs that are alike in all else."""
UNTIED = (None, "none", ())
_OF_EPOCHS = ("max_epochs", "val_check_interval")
"""Keys of the trainer that a budget in steps replaces."""


def pair_key(record: Mapping[str, Any], controls: Container[str | None] = (None,)) -> str | None:
    """Return what a tied run and its untied one have in common: all of the config but tying, seed and learning rate.

    None for a run that is no side of a pair: one that begins from another run, one without a config.

    Args:
        controls: The kinds of control that count, None of them for a run that is no control.
    """
    config = record.get("config") or {}
    if (
        not config.keys() >= CONFIG_PARTS
        or config.get("control") not in controls
        or config.get("start") is not None
    ):
        return None
    kept = {
        key: value
        for key, value in config.items()
        if key not in ("tying", "seed", "measure", "control", "start")
    }
    kept["data"] = {
        key: value for key, value in kept["data"].items() if key not in ("meta", "folder", "root")
    }
    if kept["model"].get("init_scale") == 1:  # older records lack the key
        kept["model"] = {key: value for key, value in kept["model"].items() if key != "init_scale"}
    without = {
        "optimizer": ("lr", "shared_lr"),
        "trainer": _OF_EPOCHS if config["trainer"].get("max_steps") else (),
    }
    for part, keys in without.items():
        # Older records lack keys that are null.
        kept[part] = {
            key: value for key, value in kept[part].items() if key not in keys and value is not None
        }
    return identity(kept)


def method_of(spec: TyingSpec) -> str | None:
    """Return the method of a plain tie of one kind, `none` for no tie; None for all others (soft, composed, scoped)."""
    if not spec.parts:
        return "none"
    part = spec.parts[0]
    is_plain = len(spec.parts) == 1 and part.get("scope") in (None, "weights") and part.method in METHODS
    return part.method if is_plain else None


def method_or_role(spec: TyingSpec) -> str | None:
    """Return what `method_of` does, or the role whose weights alone a plain cross_layer shares; None for all others."""
    method = method_of(spec)
    if method is None and len(spec.parts) == 1 and spec.parts[0].method == "cross_layer":
        scope = spec.parts[0].get("scope")
        return scope if scope in ALONE else None
    return method


def distinct_blocks(spec: TyingSpec, depth: int, stages: int = 1) -> int:
    """Return how many blocks of weights a plain tie leaves of `depth`; `depth` for the embedding and for no tie.

    stages: how many a network has whose blocks are of one shape within a stage alone.
    """
    method, part = method_or_role(spec), spec.parts[0] if spec.parts else None
    if method in ("cross_layer", *ALONE):
        return stages
    if method == "top_k":
        k, fraction = part.get("k"), part.get("fraction")
        k = max(2, math.ceil(fraction * depth - 1e-9)) if k is None else k
        return depth - int(k) + 1
    if method in ("cycle", "sequence"):
        return int(part.get("groups"))
    return depth


def arms_at_best_rate(
    runs: Iterable[RunRecord],
    controls: Container[str | None] = (None,),
    name_of: Callable[[TyingSpec], str | None] = method_of,
) -> Iterator[Arms]:
    """Yield the finished runs of plain ties that are alike in all but tying, rate and seed, arm by arm.

    An arm that was run at several rates gives its runs at the rate of the least mean validation loss; of equal means
    the lowest rate. A rate with fewer seeds than another does not count. Runs of one identity count once.

    Args:
        controls: see `pair_key`.
        name_of: the method of a tying, None for one that does not count.
    """
    pairs: dict[str, dict[tuple, dict[str, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        method = name_of(run.spec)
        is_scored = run.is_done and is_finite(run.number("test", "nll"))
        if is_scored and method and (key := pair_key(run.record, controls)):
            pairs[key][run.spec.control, method, run.spec.parts][run.id] = run
    for arms in pairs.values():
        yield {arm: _at_best_rate(by_id.values()) for arm, by_id in arms.items()}


def _at_best_rate(runs: Iterable[RunRecord]) -> dict[int, RunRecord]:
    by_rate: dict[tuple[float, str], dict[int, RunRecord]] = defaultdict(dict)
    for run in runs:
        optimizer = run.record["config"]["optimizer"]
        by_rate[optimizer["lr"], optimizer.get("shared_lr") or ""][run.seed] = run
    most = max(map(len, by_rate.values()))
    full = {rate: by_seed for rate, by_seed in by_rate.items() if len(by_seed) == most}
    return full[
        min(sorted(full), key=lambda rate: fmean(run.number("val", "nll") for run in full[rate].values()))
    ]
