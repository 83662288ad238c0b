"""What a sweep would do if it were started: what is recorded, what would run, how long. Starts and writes nothing."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.config.run_config import RunConfig
from bench.runs.code import other_code
from bench.runs.store import Status, cost_folder, recorded
from bench.sweep import prerequisites
from bench.sweep.launchers.local import Joblib
from bench.sweep.state import (
    COST,
    RECORD,
    Durations,
    State,
    count,
    in_words,
    makespan,
    run_name,
    state_of,
    tally,
)

COLUMNS = ("cells", "runs", "done", "failed", "diverged", "n/a", "running", "to resume", "to run")
COLUMN = {Status.NOT_APPLICABLE: "n/a", Status.INTERRUPTED: "to resume", Status.QUEUED: "to run"}
"""Of a state, where it has another name than its own."""

NAMED = 5
"""How many of the runs to come are named."""


@dataclass(frozen=True)
class Phase:
    """Cells by the identity that their records go by, and in which state each is."""

    cells: Mapping[str, RunConfig]
    states: Mapping[str, State]

    @classmethod
    def of(cls, cells: Mapping[str, RunConfig], look: Callable[[RunConfig], State]) -> "Phase":
        return cls(cells, {key: look(cell) for key, cell in cells.items()})

    @property
    def to_do(self) -> list[tuple[RunConfig, State]]:
        """What a sweep that is started now runs; what runs elsewhere it waits for."""
        pairs = [(cell, self.states[key]) for key, cell in self.cells.items()]
        return [(cell, state) for cell, state in pairs if state.is_left or _is_retried(cell, state)]


def report(cells: Sequence[RunConfig]) -> str:
    """Text for the terminal. `cells`: the whole grid, composed; a run may stand in it more than once."""
    asked = {cell.id: cell for cell in cells}
    sources = _phase(prerequisites.source(cell) for cell in asked.values())
    grouped = {key: _grouped(cell) for key, cell in asked.items()}
    known = {key: cell or asked[key] for key, cell in grouped.items()}
    costs = Phase.of({cell.cost: cell for cell in known.values() if cell.is_measured}, _state_of_cost)
    search = _phase(c for cell in known.values() for c in prerequisites.candidates(cell))
    settled = {key: cell and _settled(cell, search) for key, cell in grouped.items()}
    starts = _phase(cell.start for cell in (*known.values(), *search.cells.values()))
    grid = Phase(
        {key: settled[key] or known[key] for key in asked},
        {key: State(Status.QUEUED) if cell is None else _state_of_run(cell) for key, cell in settled.items()},
    )
    phases = [sources, starts, search, grid]
    lines = [
        f"dry run of sweep {cells[0].options['sweep']['name']}, records in {cells[0].runs}/",
        f"{count(len(cells), 'cell')}, {count(len(asked), 'run')}"
        + (": cells that differ in nothing but keys their tying does not use are one run" * _repeat(cells)),
        "",
        tally(_counted(cells, grid), COLUMNS),
        f"costs: {count(len(costs.cells), 'measurement')}, each alone on the machine, {len(costs.to_do)} to make",
    ]
    if sources.cells:
        waiting = sum(cell is None for cell in grouped.values())
        lines.append(f"groups of blocks: learned in {_runs(sources)}")
        lines += [f"  {waiting} runs wait for their groups; they count as to run"] if waiting else []
    if starts.cells:
        lines.append(f"starts: others begin from {_runs(starts)}")
    if search.cells:
        waiting = sum(cell is None and grouped[key] is not None for key, cell in settled.items())
        lines.append(f"learning rates: {len(search.cells)} runs to choose from, {len(search.to_do)} to run")
        lines += [f"  {waiting} runs wait for their rate; they count as to run"] if waiting else []
    lines += _other_code("recorded run", {key: s for phase in phases for key, s in phase.states.items()})
    lines += _other_code("recorded cost", costs.states)
    first = [run_name(cell.header()) for phase in (sources, starts) for cell, _ in phase.to_do]
    first += [f"{run_name(c.header())} lr={c.config['optimizer']['lr']:g}" for c, _ in search.to_do]
    first += [run_name(cell.header()) for cell, _ in grid.to_do]
    return "\n".join([*lines, *_named(list(dict.fromkeys(first))), _time(costs, phases)])


def _other_code(what: str, states: Mapping[str, State]) -> list[str]:
    """A line on the records that were made with other code than the present."""
    stale = [state for state in states.values() if state.changed]
    made = other_code(name for state in stale for name in state.changed)
    return [f"{count(len(stale), what)} {made}: to make again; reuse=true accepts them"] if stale else []


def _phase(cells: Iterable[RunConfig | None]) -> Phase:
    """Runs that come before the grid; None is no run."""
    return Phase.of({cell.id: cell for cell in cells if cell is not None}, _state_of_run)


def _runs(phase: Phase) -> str:
    return f"{count(len(phase.cells), 'run')}, {len(phase.to_do)} to run"


def _state_of_run(cell: RunConfig) -> State:
    return state_of(cell.folder, RECORD, cell.config, cell.options["reuse"])


def _state_of_cost(cell: RunConfig) -> State:
    return state_of(cost_folder(cell.runs, cell.cost), COST, cell.config, cell.options["reuse"])


def _is_retried(cell: RunConfig, state: State) -> bool:
    return state.status == Status.FAILED and cell.options["retry"]


def _repeat(cells: Sequence[RunConfig]) -> bool:
    return len({cell.id for cell in cells}) < len(cells)


def _settled(cell: RunConfig, search: Phase) -> RunConfig | None:
    """The cell at the learning rate that its search has chosen; None where the search has not ended."""
    found = {candidate.id: search.states[candidate.id] for candidate in prerequisites.candidates(cell)}
    if any(state.is_open for state in found.values()):
        return None
    metric = cell.config["task"]["metric"]["name"]
    records = {key: {"status": state.status, "val": {metric: state.value}} for key, state in found.items()}
    return prerequisites.chosen(cell, records)[0] if found else cell


def _grouped(cell: RunConfig) -> RunConfig | None:
    """The cell with the groups learned that it asks for; None where they are still to be."""
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


def _counted(cells: Iterable[RunConfig], grid: Phase) -> Iterator[tuple[dict[str, Any], list[str]]]:
    seen: set[str] = set()
    for cell in cells:
        columns = ["cells"]
        if cell.id not in seen:
            seen.add(cell.id)
            state = grid.states[cell.id]
            columns += ["runs", COLUMN.get(state.status, state.status)]
            columns += ["to run"] if _is_retried(cell, state) else []
        yield cell.header(), columns


def _named(names: Sequence[str]) -> list[str]:
    more = [f"  and {len(names) - NAMED:,} more"] if len(names) > NAMED else []
    return ["first to run:", *(f"  {name}" for name in names[:NAMED]), *more] if names else []


def _time(costs: Phase, phases: Sequence[Phase]) -> str:
    """The estimate of what is to do, from what this runs folder has seen. `phases`: one after the other."""
    if not costs.to_do and not any(phase.to_do for phase in phases):
        return "nothing to run: all is recorded"
    cells = list(phases[-1].cells.values())
    workers = Joblib().at_once(cells)
    took = _durations(cells[0].runs)
    measuring = Durations()
    for key, state in costs.states.items():
        measuring.add(
            [_task(costs.cells[key]), "any"], state.seconds if state.status == Status.DONE else None
        )
    spans = [makespan([measuring.expected([_task(cell), "any"]) for cell, _ in costs.to_do], 1)]
    seen: set[str] = set()
    for phase in phases:
        ahead = [(cell, state) for cell, state in phase.to_do if cell.id not in seen]
        seen |= {cell.id for cell, _ in ahead}
        expected = [(took.expected(_kinship(cell)), state.share_left) for cell, state in ahead]
        spans.append(makespan([None if s is None else s * share for s, share in expected], workers))
    known = [seconds for seconds, _ in spans if seconds is not None]
    if not sum(known):
        return f"time: unknown, no run of these configs has finished in {cells[0].runs}/"
    least = "at least " if len(known) < len(spans) else ""
    unknown = sum(missing for _, missing in spans)
    return (
        f"time: {least}about {in_words(sum(known))} with {count(workers, 'run')} at once,\n"
        "  by the finished runs of the same config at any regularisation, learning rate and seed"
        + (f";\n  {unknown} without such count as long as the others on average" if unknown else "")
    )


def _durations(runs: Path) -> Durations:
    """How long the finished runs of the folder took."""
    took = Durations()
    for path in runs.glob(f"*/{RECORD}"):
        record = recorded(path) or {}
        if record.get("status") == Status.DONE and isinstance(record.get("seconds"), Mapping):
            took.add(_kinship(RunConfig(record["config"], {})), record["seconds"].get("total"))
    return took


def _kinship(cell: RunConfig) -> list[Hashable]:
    """Of runs that take equally long, best first: alike but for what is free of charge; of any tying."""
    config = cell.config
    free = {"dropout": 0, "weight_decay": 0, "start": None, "optimizer": {**config["optimizer"], "lr": 0}}
    alike = replace(cell, config=config | free)
    return [alike.group, replace(alike, config=alike.config | {"tying": {}}).group]


def _task(cell: RunConfig) -> Hashable:
    return cell.config["task"]["name"], cell.config["data"]["name"]
