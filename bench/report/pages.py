"""Whole files of text: the page of a task in three spellings, and the summary."""

from typing import NamedTuple

from bench.analysis.archive import FILE
from bench.analysis.groups import Section
from bench.report import across_tasks
from bench.report.block_pairs import TITLE as PAIRS
from bench.report.block_pairs import csv_rows as pair_rows
from bench.report.block_pairs import pairs_lines, pairs_table
from bench.report.comparison import EFFECTIVE, NOTES, TITLE, comparison, differences, has_effective, headline
from bench.report.comparison import csv_rows as comparison_rows
from bench.report.comparison import summary_csv_rows as summary_rows
from bench.report.costs import cost_notes, cost_tables
from bench.report.factorial import Factorial, effects_table, factorial, reading
from bench.report.factorial import csv_rows as effect_rows
from bench.report.markup import MADE_BY, Table, csv_text, latex, markdown
from bench.report.notes import floors, footer, verdict_rule
from bench.report.scaling import csv_rows as dose_rows
from bench.report.scaling import dose_lines, dose_tables, doses

MARK = f"<!-- {MADE_BY} -->\n"
FACTORIAL = "Tying x dropout x weight decay: does tying replace dropout, or add to it"
CHOICE = (
    "Each tying stands at the dropout and weight decay with the best validation metric of those searched, and at "
    "its own learning rate where the sweep searched one, on validation too. The test metric of that cell is shown "
    "with its 95 % interval, and in brackets its difference to `none`, chosen the same way, paired by seed. "
    "Percentages are of the untied parameters; of cells: how many with a number were searched."
)
DRAWN = "Pictures: `make tables` draws them beside this page and puts them into index.html."


class Block(NamedTuple):
    """A table with a title above it and statements below; no table where there are only statements."""

    title: str
    table: Table | None
    lines: list[str]


def stems(sections: list[Section]) -> dict[str, list[Section]]:
    """File stem -> its sections: the task, and its data too where it has more than one in this sweep."""
    data: dict[str, set[str]] = {}
    for section in sections:
        data.setdefault(section.task, set()).add(section.data)
    found: dict[str, list[Section]] = {}
    for section in sections:
        stem = section.task if len(data[section.task]) == 1 else f"{section.task}_{section.data}"
        found.setdefault(stem.replace("/", "_"), []).append(section)
    return found


def blocks(section: Section, note: str | None) -> list[Block]:
    """What the cells of a section reach, in the order of the page; a block without a table and lines is not there."""
    compared = differences(section)
    found = [
        Block("", comparison(section), footer(section, note)),
        Block(TITLE, compared, list(NOTES) if compared else []),
        _factorial_block(section),
        Block(PAIRS, pairs_table(section), pairs_lines(section)),
    ]
    return [block for block in found if block.table or block.lines]


def _factorial_block(section: Section) -> Block:
    """The fitted effects, or why there are none; nothing where the section is no grid of regularisations."""
    if len({(cell.dropout, cell.weight_decay) for cell in section.cells}) < 2:
        return Block("", None, [])
    fit = factorial(section)
    if isinstance(fit, Factorial):
        return Block(FACTORIAL, effects_table(fit), reading(fit))
    return Block(FACTORIAL, None, [f"{fit[0].upper()}{fit[1:]}."])


def curve_blocks(sections: list[Section]) -> list[Block]:
    """Curves over what the sections of a task vary: k, strength, budget, size of the data or of the network."""
    found = doses(sections)
    tables = dose_tables(found).items()
    return [Block(title, table, dose_lines(dose)) for dose, (title, table) in zip(found, tables, strict=True)]


def cost_blocks(section: Section) -> list[Block]:
    """What each tying costs."""
    tables = [Block(title, table, []) for title, table in cost_tables(section.costs).items()]
    return [*tables, Block("", None, cost_notes(section.costs))]


