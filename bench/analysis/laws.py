"""Fit the law of shared parameters and repeated data to measured points: one curve of loss, with its exponents.

    L = E (V / 4000)^s + A N_eff^-alpha + B D_eff^-beta
    N_eff = N_once + sum of r^phi N_r         (the iso-depth law, arXiv 2604.21106: r uses of a tensor)
    D_eff = U + U R (1 - exp(-(passes - 1) / R))   (Muennighoff et al. 2023, sec. 3: U different tokens)

The embedding is a tensor with two uses once it is tied, so that it has its phi as blocks along depth have theirs.
phi = 1: a shared tensor is worth as many of its own as it has uses. phi = 0: it is worth one. Below 0: less than one.
E belongs to a corpus, A to a kind of network, phi to a kind of network and what is shared: the embedding, along
depth all weights of a block, or those of one role alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

from bench.analysis.points import ALONE, Measurement, group_sizes
from bench.analysis.statistics import Interval

if TYPE_CHECKING:
    from numpy import ndarray

LEAST_GROUPS = 4
"""No law is fitted to fewer places than this, where places that differ in regularisation alone are one."""
STARTS, RESAMPLES = 12, 200
WORDS, PARAMETERS, TOKENS = 4_000, 1e5, 1e5
"""The fit divides the vocabulary, N and D by these."""
PRIORS = {
    "alpha": (-1.2, 0.7),
    "beta": (-1.2, 0.7),
    "repeat": (2.7, 1.5),
    "rho": (0.0, 1.0),
    "phi": (0.5, 1.0),
    "slope": (0.1, 0.3),
}
"""Mean and standard deviation of what is believed of a parameter before any point (of its logarithm, but for phi, slope
and rho): so weak that some dozen points outweigh it, and enough that a law of few points has finite exponents."""
HUBER = 1.345
"""A residual of more standard deviations than this counts linearly, a smaller one squared."""
PRECISION = {"max_nfev": 100, "ftol": 1e-6, "xtol": 1e-6, "gtol": 1e-6}
"""The search ends at these, far finer than any interval."""
SCALES = (0.1, 0.02)
"""The first guess of the spread of log loss around the law, and of the log of tied over untied loss."""


@dataclass(frozen=True)
class Design:
    """The measurements as arrays, a row for each.

    network, corpus: index into those of the law, one more for others. pair, kind: index of network and role, and of
    the kind of role, as `Law._phis` and the law's rho have them. sizes: [n, groups], uses of each shared tensor; 0
    fills up. once, shared: parameters beside these tensors, and of each of them.
    """

    network: "ndarray"
    corpus: "ndarray"
    pair: "ndarray"
    kind: "ndarray"
    words: "ndarray"
    untied: "ndarray"
    once: "ndarray"
    shared: "ndarray"
    sizes: "ndarray"
    unique: "ndarray"
    again: "ndarray"
    loss: "ndarray"
    contrast: "ndarray"


@dataclass(frozen=True)
class Law:
    """A fitted law. `theta`: its parameters, in the order of `names`; fixed: phi, where it was not fitted.

    intervals: of the parameters that a reader asks for, at 95 %, by bootstrap over places; empty without a bootstrap.
    points, places: how many measurements, and how many places that differ in more than regularisation.
    told_by: phi -> how many of these places tell of it.
    """

    networks: tuple[str, ...]
    corpora: tuple[str, ...]
    roles: tuple[tuple[str, str], ...]
    theta: tuple[float, ...]
    fixed: float | None
    repeats: bool
    scales: tuple[float, float]
    points: int
    places: int
    told_by: dict[str, int]
    intervals: dict[str, Interval]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (
            "alpha",
            "beta",
            "slope",
            "repeat",
            *(f"E {corpus}" for corpus in self.corpora),
            "B",
            *(f"A {network}" for network in self.networks),
            *(phi_of(network, role) for network, role in self.roles),
            *(f"rho {kind}" for kind in self.kinds),
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted({kind_of(role) for _, role in self.roles}))

    def tells(self, phi: str) -> bool:
        """Whether enough places tell of this phi, so that it is more than what was believed before any point."""
        return self.told_by[phi] >= LEAST_GROUPS

    def differences(self, measured: Sequence[Measurement]) -> "ndarray":
        """Predict tied - untied nll of measurements, whose own numbers are not read.

        A network or a corpus that the law has not seen takes the mean of those that it has.
        """
        import numpy as np

        tied, untied = self._losses(np.asarray(self.theta), _design(measured, self))
        return tied - untied

    def _losses(self, theta: "ndarray", design: Design) -> tuple["ndarray", "ndarray"]:
        import numpy as np

        start, n_corpora, n_networks = 4, len(self.corpora), len(self.networks)
        alpha, beta, repeat = np.exp(np.clip(theta[[0, 1, 3]], -6, 6))
        corpora = np.append(theta[start : start + n_corpora], theta[start : start + n_corpora].mean())
        b = theta[start + n_corpora]
        start += n_corpora + 1
        networks = np.append(theta[start : start + n_networks], theta[start : start + n_networks].mean())
        start += n_networks
        end = start + len(self.roles)
        phi = self._phis(theta[start:end])[design.pair][:, None]
        rho = np.append(theta[end:], 0.0)[design.kind]
        # A size of 0 fills up the row: no tensor.
        worth = np.where(design.sizes > 0, np.maximum(design.sizes, 1) ** phi, 0).sum(axis=1)

        def term(exponent: "ndarray") -> "ndarray":
            return np.exp(np.clip(exponent, -30, 30))

        floor = term(corpora[design.corpus] + theta[2] * design.words)

        def loss(n: "ndarray", repeats: "ndarray") -> "ndarray":
            seen = design.unique * (1 + repeats * -np.expm1(-design.again / repeats))
            of_size = term(networks[design.network] - alpha * np.log(n / PARAMETERS))
            return floor + of_size + term(b - beta * np.log(seen / TOKENS))

        return loss(design.once + worth * design.shared, repeat * np.exp(np.clip(rho, -5, 5))), loss(
            design.untied, np.full(len(design.untied), repeat)
        )

    def _phis(self, values: "ndarray") -> "ndarray":
        """Return the phi of each of `roles`, then of each of ROLES the mean, or that of all where the law lacks it."""
        import numpy as np

        if self.fixed is not None:
            return np.full(len(values) + len(ROLES), self.fixed)
        means = []
        for role in ROLES:
            ours = [value for value, (_, its) in zip(values, self.roles, strict=True) if its == role]
            means.append(sum(ours or values) / len(ours or values))
        return np.clip([*values, *means], -8, 8)

    def shown(self, theta: Sequence[float]) -> dict[str, float]:
        """Return the parameters that a reader asks for, in their own units."""
        import numpy as np

        values = dict(zip(self.names, theta, strict=True))
        shown = {"alpha": float(np.exp(values["alpha"])), "beta": float(np.exp(values["beta"]))}
        if self.fixed is None:
            shown |= {name: values[name] for name in self.names if name.startswith("phi ")}
            shown |= {
                f"{one} - {other}": values[one] - values[other]
                for one, other in combinations((phi_of(*pair) for pair in self.roles if pair[1] in ALONE), 2)
                if one.split(", ")[0] == other.split(", ")[0]
            }
        if self.repeats:
            shown["R untied"] = float(np.exp(values["repeat"]))
            shown |= {
                f"R tied / R untied, {name.removeprefix('rho ')}": float(np.exp(values[name]))
                for name in self.names
                if name.startswith("rho ")
            }
        return shown


ROLES = ("depth", "embedding", *ALONE)


def role_of(method: str) -> str:
    return method if method in ROLES else "depth"


def kind_of(role: str) -> str:
    """Return the kind of a role, which has one rho: too few points share one role alone to tell rho by role."""
    return "embedding" if role == "embedding" else "depth"


def phi_of(network: str, role: str) -> str:
    return f"phi {network}, {role}"


def fit(
    measured: Sequence[Measurement],
    phi: float | None = None,
    resamples: int = RESAMPLES,
    start: Law | None = None,
) -> Law | None:
    """Fit the law to measurements of one kind of loss (all of text, or all of images) by robust least squares.

    Two residuals of each measurement count: of the log of the untied loss, and of the log of tied over untied loss,
    which spreads much less as both share seed and place. Each is divided by its own spread, found from a first fit.

    Args:
        phi: a number to hold phi at; repetition is then worth the same tied and untied.
        resamples: how many the bootstrap makes, which draws places with replacement; 0: no intervals.
        start: a law of nearly the same points, from whose parameters alone the search begins.

    Returns:
        None for fewer than LEAST_GROUPS places.
    """
    import numpy as np

    role_places = {(row.point.network, role_of(row.method), row.point.group) for row in measured}
    places = sorted({place for _, _, place in role_places})
    if len(places) < LEAST_GROUPS:
        return None
    blank = Law(
        networks=tuple(sorted({row.point.network for row in measured})),
        corpora=tuple(sorted({row.point.corpus for row in measured})),
        roles=tuple(sorted({(network, role) for network, role, _ in role_places})),
        theta=(),
        fixed=phi,
        repeats=phi is None and any(row.point.passes > 1 for row in measured),
        scales=SCALES,
        points=len(measured),
        places=len(places),
        told_by=Counter(phi_of(network, role) for network, role, _ in role_places),
        intervals={},
    )
    design, generator = _design(measured, blank), np.random.default_rng(0)
    weights = np.ones(len(measured))
    centre, spread = _beliefs(blank, design)
    starts = [centre, *(centre + 0.7 * spread * generator.normal(size=(STARTS - 1, len(centre))))]
    if start is not None:
        known = dict(zip(start.names, start.theta, strict=True))
        starts = [np.array([known.get(name, value) for name, value in zip(blank.names, centre, strict=True)])]
    theta, _ = min((_solve(blank, design, weights, start) for start in starts), key=lambda solved: solved[1])
    law = replace(blank, theta=tuple(theta), scales=_scales(blank, theta, design))
    theta, _ = _solve(law, design, weights, theta)
    law = replace(law, theta=tuple(map(float, theta)))
    if not resamples:
        return law
    place = np.array([places.index(row.point.group) for row in measured])
    drawn = generator.multinomial(len(places), np.full(len(places), 1 / len(places)), size=resamples)
    solved = [_solve(law, design, np.sqrt(counts[place]), theta)[0] for counts in drawn]
    shown, resampled = law.shown(theta), [law.shown(values) for values in solved]
    intervals = {
        name: Interval(
            value, *map(float, np.quantile([draw[name] for draw in resampled], [0.025, 0.975])), len(places)
        )
        for name, value in shown.items()
    }
    return replace(law, intervals=intervals)


def _design(measured: Sequence[Measurement], law: Law) -> Design:
    """Turn measurements into arrays; networks and corpora that the law does not know come after those it knows."""
    import numpy as np

    def index(values: Sequence[str], known: Sequence[str]) -> "ndarray":
        return np.array([known.index(value) if value in known else len(known) for value in values], dtype=int)

    def pair(network: str, role: str) -> int:
        known = (network, role) in law.roles
        return law.roles.index((network, role)) if known else len(law.roles) + ROLES.index(role)

    sizes, shared, once = [], [], []
    for row in measured:
        depth = row.point.depth
        uses = (2,) if row.method == "embedding" else group_sizes(row.method, row.distinct, depth)
        per_tensor = row.saved / (sum(uses) - len(uses)) if sum(uses) > len(uses) else 0.0
        sizes.append(uses)
        shared.append(per_tensor)
        once.append(row.point.parameters - sum(uses) * per_tensor)
    filled = np.zeros((len(measured), max(map(len, sizes), default=1)))
    for line, uses in zip(filled, sizes, strict=True):
        line[: len(uses)] = uses
    points, untied = [row.point for row in measured], np.array([row.untied_nll for row in measured], float)
    tied = untied + np.array([row.difference for row in measured], float)
    return Design(
        network=index([point.network for point in points], law.networks),
        corpus=index([point.corpus for point in points], law.corpora),
        pair=np.array([pair(row.point.network, role_of(row.method)) for row in measured], dtype=int),
        kind=index([kind_of(role_of(row.method)) for row in measured], law.kinds),
        words=np.log(np.array([(point.vocabulary or WORDS) / WORDS for point in points], float)),
        untied=np.array([point.parameters for point in points], float),
        once=np.maximum(np.array(once, float), 1.0),
        shared=np.array(shared, float),
        sizes=filled,
        unique=np.array([point.tokens for point in points], float),
        again=np.array([point.passes - 1 for point in points], float),
        loss=np.log(np.maximum(untied, 1e-6)),
        contrast=np.log(np.maximum(tied, 1e-6) / np.maximum(untied, 1e-6)),
    )


def _beliefs(law: Law, design: Design) -> tuple["ndarray", "ndarray"]:
    """Return the mean and the standard deviation of each parameter before any point; a third of the loss a term."""
    import numpy as np

    third = float(np.median(design.loss)) - np.log(3)
    known = [PRIORS.get(name.split()[0]) for name in law.names]
    return (
        np.array([third if prior is None else prior[0] for prior in known]),
        np.array([1.5 if prior is None else prior[1] for prior in known]),
    )


def _residuals(law: Law, theta: "ndarray", design: Design) -> tuple["ndarray", "ndarray"]:
    import numpy as np

    tied, untied = law._losses(theta, design)
    return design.loss - np.log(untied), design.contrast - np.log(tied / untied)


def _scales(law: Law, theta: "ndarray", design: Design) -> tuple[float, float]:
    """Return the spread of either residual, by the median of their sizes."""
    import numpy as np

    sizes = [1.4826 * float(np.median(np.abs(values))) for values in _residuals(law, theta, design)]
    return max(sizes[0], 0.005), max(sizes[1], 0.002)


def _solve(law: Law, design: Design, weights: "ndarray", start: "ndarray") -> tuple["ndarray", float]:
    """Return the parameters of least robust cost, and that cost."""
    import numpy as np
    from scipy.optimize import least_squares

    centre, spread = _beliefs(law, design)
    held = np.array([name.split()[0] == "rho" and not law.repeats for name in law.names])

    def residuals(free: "ndarray") -> "ndarray":
        theta = np.where(held, 0.0, free)
        absolute, contrast = _residuals(law, theta, design)
        return np.concatenate(
            [weights * absolute / law.scales[0], weights * contrast / law.scales[1], (free - centre) / spread]
        )

    solution = least_squares(residuals, np.asarray(start, float), loss="huber", f_scale=HUBER, **PRECISION)
    return np.where(held, 0.0, solution.x), float(solution.cost)
