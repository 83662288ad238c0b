"""Say what a sweep would do if it were started: what is recorded, what would run, how long. Writes nothing."""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis import archive
from bench.config.run_config import RunConfig
from bench.runs.code import other_code
from bench.runs.store import Status, cost_folder, recorded
from bench.sweep import manifest, prerequisites
from bench.sweep.launchers.local import Joblib
from bench.sweep.state import (
    COST,
    RECORD,
    Durations,
    State,
    count,
    in_words,
    kinship,
    run_name,
    state_of,
    tally,
)

COLUMNS = ("cells", "runs", "done", "failed", "diverged", "n/a", "running", "to resume", "to run")
COLUMN = {Status.NOT_APPLICABLE: "n/a", Status.INTERRUPTED: "to resume", Status.QUEUED: "to run"}
"""The column of a state that has another name than its own."""

NAMED = 5
"""How many of the runs to come are named."""


@dataclass(frozen=True)
class Phase:
    """Cells by the identity that their records go by, and in which state each is."""

    cells: Mapping[str, RunConfig]
    states: Mapping[str, State]

    @classmethod
    def of_runs(cls, cells: Iterable[RunConfig | None]) -> "Phase":
        """Return the phase of these runs; None is no run."""
        unique = {cell.id: cell for cell in cells if cell is not None}
        return cls(unique, {key: _state_of_run(cell) for key, cell in unique.items()})

    @classmethod
    def of_searches(cls, cells: Collection[RunConfig]) -> "Phase":
        """Return the phase of the runs that these cells' learning rates are chosen from, as far as it is known."""
        phase, n = cls({}, {}), -1
        while n < len(phase.cells):
            n, ended = len(phase.cells), phase.ended
            phase = cls.of_runs(c for cell in cells for c in prerequisites.candidates(cell, ended))
        return phase

    @classmethod
    def of_costs(cls, cells: Iterable[RunConfig], archived: Mapping[Path, State]) -> "Phase":
        unique = {cell.cost: cell for cell in cells}
        files = {key: cost_folder(cell.runs, key) / COST for key, cell in unique.items()}
        states = {
            key: archived.get(file)
            or state_of(file.parent, COST, unique[key].config, unique[key].options["reuse"])
            for key, file in files.items()
        }
        return cls(unique, states)

    @property
    def to_do(self) -> list[tuple[RunConfig, State]]:
        """What a sweep that is started now runs; what runs elsewhere it waits for."""
        pairs = [(cell, self.states[key]) for key, cell in self.cells.items()]
        return [(cell, state) for cell, state in pairs if state.is_left or _is_retried(cell, state)]

    @property
    def ended(self) -> dict[str, dict[str, Any]]:
        """The records of the runs that have ended, by their id."""
        keys = [key for key, state in self.states.items() if not state.is_open]
        return {key: recorded(self.cells[key].folder / RECORD) for key in keys}

    @property
    def summary(self) -> str:
        return f"{count(len(self.cells), 'run')}, {len(self.to_do)} to run"


@dataclass(frozen=True)
class Plan:
    """What a sweep consists of, phase by phase.

    cells: The whole grid, composed; a run may stand in it more than once.
    waiting_for_groups, waiting_for_rates: How many runs of the grid are not known before an earlier phase ends.
    """

    cells: Sequence[RunConfig]
    sources: Phase
    starts: Phase
    search: Phase
    grid: Phase
    costs: Phase
    waiting_for_groups: int
    waiting_for_rates: int

    @classmethod
    def of(cls, cells: Sequence[RunConfig]) -> "Plan":
        archived = {
            path: State(Status(record["status"])) for path, record in manifest.archived(cells).items()
        }
        runs = {cell.id: cell for cell in cells}
        grouped = {key: _with_groups(cell) for key, cell in runs.items()}
        latest = {key: cell or runs[key] for key, cell in grouped.items()}
        search = Phase.of_searches(latest.values())
        searched = search.ended
        final = {key: cell and _at_chosen_rate(cell, searched) for key, cell in grouped.items()}
        return cls(
            cells,
            sources=Phase.of_runs(prerequisites.source(cell) for cell in runs.values()),
            starts=Phase.of_runs(cell.start for cell in (*latest.values(), *search.cells.values())),
            search=search,
            grid=Phase(
                {key: final[key] or latest[key] for key in runs},
                {
                    key: State(Status.QUEUED)
                    if cell is None
                    else archived.get(cell.folder / RECORD) or _state_of_run(cell)
                    for key, cell in final.items()
                },
            ),
            costs=Phase.of_costs((c for c in latest.values() if c.is_measured), archived),
            waiting_for_groups=sum(cell is None for cell in grouped.values()),
            waiting_for_rates=sum(cell is None and grouped[key] is not None for key, cell in final.items()),
        )

    @property
    def phases(self) -> list[Phase]:
        """The phases that train, one after the other."""
        return [self.sources, self.starts, self.search, self.grid]


