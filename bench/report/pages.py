"""Whole files of text: the page of a task in three spellings, the summary, the flat records."""

from typing import Any

from bench.report.cells import Section
from bench.report.comparison import comparison
from bench.report.comparison import csv_rows as comparison_rows
from bench.report.cost_columns import cost_summary
from bench.report.cost_notes import cost_notes
from bench.report.costs import cost_tables
from bench.report.footer import floors, footer
from bench.report.grouping import flat
from bench.report.markup import MADE_BY, csv_text, latex, markdown
from bench.report.rows import Run, device
from bench.report.summary import csv_rows as summary_rows
from bench.report.summary import headline

MARK = f"<!-- {MADE_BY} -->\n"
CHOICE = (
    "Each tying stands at the dropout and weight decay with the best validation metric of those searched. "
    "The test metric of that cell is shown, and in brackets its difference to `none`, chosen the same way, "
    "paired by seed. Percentages are of the untied parameters."
)


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


def task_page(stem: str, sections: list[Section], pictures: list[str], note: str | None) -> dict[str, str]:
    """File name -> content. Per section a table of what each cell reaches, and tables of what each tying costs."""
    md, tex = [MARK, f"# {stem}\n"], [f"% {MADE_BY}\n"]
    for section in sections:
        several, table = len(sections) > 1, comparison(section)
        costs, below, notes = cost_tables(section.costs), footer(section, note), cost_notes(section.costs)
        md += [f"\n## {section.title}\n"] * several
        md += ["\n", markdown(table), "\n", _lines("- ", below), f"\n{'##' + '#' * several} Cost\n"]
        md += [f"\n{title}:\n\n{markdown(cost)}" for title, cost in costs.items()]
        md += ["\n", _lines("- ", notes)]
        tex += [f"\n% {section.title}\n", latex(table), _lines("% ", below)]
        tex += [f"\n% {section.title}, cost: {title}\n{latex(cost)}" for title, cost in costs.items()]
        tex.append(_lines("% ", notes))
    md += ["\n", *(f"![{name[:-4]}]({name})\n" for name in pictures)]
    if not pictures:
        md.append("No plot: no run has finished.\n")
    rows = [row for section in sections for row in comparison_rows(section)]
    return {f"{stem}.md": "".join(md), f"{stem}.tex": "".join(tex), f"{stem}.csv": csv_text(rows)}


def _lines(mark: str, lines: list[str]) -> str:
    return "".join(f"{mark}{line}\n" for line in lines)


def summary_page(sweep: str, sections: list[Section], note: str | None) -> dict[str, str]:
    md, tex = [MARK, f"# {sweep}\n\n"], [f"% {MADE_BY}\n"]
    if sections:
        table = headline(sections, with_chosen=True)
        md += [markdown(table), f"\n{CHOICE}\n"]
        tex.append(latex(headline(sections)))
    else:
        md.append("The sweep asked for no run.\n")
    md += ["\n", *(f"- {section.title}: {text}.\n" for section in sections if (text := floors(section)))]
    md += [f"- Note: {' '.join(note.split())}\n"] if note else []
    md += ["\n", *(f"- [{stem}]({stem}.md)\n" for stem in stems(sections)), "- [records.csv](records.csv)\n"]
    return {
        "summary.md": "".join(md),
        "summary.tex": "".join(tex),
        "summary.csv": csv_text(summary_rows(sections)),
    }


def records_csv(runs: list[Run]) -> str:
    """One row per run the sweep asked for, holes included; configs without file system paths."""
    order = sorted(runs, key=lambda r: (r.task, r.data, r.tying, r.dropout, r.weight_decay, r.seed, r.id))
    rows = [_record_row(run) for run in order]
    columns = list({key: None for row in rows for key in row if not key.startswith("config.")})
    configs = sorted({key for row in rows for key in row if key.startswith("config.")})
    return csv_text([{key: row.get(key) for key in columns + configs} for row in rows])


def _record_row(run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": run.id,
        "task": run.task,
        "data": run.data,
        "fingerprint": run.fingerprint,
        "tying": run.tying,
        "dropout": run.dropout,
        "weight_decay": run.weight_decay,
        "seed": run.seed,
        "cell": run.cell,
        "cost": run.cost_id,
        "status": run.status,
        "reason": run.reason,
        "metric": run.metric.name,
    }
    for key in ("num_params", "num_params_untied", "best_epoch", "epochs", "steps"):
        row[key] = run.number(key)
    for split in ("test", "val", "train"):
        row |= {f"{split}_{key}": value for key, value in sorted((run.number(split) or {}).items())}
    row |= {
        "gap_nats": run.number("gap"),
        "spread_depth": run.number("spread", "depth"),
        "spread_embedding": run.number("spread", "embedding"),
        "decay_dose": run.number("decay", "dose"),
        "clipped_share": run.number("clipped_share"),
        "checkpoint_bytes": run.number("checkpoint_bytes"),
        "total_s": run.number("seconds", "total"),
        "fit_s": run.number("seconds", "fit"),
        "to_first_step_s": run.number("seconds", "to_first_step"),
        "throughput_per_s": run.number("throughput", "value"),
        "throughput_unit": run.number("throughput", "unit"),
        "peak_rss_bytes": run.number("peak_rss_bytes"),
    }
    row |= cost_summary(run.cost) | _provenance_columns(run)
    return row | {f"config.{key}": value for key, value in flat(run.record.get("config") or {}).items()}


def _provenance_columns(run: Run) -> dict[str, Any]:
    keys = ("commit", "dirty", "threads", "python")
    found = {key: run.number("provenance", key) for key in keys} | {
        "device": device(run.record),
        "results_version": run.number("results_version"),
    }
    versions = run.number("provenance", "versions") or {}
    return found | {f"version_{name}": versions[name] for name in sorted(versions)}
