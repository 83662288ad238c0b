"""Compare runs example by example: the error that other test examples would bring, beside that of other seeds."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from bench.analysis.runs import Metric
from bench.analysis.statistics import SIGNIFICANCE, Paired, bounds, p_value
from bench.runs.store import EXAMPLES, run_folder
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass(frozen=True)
class ExampleScores:
    """What each of N examples of a test split scored, by name, and its cluster: examples of one are not independent."""

    scores: "Mapping[str, ndarray]"
    cluster: "ndarray"


def load(runs: Path, run_id: str) -> ExampleScores | None:
    """Return what a run's examples scored; None where it was not asked for. BadInput for a damaged file."""
    import numpy as np

    path = run_folder(runs, run_id) / EXAMPLES
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            scores = {key: file[key] for key in file.files}
        return ExampleScores(scores, scores.pop("cluster"))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise BadInput(f"{path} is damaged ({error}); delete its run's folder and run it again") from error


def score_of(metric: Metric) -> str | None:
    """Return which score of the examples a metric is compared by; None where there is none."""
    return (
        "correct"
        if metric.name.endswith("accuracy")
        else {"perplexity": "nll", "nll": "nll"}.get(metric.name)
    )


def over_examples(ours: Sequence[ExampleScores], theirs: Sequence[ExampleScores], name: str) -> Paired | None:
    """Return the mean difference ours - theirs with the error of drawing other test examples, the seeds as they are.

    The difference of an example is its mean over the seeds. Clusters are what is drawn: the variance of the mean is
    that of the sums of deviations over clusters (Liang and Zeger 1986; Miller 2024, Adding error bars to evals, sec.
    2.2), with a t interval of one degree of freedom less than there are clusters.

    Args:
        ours: A seed each, as `theirs`: the same seeds in the same order.
        name: Which score.

    Returns:
        n is the number of clusters, sd the standard deviation of n times a cluster's share of the mean. None where the
        sides have no seed, or not the same examples.
    """
    import numpy as np

    sides = [*ours, *theirs]
    if not ours or len(ours) != len(theirs) or any(name not in side.scores for side in sides):
        return None
    cluster = sides[0].cluster
    if any(not np.array_equal(side.cluster, cluster) for side in sides):
        return None
    pairs = zip(ours, theirs, strict=True)
    differences = np.mean([one.scores[name] * 1.0 - other.scores[name] for one, other in pairs], axis=0)
    mean = float(differences.mean())
    _, cluster_of = np.unique(cluster, return_inverse=True)
    sums = np.bincount(cluster_of, differences - mean)
    n = len(sums)
    known = n > 1 and math.isfinite(mean)
    sd = n * math.sqrt(float(sums @ sums) / (n - 1)) / len(differences) if known else None
    return Paired(mean, sd, *bounds(mean, sd, n, 1 - SIGNIFICANCE), p_value(mean, sd, n), n)