def report(cells: Sequence[RunConfig]) -> str:
    """Return what a sweep of `cells` would do, as text for the terminal.

    Args:
        cells: The whole grid, composed.
    """
    plan = Plan.of(cells)
    runs = len(plan.grid.cells)
    repeats = ": cells that differ in nothing but keys their tying does not use are one run"
    lines = [
        f"dry run of sweep {cells[0].options['sweep']['name']}, records in {cells[0].runs}/",
        f"{count(len(cells), 'cell')}, {count(runs, 'run')}{repeats if runs < len(cells) else ''}",
        "",
        tally(_columns(plan), COLUMNS),
        *_before_the_grid(plan),
        *_other_code("recorded run", {key: s for phase in plan.phases for key, s in phase.states.items()}),
        *_other_code("recorded cost", plan.costs.states),
        *_first_to_run(plan),
        _time(plan),
    ]
    return "\n".join(lines)


def _columns(plan: Plan) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield the header of each cell with the columns in which it counts."""
    seen: set[str] = set()
    for cell in plan.cells:
        columns = ["cells"]
        if cell.id not in seen:
            seen.add(cell.id)
            state = plan.grid.states[cell.id]
            columns += ["runs", COLUMN.get(state.status, state.status)]
            columns += ["to run"] if _is_retried(cell, state) else []
        yield cell.header(), columns


def _before_the_grid(plan: Plan) -> list[str]:
    costs = count(len(plan.costs.cells), "measurement")
    lines = [f"costs: {costs}, each alone on the machine, {len(plan.costs.to_do)} to make"]
    if plan.sources.cells:
        lines.append(f"groups: learned in {plan.sources.summary}")
    if plan.waiting_for_groups:
        lines.append(f"  {plan.waiting_for_groups} runs wait for their groups; they count as to run")
    if plan.starts.cells:
        lines.append(f"starts: others begin from {plan.starts.summary}")
    if plan.search.cells:
        search = plan.search
        widen = max(cell.options["lr_search"]["widen"] for cell in plan.cells)
        beyond = (
            f", and up to {count(widen, 'more rate')} where the best is at an end"
            if widen and search.to_do
            else ""
        )
        lines.append(
            f"learning rates: {len(search.cells)} runs to choose from, {len(search.to_do)} to run{beyond}"
        )
    if plan.waiting_for_rates:
        lines.append(f"  {plan.waiting_for_rates} runs wait for their rate; they count as to run")
    return lines


def _other_code(kind: str, states: Mapping[str, State]) -> list[str]:
    """Return a line on the records that were made with other code than the present."""
    stale = [state for state in states.values() if state.changed]
    reason = other_code(name for state in stale for name in state.changed)
    return [f"{count(len(stale), kind)} {reason}: to make again; reuse=true accepts them"] if stale else []


def _first_to_run(plan: Plan) -> list[str]:
    names: dict[str, None] = {}
    for phase in plan.phases:
        for cell, _ in phase.to_do:
            rate = f" lr={cell.config['optimizer']['lr']:g}" if phase is plan.search else ""
            names[run_name(cell.header()) + rate] = None
    more = [f"  and {len(names) - NAMED:,} more"] if len(names) > NAMED else []
    return ["first to run:", *(f"  {name}" for name in list(names)[:NAMED]), *more] if names else []


def _time(plan: Plan) -> str:
    """Return the estimate of what is to do, from what this runs folder has seen."""
    if not plan.costs.to_do and not any(phase.to_do for phase in plan.phases):
        return "nothing to run: all is recorded"
    runs, sweep = plan.cells[0].runs, plan.cells[0].options["sweep"]["name"]
    workers = Joblib().at_once(list(plan.grid.cells.values()))
    took, by = _took(recorded(path) or {} for path in runs.glob(f"*/{RECORD}")), "the finished runs"
    spans = [_measuring(plan.costs), *_training(plan.phases, took, workers)]
    if not any(seconds for seconds, _ in spans):
        archived = archive.path_of(Path(plan.cells[0].options["results"]), sweep)
        took = _took(archive.read(archived).records.values() if archived.exists() else ())
        by = "those recorded in results/"
        spans = [_measuring(plan.costs), *_training(plan.phases, took, workers)]
    known = [seconds for seconds, _ in spans if seconds is not None]
    if not sum(known):
        takes = plan.cells[0].options["sweep"].get("takes")
        shipped = f"; whole and on two cores the sweep takes {takes}" if takes else ""
        return f"time: unknown, no run of these configs has finished in {runs}/{shipped}"
    least = "at least " if len(known) < len(spans) else ""
    unknown = sum(missing for _, missing in spans)
    return (
        f"time: {least}about {in_words(sum(known))} with {count(workers, 'run')} at once,\n"
        f"  by {by} of the same config at any regularisation, learning rate and seed"
        + (f";\n  {unknown} without such count as long as the others on average" if unknown else "")
    )


def _measuring(costs: Phase) -> tuple[float | None, int]:
    """Return how long the costs to measure take, one after the other, and of how many that is not known."""
    took = Durations()
    for key, state in costs.states.items():
        if state.status == Status.DONE:
            took.add([_task(costs.cells[key]), "any"], state.seconds)
    return took.span((([_task(cell), "any"], 1.0) for cell, _ in costs.to_do), 1)


def _training(phases: Sequence[Phase], took: Durations, workers: int) -> Iterator[tuple[float | None, int]]:
    """Yield how long each phase takes, `workers` at once, and of how many runs that is not known."""
    seen: set[str] = set()
    for phase in phases:
        ahead = [(cell, state) for cell, state in phase.to_do if cell.id not in seen]
        seen |= {cell.id for cell, _ in ahead}
        yield took.span(((kinship(cell), state.share_left) for cell, state in ahead), workers)


def _state_of_run(cell: RunConfig) -> State:
    return state_of(cell.folder, RECORD, cell.config, cell.options["reuse"])


def _is_retried(cell: RunConfig, state: State) -> bool:
    return state.status == Status.FAILED and cell.options["retry"]


def _at_chosen_rate(cell: RunConfig, searched: Mapping[str, Mapping[str, Any]]) -> RunConfig | None:
    """Return the cell at the learning rate that its search has chosen; None where the search has not ended.

    Args:
        searched: the records of the runs of searches that have ended.
    """
    runs = prerequisites.candidates(cell, searched)
    if any(run.id not in searched for run in runs):
        return None
    return prerequisites.chosen(cell, searched)[0] if runs else cell


def _with_groups(cell: RunConfig) -> RunConfig | None:
    """Return the cell with the groups that it is to learn; None where they are not learned yet."""
    source = prerequisites.source(cell)
    if source is None:
        return cell
    record, state = recorded(source.folder / RECORD), _state_of_run(source)
    if record is None or state.changed or _is_retried(source, state):
        return None
    try:
        return prerequisites.resolved(cell, {source.id: record})
    except prerequisites.Unlearned:  # it ends under the identity that it has
        return cell


def _took(records: Iterable[Mapping[str, Any]]) -> Durations:
    """Return how long runs took, of those that finished and whose record says so."""
    took = Durations()
    for record in records:
        if record.get("status") == Status.DONE and isinstance(record.get("seconds"), Mapping):
            took.add(kinship(RunConfig(record["config"], {})), record["seconds"].get("total"))
    return took


def _task(cell: RunConfig) -> Hashable:
    return cell.config["task"]["name"], cell.config["data"]["name"]
