"""Curves of the metric over every dose that a sweep varies: k, groups, strength, budget, data size, model size."""

from bench.report.cells import Section
from bench.report.dose import Dose
from bench.report.dose_across import AXES, across
from bench.report.dose_inside import AXIS, inside


def doses(sections: list[Section]) -> list[Dose]:
    """The curves that the records have two points for, [] where there are none; holes are left out of their lines.

    All at the least weight decay; those over k, groups and strength at the least dropout too, the others with a line
    for each dropout. Controls are on no curve. A difference is paired by seed.
    """
    found = [dose for section in sections for name in AXIS for dose in inside(section, name)]
    return found + [dose for axis in AXES for dose in across(sections, axis)]
