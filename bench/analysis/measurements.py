"""Measure what each tying changed at each point, from the runs of all sweeps."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev

from bench.analysis import archive
from bench.analysis.arms import UNTIED, Arms, arms_at_best_rate, distinct_blocks, method_of, method_or_role
from bench.analysis.points import ALONE, FOLDER, METHODS, Measurement, Point, point_of
from bench.analysis.runs import RunRecord, is_finite, rows
from bench.runs.tying_spec import TyingSpec

ROLE_SWEEP = "map_roles"
"""The sweep whose runs share the weights of one role alone, at the rule's rate of cross_layer, some of them untied."""
Couple = tuple[RunRecord, RunRecord]
Place = tuple[Point, str, int, int]


def read_runs(runs: Path, results: Path) -> list[tuple[str, RunRecord]]:
    """Return every recorded run with the name of its sweep. BadInput as `archive.load`, and where there is none."""
    names = archive.chosen_names(None, runs, results)
    return [(name, run) for name in names for run in rows(archive.load(runs, results, name))]


def measurements(runs: Iterable[tuple[str, RunRecord]]) -> list[Measurement]:
    """Pair finished runs by all but their tying and rate, and average over seeds.

    Runs of one identity count once. Where a tying was run at several rates, the one that is best on validation over
    seeds counts, as a sweep would choose it. Points of several sweeps that are alike are one.

    Args:
        runs: name of the sweep and run.
    """
    return _measured(runs, method_of)


def measurements_by_role(runs: Iterable[tuple[str, RunRecord]]) -> list[Measurement]:
    """Return `measurements`, and those of sharing the weights of one role alone, whose method is the role.

    Only runs of the map and of ROLE_SWEEP count, which are at rates of the rule: arms of one role have no others.
    Nothing is returned where no role was shared alone.
    """
    at_the_rule = [(sweep, run) for sweep, run in runs if sweep in (FOLDER, ROLE_SWEEP)]
    measured = _measured(at_the_rule, method_or_role)
    return measured if any(row.method in ALONE for row in measured) else []


def _measured(
    runs: Iterable[tuple[str, RunRecord]], name_of: Callable[[TyingSpec], str | None]
) -> list[Measurement]:
    runs = list(runs)
    sweeps: dict[str, set[str]] = defaultdict(set)
    for sweep, run in runs:
        sweeps[run.id].add(sweep)
    pairs = couples((run for _, run in runs), name_of)
    return [_measurement(place, of_place, sweeps) for place, of_place in pairs.items()]


def couples(
    runs: Iterable[RunRecord], name_of: Callable[[TyingSpec], str | None] = method_of
) -> dict[Place, list[Couple]]:
    """Return (point, method, distinct, saved) -> the untied and the tied run of each seed, method by method."""
    merged: dict[Place, list[Couple]] = defaultdict(list)
    for arms in arms_at_best_rate(runs, name_of=name_of):
        for place, of_place in _couples(arms).items():
            merged[place] += of_place
    order = (*METHODS, *ALONE)
    return dict(sorted(merged.items(), key=lambda item: (order.index(item[0][1]), item[0])))


def _couples(arms: Arms) -> dict[Place, list[Couple]]:
    """Return the same of runs that are alike in all but tying and seed."""
    untied, vocabulary = arms.get(UNTIED, {}), None
    for (_, method, _), runs in arms.items():
        if method == "embedding":
            first = next(iter(runs.values()))
            vocabulary = _saved(first) // first.number("config", "model", "width")
    found: dict[Place, list[Couple]] = defaultdict(list)
    for (_, method, _), runs in arms.items():
        for seed, run in runs.items():
            point = point_of(run.record, vocabulary) if method != "none" and seed in untied else None
            if point is not None and _saved(run) > 0:
                distinct = distinct_blocks(
                    run.spec, point.depth, run.number("config", "model", "stages") or 1
                )
                found[point, method, distinct, _saved(run)].append((untied[seed], run))
    return found


def _saved(run: RunRecord) -> int:
    return run.number("num_params_untied") - run.number("num_params")


def _measurement(place: Place, couples: Sequence[Couple], sweeps: Mapping[str, set[str]]) -> Measurement:
    point, method, distinct, saved = place
    differences = [tied.number("test", "nll") - untied.number("test", "nll") for untied, tied in couples]

    def middle(*values: float | None) -> float | None:
        numbers = [value for value in values if is_finite(value)]
        return median(numbers) if numbers else None

    return Measurement(
        point,
        method,
        distinct,
        saved,
        untied_nll=fmean(untied.number("test", "nll") for untied, _ in couples),
        difference=fmean(differences),
        n=len(couples),
        sd=stdev(differences) if len(couples) > 1 else None,
        step_ratio=middle(*(tied.cost.number("train_step", "ratio") for _, tied in couples)),
        latency_ratio=middle(*(tied.cost.number("latency", "batch", "ratio") for _, tied in couples)),
        seconds=middle(*(run.number("seconds", "total") for couple in couples for run in couple)),
        sweeps=tuple(sorted({name for couple in couples for run in couple for name in sweeps[run.id]})),
    )
