"""Made-up measurements from a law that is known: what fits and pages of the map are tested on."""

import math
from dataclasses import replace

import numpy as np

from bench.analysis.points import Measurement, Point, group_sizes

PHI = {("gru", "embedding"): 0.9, ("transformer", "embedding"): 0.6} | {
    ("gru", "cross_layer"): 0.3,
    ("transformer", "cross_layer"): 0.6,
}
REPEAT, RATIO = 6.0, {"embedding": 2.0, "cross_layer": 1.2}
ALPHA, BETA, FLOOR = 0.3, 0.35, {"pydocs": 1.2, "wikitext2": 1.5}
SHARES = {"recurrent": 1 / 2, "input": 1 / 2, "attention": 1 / 3, "feed_forward": 2 / 3}
"""Of the parameters of a block, by role."""
PLACE = 0.02
"""How far the losses of a place lie from the law, both sides alike."""
A, B = {"gru": 1.6, "transformer": 1.9}, 1.7


def loss(point, parameters, repeat):
    unique = point.tokens * (1 + repeat * (1 - math.exp(-(point.passes - 1) / repeat)))
    floor = FLOOR[point.corpus] * (point.vocabulary / 4000) ** 0.15
    return floor + A[point.network] * (parameters / 1e5) ** -ALPHA + B * (unique / 1e5) ** -BETA


def point(generator, **given):
    """A place within the ranges of the designed experiment."""

    def between(low, high):
        return low * (high / low) ** generator.random()

    width, depth = int(16 * round(between(32, 128) / 16)), int(generator.integers(2, 9))
    vocabulary = int(generator.choice([512, 1024, 2048, 4096, 8192]))
    values = {
        "network": str(generator.choice(["gru", "transformer"])),
        "corpus": str(generator.choice(["pydocs", "wikitext2"])),
        "vocabulary": vocabulary,
        "width": width,
        "depth": depth,
        "tokens": round(between(20_000, 200_000)),
        "passes": round(between(1, 16), 2),
        "dropout": 0.0,
        "weight_decay": 0.0,
    }
    values |= given
    vocabulary, width, depth = values["vocabulary"], values["width"], values["depth"]
    block = 6 * width**2 if values["network"] == "gru" else 12 * width**2
    return Point(**values, parameters=2 * vocabulary * width + depth * block)


def measurement(place, method, generator=None, noise=0.01, phi=None, n=1):
    """What the law says of a tying at a place, with the noise of one pair of seeds."""
    block = (place.parameters - 2 * place.vocabulary * place.width) // place.depth
    if method == "embedding":
        distinct, uses, each = place.depth, (2,), place.vocabulary * place.width
    else:
        distinct, each = 1, round(block * SHARES.get(method, 1))
        uses = group_sizes(method, distinct, place.depth)
    saved = (sum(uses) - len(uses)) * each
    phi = PHI[place.network, method] if phi is None else phi
    size = place.parameters - sum(uses) * each + sum(count**phi for count in uses) * each
    untied, tied = (
        loss(place, place.parameters, REPEAT),
        loss(place, size, REPEAT * RATIO.get(method, RATIO["cross_layer"])),
    )
    spread = 0.0
    if generator is not None:
        spread = noise * generator.normal()
        shift = np.exp(PLACE * generator.normal())  # what a place has that no law knows: both sides have it
        untied, tied = untied * shift, tied * shift
    return Measurement(
        place, method, distinct, saved, untied, tied - untied + spread, n, noise, None, None, 20.0, ("made",)
    )


def measurements(count, seed=0, noise=0.01, methods=("embedding", "cross_layer"), **given):
    """Both methods at `count` places, sorted as those that are read from records."""
    generator = np.random.default_rng(seed)
    places = [point(generator, **given) for _ in range(count)]
    return [measurement(place, method, generator, noise) for method in methods for place in sorted(places)]


def by_passes(count, difference, noise, seed=0):
    """Measurements of a tied embedding whose difference in nll hangs on the passes alone, but for noise."""
    generator, found = np.random.default_rng(seed), []
    for place in sorted(point(generator) for _ in range(count)):
        one = measurement(place, "embedding", generator)
        found.append(replace(one, difference=difference(place.passes) + noise * generator.normal()))
    return found