def task_page(stem: str, sections: list[Section], note: str | None) -> dict[str, str]:
    """File name -> content. Per section a table of what each cell reaches, and tables of what each tying costs."""
    md, tex = [MARK, f"# {stem}\n"], [f"% {MADE_BY}\n"]
    for section in sections:
        several, reached, costs = len(sections) > 1, blocks(section, note), cost_blocks(section)
        md += [f"\n## {section.title}\n"] * several + [_md(block) for block in reached]
        md += [f"\n{'##' + '#' * several} Cost\n", *(_md(block) for block in costs)]
        tex += [_tex(section.title, block) for block in reached]
        tex += [_tex(f"{section.title}, cost", block) for block in costs]
    curves = curve_blocks(sections)
    md += ["\n## Curves\n"] * bool(curves) + [_md(block) for block in curves]
    tex += [_tex(stem, block) for block in curves]
    is_drawn = any(run.is_done for section in sections for run in section.runs)
    md.append(f"\n{DRAWN if is_drawn else 'No picture: no run has finished.'}\n")
    rows = [row for section in sections for row in comparison_rows(section)]
    texts = {f"{stem}.md": "".join(md), f"{stem}.tex": "".join(tex), f"{stem}.csv": csv_text(rows)}
    return texts | _more_csv(stem, sections)


def _more_csv(stem: str, sections: list[Section]) -> dict[str, str]:
    """The effects, the curves and the pairs, where there are any."""
    fits = [(section, fit) for section in sections if isinstance(fit := factorial(section), Factorial)]
    rows = {
        "effects": [row for section, fit in fits for row in effect_rows(section, fit)],
        "curves": dose_rows(doses(sections)),
        "pairs": [row for section in sections for row in pair_rows(section)],
    }
    return {f"{stem}_{name}.csv": csv_text(found) for name, found in rows.items() if found}


def _md(block: Block) -> str:
    parts = [f"{block.title}:\n"] if block.title else []
    parts += [markdown(block.table)] if block.table else []
    parts += ["".join(f"- {line}\n" for line in block.lines)] if block.lines else []
    return "".join(f"\n{part}" for part in parts)


def _tex(where: str, block: Block) -> str:
    title = f"% {where}{': ' if block.title else ''}{block.title}\n"
    table = f"\n{title}{latex(block.table)}" if block.table else ""
    return table + "".join(f"% {line}\n" for line in block.lines)


def summary_page(
    sweep: str, sections: list[Section], note: str | None, lacks: str | None = None
) -> dict[str, str]:
    """File name -> content. What all tasks reach, side by side; `lacks`: what the records do not hold, if anything."""
    md, tex = [MARK, f"# {sweep}\n\n"], [f"% {MADE_BY}\n"]
    if sections:
        table = headline(sections, with_chosen=True)
        md += [markdown(table), f"\n{CHOICE}\n"]
        tex.append(latex(headline(sections)))
    else:
        md.append("The sweep asked for no run.\n")
    md += ["\n", *(f"- {section.title}: {text}.\n" for section in sections if (text := floors(section)))]
    rules = dict.fromkeys(verdict_rule(section, "the tyings of one task") for section in sections)
    md += [f"- {rule}\n" for rule in rules]
    md += [f"- {EFFECTIVE}\n"] if any(has_effective(section.cells) for section in sections) else []
    md += [f"- Note: {' '.join(note.split())}\n"] if note else []
    md += [f"- Records: {lacks}\n"] if lacks else []
    found = across_tasks.scores(sections) if across_tasks.is_across(sections) else []
    if found:
        block = Block(across_tasks.TITLE, across_tasks.across(found), list(across_tasks.NOTES))
        md.append(_md(block))
        tex.append(_tex(sweep, block))
    md += ["\n", *(f"- [{stem}]({stem}.md)\n" for stem in stems(sections))]
    md.append(
        f"- [{FILE}]({FILE}): every run and cost, a line of JSON each: all that these tables are made from\n"
    )
    md.append(
        "- index.html: one page of it all, whose tables sort and whose pictures say their values; "
        f"`make tables ARGS='--sweep {sweep}'` writes it here\n"
    )
    files = {
        "summary.md": "".join(md),
        "summary.tex": "".join(tex),
        "summary.csv": csv_text(summary_rows(sections)),
    }
    return files | ({"across.csv": csv_text(across_tasks.csv_rows(found))} if found else {})
