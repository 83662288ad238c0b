"""Build what a sweep's report says, once, and spell it as files of text: its page, and the tables of each task."""

import json
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from yaml import safe_load

from bench.analysis import archive
from bench.analysis.aggregate import Scores, is_across, scores
from bench.analysis.archive import FILE, Recorded
from bench.analysis.factorial import Factorial, factorial
from bench.analysis.groups import Section, grouped, sections
from bench.analysis.runs import rows
from bench.analysis.scaling import Curve, curves
from bench.report import across_tasks, block_pairs, comparison, healing, scaling
from bench.report import answer as answers
from bench.report import factorial as effects
from bench.report.costs import cost_notes, cost_tables
from bench.report.markup import MADE_BY, Table, csv_text, latex, markdown
from bench.report.notes import budgets, choice, floors, footer, note_line, training, verdict_rule
from bench.runs import machine
from bench.tying.errors import BadInput

MARK = f"<!-- {MADE_BY} -->\n"
TEX_MARK = f"% {MADE_BY}\n"
SUMMARY = "summary.md"
SETTINGS = "settings.md"
FACTORIAL = "Tying x dropout x weight decay: does tying replace dropout, or add to it"
CHOICE = (
    "Each method, and `none`, stands at the dropout and weight decay with the best validation metric of those "
    "searched, and at its own learning rate where the sweep searched one, on validation too. Shown is the change of "
    "its test metric to that of `none`, paired by seed, with its 95 % interval: of a share in points, of a perplexity "
    "in percent, computed on its logarithm. What each method reaches elsewhere is in the tables of every setting."
)
MANY = 8
"""Of more sections than these the summary counts verdicts, and every setting has a page of its own."""
LEDGER = "claims.json"
"""What `make claims` writes beside the sweeps."""
LONGEST = 400
"""Characters of the reason of a verdict; the ledger has all of it."""
DRAWN = "Pictures: `make tables` draws them beside this page and puts them into index.html."


class Judged(NamedTuple):
    """A claim that a sweep is the test of. why: the conditions of the verdict, or what each part shows."""

    id: str
    statement: str
    source: str
    verdict: str
    why: str

    @property
    def short(self) -> str:
        return f"Claim {self.id}: {self.verdict}."

    @property
    def line(self) -> str:
        """Return the claim, its verdict and why, and its source, as one line of a page."""
        why = f" ({self.why})" if self.why else ""
        return (
            f'[{self.id}](../claims.md#{self.id.lower()}): "{self.statement}" Verdict: {self.verdict}{why}. '
            f"Source: {self.source}."
        )


class Block(NamedTuple):
    """A table with a title above it and statements below; no table where there are only statements."""

    title: str
    table: Table | None
    lines: list[str]


class SectionReport(NamedTuple):
    """What the cells of a section reach, and what each tying costs, in the order of the page."""

    section: Section
    reached: list[Block]
    costs: list[Block]


class TaskReport(NamedTuple):
    """The sections of a page, and the curves over what they vary; `stem` begins the names of its files."""

    stem: str
    parts: list[SectionReport]
    curves: list[Curve]
    curve_blocks: list[Block]

    @property
    def sections(self) -> list[Section]:
        return [part.section for part in self.parts]

    @property
    def is_drawn(self) -> bool:
        return any(run.is_done for section in self.sections for run in section.runs)


@dataclass(frozen=True)
class SweepReport:
    """All that a sweep's files say; each block of it is built once.

    question: what the sweep answers, the title of its pages. picture: that with which each task on its page begins.
    lacks: what the records do not hold, as a sentence.
    scores: of each tying over all tasks; empty for one task. claims: those that it is the test of, as they are judged.
    """

    name: str
    note: str | None
    lacks: str | None
    sections: list[Section]
    tasks: list[TaskReport]
    scores: list[Scores]
    question: str | None = None
    claims: tuple[Judged, ...] = ()
    picture: str | None = None

    @property
    def title(self) -> str:
        return self.question or self.name

    @cached_property
    def answers(self) -> list[answers.Answer]:
        return [answers.answer(section) for section in self.sections]

    @property
    def is_crowded(self) -> bool:
        """Whether the sections are too many to stand in the summary one by one."""
        return len(self.sections) > MANY

    @cached_property
    def over_settings(self) -> list[Block]:
        """A table for each task of a crowded sweep, over all its settings."""
        if not self.is_crowded:
            return []
        title = f"{{}} over its {{}} settings, each in {SETTINGS}"
        return [
            Block(title.format(task.stem, len(task.parts)), answers.over_settings(task.sections), [])
            for task in self.tasks
        ]

    @cached_property
    def verdicts_line(self) -> str:
        return answers.line(self.sections)

    @property
    def answer_line(self) -> str:
        """What the claims are judged and what was measured; the line that stands for the sweep in an index."""
        return " ".join(filter(None, (*(claim.short for claim in self.claims), self.verdicts_line)))

    @cached_property
    def across(self) -> list[Block]:
        table = across_tasks.across(self.scores)
        return [Block(across_tasks.TITLE, table, list(across_tasks.NOTES))] if self.scores else []


