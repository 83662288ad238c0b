"""One contrast has one p in every file: the committed sweeps, table against factorial."""

import functools
from pathlib import Path

import pytest

from bench.analysis import archive
from bench.analysis.comparison import vs_untied
from bench.analysis.factorial import Factorial, factorial, grid
from bench.analysis.groups import sections
from bench.analysis.runs import rows
from bench.report.comparison import csv_rows
from bench.report.factorial import csv_rows as effect_rows

RESULTS = Path(__file__).parents[2] / "results"
OPPOSITE = {"better": "worse", "worse": "better"}


@functools.cache
def fitted(name):
    """The sections of a committed sweep that have a factorial, with it."""
    of_sweep = sections(rows(archive.read(archive.path_of(RESULTS, name))))
    fits = [(section, factorial(section)) for section in of_sweep]
    return [(section, fit) for section, fit in fits if isinstance(fit, Factorial)]


every_sweep = pytest.mark.parametrize("name", archive.archived_names(RESULTS))


@every_sweep
def test_a_tying_has_the_same_p_in_the_differences_and_in_the_factorial(name):
    for section, fit in fitted(name):
        reference = grid(section).reference
        at_reference = [
            row for row in vs_untied(section) if (row.cell.dropout, row.cell.weight_decay) == reference[1:]
        ]
        differences = {row.cell.tying: row for row in at_reference if row.p is not None}
        mains = [effect for effect in fit.effects if effect.parts == (effect.tying,)]
        same = [effect for effect in mains if effect.tying in differences]
        assert same
        for effect in same:
            row = differences[effect.tying]
            assert effect.n == row.n_pairs and effect.p == pytest.approx(row.p, rel=1e-8)
            scale = 100 if section.metric.is_share else 1
            assert effect.estimate == pytest.approx(scale * row.difference.mean, rel=1e-8)
            # The words are those of the verdict.
            assert effect.reading.startswith(row.verdict.word) or effect.lost


@every_sweep
def test_the_files_of_both_tables_hold_that_p(name):
    for section, fit in fitted(name):
        tables = {(row["tying"], row["dropout"], row["weight_decay"]): row["p"] for row in csv_rows(section)}
        _, dropout, decay = grid(section).reference
        effects = {row["term"]: row["p"] for row in effect_rows(section, fit)}
        shared = [tying for tying in effects if tables.get((tying, dropout, decay)) is not None]
        assert shared
        for tying in shared:
            assert effects[tying] == pytest.approx(tables[tying, dropout, decay], rel=1e-8)


@every_sweep
def test_no_reading_claims_what_the_correction_takes_back(name):
    for _, fit in fitted(name):
        for effect in fit.effects:
            if effect.tying is None and effect.reading in OPPOSITE:
                assert effect.p_holm < 0.05


def test_there_are_factorials_to_test():
    """Those that the picture of interactions is drawn of, each, and six in all: two of `trained_out_scans`."""
    names = archive.archived_names(RESULTS)
    shown = [name for name in names if archive.read(archive.path_of(RESULTS, name)).picture == "interactions"]
    assert shown and all(fitted(name) for name in shown)
    assert len([section for name in names for section, _ in fitted(name)]) >= 6