def sweep_report(
    name: str,
    sections: list[Section],
    note: str | None = None,
    lacks: str | None = None,
    question: str | None = None,
    claims: tuple[Judged, ...] = (),
    picture: str | None = None,
) -> SweepReport:
    """Build every table of a sweep and the statements below it."""
    tasks = [_task_report(stem, members, note) for stem, members in stems(sections).items()]
    over_tasks = scores(sections) if is_across(sections) else []
    return SweepReport(name, note, lacks, sections, tasks, over_tasks, question, claims, picture)


def recorded_report(sweep: Recorded, results: Path) -> SweepReport:
    """Build the report of a sweep as it is recorded, with what its records lack and which of them nobody can trace.

    results: the folder whose ledger of claims, if it has one, is quoted.
    """
    return sweep_report(
        sweep.name,
        sections(rows(sweep)),
        sweep.note,
        " ".join(filter(None, [sweep.lacks, archive.sentence(sweep)])) or None,
        claims=judged(results, sweep.name),
        **said_of(sweep),
    )


def said_of(sweep: Recorded) -> dict[str, str | None]:
    """Return the question and the picture of a sweep: as recorded, else as its preset of today has them."""
    preset = machine.CONF / "sweep" / f"{sweep.name}.yaml"
    declared = safe_load(preset.read_text())["sweep"] if preset.is_file() else {}
    return {key: getattr(sweep, key) or declared.get(key) for key in ("question", "picture")}


def judged(results: Path, sweep: str) -> tuple[Judged, ...]:
    """Return what the ledger in `results` says of the claims that name this sweep; () where there is no ledger.

    Raises:
        BadInput: For a ledger that is torn or of another form.
    """
    path = results / LEDGER
    if not path.exists():
        return ()
    try:
        claims = json.loads(path.read_text())
        return tuple(_judged(claim) for claim in claims if sweep in claim.get("sweeps", ()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is not a ledger of claims: make it anew with `make claims`") from error


def _judged(claim: dict[str, Any]) -> Judged:
    hint = " (too few seeds)" if claim["too_few_seeds"] else ""
    same = f"{claim['verdict']}: "  # said once
    parts = (
        f"{part['name']}: {part['verdict'].removeprefix(same)}" for part in claim["parts"] if part["verdict"]
    )
    why = textwrap.shorten(
        claim["detail"] or "; ".join(parts), LONGEST, placeholder=" ... and more in the ledger"
    )
    return Judged(claim["id"], claim["statement"], claim["source"], f"{claim['verdict']}{hint}", why)


def stems(sections: list[Section]) -> dict[str, list[Section]]:
    """Return file stem -> its sections: the task, and its data too where it has more than one in this sweep."""
    data: dict[str, set[str]] = defaultdict(set)
    for section in sections:
        data[section.task].add(section.data)

    def stem(section: Section) -> str:
        name = section.task if len(data[section.task]) == 1 else f"{section.task}_{section.data}"
        return name.replace("/", "_")

    return grouped(sections, stem)


def _task_report(stem: str, sections: list[Section], note: str | None) -> TaskReport:
    over_axes = curves(sections)
    blocks = [
        Block(scaling.curve_title(curve), scaling.curve_table(curve), scaling.curve_lines(curve))
        for curve in over_axes
    ]
    return TaskReport(stem, [_section_report(section, note) for section in sections], over_axes, blocks)


def _section_report(section: Section, note: str | None) -> SectionReport:
    reached = [
        Block("", None, budgets(section)),
        Block("", comparison.comparison(section), footer(section, note)),
        _noted(comparison.TITLE, comparison.differences(section), comparison.NOTES),
        _noted(comparison.CONTROLS_TITLE, comparison.controls(section), comparison.CONTROLS_NOTES),
        _factorial_block(section),
        _noted(healing.TITLE, healing.healing_table(section), healing.NOTES),
        Block(block_pairs.TITLE, block_pairs.pairs_table(section), block_pairs.pairs_lines(section)),
    ]
    costs = [Block(title, table, []) for title, table in cost_tables(section.costs).items()]
    costs.append(Block("", None, cost_notes(section.costs)))
    return SectionReport(section, [block for block in reached if block.table or block.lines], costs)


def _noted(title: str, table: Table | None, notes: Sequence[str]) -> Block:
    return Block(title, table, list(notes) if table else [])


def _factorial_block(section: Section) -> Block:
    """Return the effects, or why there are none; nothing where the section is no grid of regularisations."""
    if len({(cell.dropout, cell.weight_decay) for cell in section.cells}) < 2:
        return Block("", None, [])
    fit = factorial(section)
    if isinstance(fit, Factorial):
        return Block(FACTORIAL, effects.effects_table(fit), effects.factorial_lines(fit))
    return Block(FACTORIAL, None, [f"{fit[0].upper()}{fit[1:]}."])


def texts(report: SweepReport) -> dict[str, str]:
    """Return file name -> content of the summary, and of the csv and tex of each task.

    The summary ends with every setting; of a crowded sweep they are a file of their own.
    """
    files = _summary(report)
    for task in report.tasks:
        files |= _task_files(task)
    settings = (
        f"# Every setting of {report.name}, with tests and costs\n{''.join(map(_settings, report.tasks))}"
    )
    if report.is_crowded:
        files[SETTINGS] = f"{MARK}{settings}"
    elif report.tasks:
        files[SUMMARY] += f"\n{settings}"
    return files


def _settings(task: TaskReport) -> str:
    """Return every setting of one task, with tests and costs."""
    md = [f"\n## {task.stem}\n"]
    several = len(task.parts) > 1
    for section, reached, costs in task.parts:
        md += [f"\n### {section.title}\n"] * several + [_md(block) for block in reached]
        md += [f"\n{'###' + '#' * several} Cost\n", *(_md(block) for block in costs)]
    md += ["\n### Curves\n"] * bool(task.curves) + [_md(block) for block in task.curve_blocks]
    return "".join([*md, f"\n{DRAWN if task.is_drawn else 'No picture: no run has finished.'}\n"])


def _task_files(task: TaskReport) -> dict[str, str]:
    tex = [TEX_MARK]
    for section, reached, costs in task.parts:
        tex += [_tex(section.title, block) for block in reached]
        tex += [_tex(f"{section.title}, cost", block) for block in costs]
    tex += [_tex(task.stem, block) for block in task.curve_blocks]
    fits = [(section, fit) for section in task.sections if isinstance(fit := factorial(section), Factorial)]
    rows = {
        "": [row for section in task.sections for row in comparison.csv_rows(section)],
        "_effects": [row for section, fit in fits for row in effects.csv_rows(section, fit)],
        "_curves": scaling.csv_rows(task.curves),
        "_pairs": [row for section in task.sections for row in block_pairs.csv_rows(section)],
    }
    tables = {f"{task.stem}{name}.csv": csv_text(lines) for name, lines in rows.items() if lines or not name}
    return {f"{task.stem}.tex": "".join(tex), **tables}


def _summary(report: SweepReport) -> dict[str, str]:
    """Return the files of the summary: what all tasks reach, side by side."""
    sections = report.sections
    md, tex = [MARK, f"# {report.title}\n"], [TEX_MARK]
    md += [f"\n{report.answer_line}\n"] if report.answer_line else []
    md += [f"\n{claim.line}\n" for claim in report.claims]
    md += map(_md, report.over_settings)
    described = [] if report.is_crowded else sections
    for section, answer in zip(sections, report.answers, strict=True):
        tex.append(_tex(section.title, Block("", answer.table, [answer.reference, answer.below])))
        if report.is_crowded:
            continue
        above = [answer.reference, *budgets(section)]
        below = [f"\n{answer.below}\n"] if answer.below else []
        md += [f"\n## {answer.title}\n", *(f"\n{line}\n" for line in above)]
        md += [f"\n{markdown(answer.table)}"] if answer.table else []
        md += below
    md.append("\n## How to read it\n" if sections else "\nThe sweep asked for no run.\n")
    lines = [CHOICE] if sections else []
    lines += [f"{s.title}: {text}" for s in described if (text := _about(s))]
    lines += verdict_rule(sections) if sections else []
    if any(comparison.has_effective(section.cells) for section in sections):
        lines.append(comparison.EFFECTIVE)
    lines += [note_line(report.note)] if report.note else []
    lines += [f"Records: {report.lacks}"] if report.lacks else []
    md += ["\n", *(f"- {line}\n" for line in lines), *map(_md, report.across)]
    tex += [_tex(report.name, block) for block in report.across]
    md.append("\n## Where the rest is\n")
    where = SETTINGS if report.is_crowded else ""
    links = [f"[Every setting of {task.stem}]({where}#{task.stem.lower()})" for task in report.tasks]
    links += [
        f"[{FILE}]({FILE}): every run and cost, a line of JSON each: all that these tables are made from",
        "index.html: one page of it all, whose tables sort and whose pictures say their values; "
        f"`make tables ARGS='--sweep {report.name}'` writes it here",
    ]
    md += ["\n", *(f"- {link}\n" for link in links)]
    summary = csv_text(comparison.summary_csv_rows(sections))
    files = {SUMMARY: "".join(md), "summary.tex": "".join(tex), "summary.csv": summary}
    return files | ({"across.csv": csv_text(across_tasks.csv_rows(report.scores))} if report.scores else {})


def _about(section: Section) -> str:
    """Return what the summary says of one section below its table."""
    sentences = {
        "": floors(section),
        "Trained out: ": training(section),
        "Settings chosen on validation: ": choice(section),
    }
    return " ".join(f"{name}{text}." for name, text in sentences.items() if text)


def _md(block: Block) -> str:
    parts = [f"{block.title}:\n"] if block.title else []
    parts += [markdown(block.table)] if block.table else []
    parts += ["".join(f"- {line}\n" for line in block.lines)] if block.lines else []
    return "".join(f"\n{part}" for part in parts)


def _tex(where: str, block: Block) -> str:
    title = f"% {where}{': ' if block.title else ''}{block.title}\n"
    table = f"\n{title}{latex(block.table)}" if block.table else ""
    return table + "".join(f"% {line}\n" for line in block.lines)
