"""W&B under a run: one id whatever happens, and a server, a service or a disk that fails costs a bounded wait."""

import contextlib
import gzip
import importlib
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import forked
import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
KEY = "".join(random.Random(3).choices("0123456789abcdef", k=40))
RUN = "0123456789ab"
TIMEOUT_S = 2.0
GRACE_S = 2.0
OPENING_S = 2.5
"""What W&B's own start and end take at most, beyond what they were seen to take here with nothing to wait for."""


SPEC = {
    "parts": [
        {"method": "top_k", "keys": {"k": 2, "scope": "weights"}},
        {"method": "soft", "keys": {"strength": 0.5}},
    ],
    "control": None,
    "start": None,
}


class Server(ThreadingHTTPServer):
    """W&B's server as far as a run needs it. It keeps the one run's history by line, as the real one does.

    `says`: "all" right; "late" answers about the run itself but not to its data; else to nothing. `how`: the HTTP
    status of the failing answers, or None for none at all.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, says: str, how: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.says, self.how = says, how
        self.asked: list[str] = []
        self.names: set[str] = set()
        self.upserts: list[dict[str, Any]] = []
        self.history: dict[int, dict[str, Any]] = {}
        self.exit_codes: list[int] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stream(self, body: dict[str, Any]) -> None:
        lines = body.get("files", {}).get("wandb-history.jsonl")
        if lines:
            for number, line in enumerate(lines["content"], lines["offset"]):
                self.history[number] = json.loads(line)
        if body.get("complete"):
            self.exit_codes.append(body["exitcode"])

    def query(self, query: str, asked: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
        run = {
            "id": "b",
            "name": asked.get("name"),
            "displayName": "n",
            "historyLineCount": len(self.history),
        }
        if "RunResumeStatus" in query:
            tail = json.dumps([json.dumps(self.history[max(self.history)])] if self.history else [])
            known = {**run, "logLineCount": 0, "eventsLineCount": 0, "historyTail": tail, "eventsTail": "[]"}
            known |= {
                "config": "{}",
                "summaryMetrics": "{}",
                "tags": [],
                "wandbConfig": '{"t": {"value": 1}}',
            }
            return {"model": {**project, "bucket": known if asked["name"] in self.names else None}}
        if "UpsertBucket" in query:
            self.names.add(asked["name"])
            self.upserts.append(asked)
            return {"upsertBucket": {"bucket": {**run, "project": project}, "inserted": True}}
        if "CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/up/{name}"} for name in asked["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if "gzip" in self.headers.get("content-encoding", ""):
            body = gzip.decompress(body)
        self.server.asked.append(self.path)
        about_the_run = self.path == "/graphql"
        if self.server.says != "all" and not (self.server.says == "late" and about_the_run):
            self.fail()
            return
        content = json.loads(body) if self.path == "/graphql" or self.path.endswith("file_stream") else {}
        if about_the_run:
            answer = {"data": self.server.query(content["query"], content.get("variables", {}))}
        else:
            self.server.stream(content)
            answer = {}
        self.reply(200, json.dumps(answer).encode())

    do_GET = do_PUT = do_POST

    def fail(self) -> None:
        if self.server.how is None:
            self.server.ended.wait()
        else:
            self.reply(self.server.how, b"no")

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(says: str, how: int | None = None) -> Server:
        server = Server(says, how)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.ended.set()
        server.shutdown()
        server.server_close()


def request(logger: str, attempts: int) -> dict[str, Any]:
    asked = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "logger" / f"{logger}.yaml"))
    if logger == "wandb":
        asked["timeout_s"] = TIMEOUT_S
    axes = {"task": "image_cnn", "data": "digits", "tying": "none", "dropout": 0.0, "weight_decay": 0.0}
    more = {"id": RUN, "cost": "c", "seed": 1, "sweep": "grid", "logger": asked, "attempts": attempts}
    more |= {"cell": "0123", "spec": SPEC, "overrides": ["task=image_cnn", "tying=top_k", "model.depth=6"]}
    return {**axes, **more}


def track(folder: str, env: dict[str, str], steps: range, attempts: int, end: str, logger: str) -> None:
    """A run as far as its logger sees it, in a process like a run's.

    It says when it began, its imports made: how long these take says nothing of what a failing server costs.
    """
    os.setsid()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    os.environ |= env
    log = os.open(Path(folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from bench.runs import loggers

    importlib.import_module("wandb.sdk.launch")  # as `wandb.init` does
    (Path(folder) / "began").write_text(str(time.monotonic()))
    loggers.GRACE_S = GRACE_S
    asked, runs = request(logger, attempts), Path(folder).parent
    if end == "service killed at the start":
        threading.Thread(target=kill_first_service, daemon=True).start()
    opened = loggers.open_logger(asked, {"seed": 1, "model": {"depth": 6}}, Path(folder))
    (service,) = services(os.getpid()) or [0]
    for step in steps:
        opened.log_metrics({"val/nll": step / 8}, step)
        if step == 1 and end in ("service killed", "service hung"):
            time.sleep(0.5)
            os.kill(service, signal.SIGKILL if end == "service killed" else signal.SIGSTOP)
            time.sleep(0.2)
    if end == "killed":
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "failed":
        opened.finalize("failed")
        return
    opened.finalize("success")
    opened.save()
    record = {
        "test": {"nll": 0.25},
        "val": {"nll": 0.125},
        "steps": len(steps),
        "curves": {},
        "peak_rss_bytes": 3 << 20,
    }
    loggers.close_logger(opened, asked, record, runs)


def kill_first_service() -> None:
    """Kill W&B's process where it waits for the server's first word."""
    while not (pids := services(os.getpid())):
        time.sleep(0.05)
    time.sleep(0.7)
    os.kill(pids[0], signal.SIGKILL)


def services(parent: int) -> list[int]:
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            state, above = rest.split()[:2]
            if name == "wandb-core" and int(above) == parent and state != "Z":
                pids.append(int(stat.parent.name))
    return pids


class Tracked:
    """Runs of one id in one folder, attempt after attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds, self.attempts = folder, 0.0, 0
        self.context = multiprocessing.get_context("forkserver")

    def __call__(
        self,
        url: str = "http://127.0.0.1:9",
        *,
        mode: str = "online",
        key: str = KEY,
        steps: range = range(3),
        end: str = "",
        logger: str = "wandb",
        **env: str,
    ) -> None:
        self.attempts += 1
        given = {"WANDB_BASE_URL": url, "WANDB_API_KEY": key, "WANDB_MODE": mode}
        env |= {name: value for name, value in given.items() if value}
        process = self.context.Process(
            target=track, args=(str(self.folder), env, steps, self.attempts, end, logger)
        )
        process.start()
        process.join(60)
        self.seconds = time.monotonic() - float((self.folder / "began").read_text())
        assert process.exitcode == (-signal.SIGKILL if end == "killed" else 0), self.log

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def notes(self) -> list[str]:
        return [line for line in self.log.splitlines() if line.startswith("note: ")]

    def folders(self, pattern: str) -> list[Path]:
        return sorted((self.folder / "wandb").glob(pattern))

    def summary(self, offline: Path) -> dict[str, Any]:
        shown = subprocess.run(
            [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(offline)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(shown.stdout)

    def holds_all(self, offline: Path, last: int = 2) -> None:
        shown = self.summary(offline)
        assert (shown["run_id"], shown["state"], shown["exit_code"]) == (RUN, "finished", 0)
        figures = ("trainer/global_step", "val/nll", "test/nll", "steps")
        assert [shown["summary"].get(name) for name in figures] == [last, last / 8, 0.25, 3]
        assert shown["config"]["model"] == {"depth": 6}
        axes = {
            "tying": "none",
            "tying_k": 2,
            "strength": 0.5,
            "dropout": 0.0,
            "weight_decay": 0.0,
            "seed": 1,
        }
        assert {key: shown["config"][key] for key in axes} == axes
        assert (shown["summary"]["best/val/nll"], shown["summary"]["peak_rss_mib"]) == (0.125, 3.0)

    def tells_no_secret(self) -> None:
        files = [path for path in self.folder.parent.rglob("*") if path.is_file()]
        assert files and not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds of a run that waits for nothing, and OPENING_S more: what any run here may take beside its waits."""
    folder = tmp_path_factory.mktemp("opening") / RUN
    folder.mkdir()
    usual = Tracked(folder)
    usual(mode="")
    return usual.seconds + OPENING_S


@pytest.fixture
def tracked(tmp_path: Path) -> Iterator[Tracked]:
    folder = tmp_path / RUN
    folder.mkdir()
    yield Tracked(folder)
    deadline = time.monotonic() + 5
    while left := services_of(folder):
        assert time.monotonic() < deadline, f"W&B's process stays: {left}"
        time.sleep(0.1)


def services_of(folder: Path) -> list[int]:
    """W&B's processes whose output goes to this run's log."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(entry / "fd" / "1")) == folder / "log":
                pids.append(int(entry.name))
    return pids


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def test_offline_asks_no_server(tracked: Tracked, serve: Callable[..., Server]) -> None:
    """The default, whatever key and address are there."""
    server = serve("all")
    tracked(server.url, mode="")
    assert server.asked == [] and tracked.notes == []
    (offline,) = tracked.folders("*run-*")
    assert offline.name.startswith("offline-run-")
    tracked.holds_all(offline)
    tracked.tells_no_secret()


@pytest.mark.parametrize("given", [{"mode": "sometimes"}, {"url": "no address"}], ids=str)
def test_a_malformed_account_does_not_fail_the_run(tracked: Tracked, given: dict[str, str]) -> None:
    tracked(**{"mode": "", **given})
    (note,) = tracked.notes
    assert "W&B fails" in note and note.endswith("the rest of this run is in its record only")


FOREIGN = {
    **{"WANDB_RUN_ID": "another", "WANDB_RESUME": "must", "WANDB_NAME": "another", "WANDB_SWEEP_ID": "s"},
    **{"WANDB_RUN_GROUP": "another", "WANDB_JOB_TYPE": "another", "WANDB_PROJECT": "another"},
    **{"WANDB_TAGS": "another", "WANDB_NOTES": "another", "WANDB_DIR": "/nowhere", "WANDB_CONFIG": "{"},
    **{"WANDB_DISABLE_GIT": "perhaps", "WANDB__OFFLINE": "perhaps", "WANDB_HTTP_TIMEOUT": "soon"},
    **{"WANDB_INIT_TIMEOUT": "soon", "WANDB_SERVICE": "another", "WANDB_LAUNCH": "perhaps"},
}
"""What an agent, another job or a slip leaves in the environment: of another run, or malformed."""


def test_a_run_takes_its_identity_from_no_variable(tracked: Tracked, serve: Callable[..., Server]) -> None:
    server = serve("all")
    # Python reads it when it imports W&B: `test_a_whole_run_without_its_server` has it.
    foreign = {name: value for name, value in FOREIGN.items() if name != "WANDB_HTTP_TIMEOUT"}
    tracked(server.url, **foreign)
    assert tracked.notes == [] and server.names == {RUN} and server.exit_codes == [0]
    (online,) = tracked.folders("*run-*")
    assert online.name.startswith("run-") and online.name.endswith(RUN)
    asked = json.dumps(server.upserts)
    assert "another" not in asked and '"grid"' in asked and '"tying-bench"' in asked


@pytest.mark.parametrize("server", ["refused", "silent", "500"])
def test_a_server_that_fails_at_the_start_costs_one_wait(
    tracked: Tracked, opening: float, serve: Callable[..., Server], server: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    if server != "refused":
        url = serve("nothing", 500 if server == "500" else None).url
    tracked(url)
    assert TIMEOUT_S < tracked.seconds < TIMEOUT_S + opening
    (note,) = tracked.notes
    assert "this run is offline, `make sync` uploads it" in note
    (offline,) = tracked.folders("*run-*")
    assert offline.name.startswith("offline-run-")
    tracked.holds_all(offline)
    tracked.tells_no_secret()


def test_seeds_of_a_cell_are_a_group_and_every_run_has_a_name_of_its_own() -> None:
    from bench.runs.loggers import names

    one = request("wandb", 1)
    other = {**one, "seed": 2, "id": "b"}
    wider = {**one, "overrides": ["+model.depth=8"], "cell": "4567", "id": "c"}
    name, group, tags = names(one)
    assert name == "image_cnn none d0 wd0 model.depth=6 s1"
    assert group == names(other)[1] != names(wider)[1]
    assert len({names(run)[0] for run in (one, other, wider)}) == 3
    assert {"dropout=0", "weight_decay=0", "sweep=grid"} <= {*tags}


def test_no_key_is_offline_at_once(tracked: Tracked, opening: float, serve: Callable[..., Server]) -> None:
    server = serve("all")
    tracked(server.url, key="", HOME=str(tracked.folder))
    assert tracked.seconds < opening and server.asked == []
    (note,) = tracked.notes
    assert "No API key" in note and "this run is offline" in note
    tracked.holds_all(*tracked.folders("offline-run-*"))


@pytest.mark.parametrize(("how", "wait"), [(None, TIMEOUT_S), (500, TIMEOUT_S), (404, 0.0)])
def test_a_server_that_fails_at_the_end_costs_one_wait(
    tracked: Tracked, opening: float, serve: Callable[..., Server], how: int | None, wait: float
) -> None:
    """404: W&B gives up at once, and says so in its own log alone."""
    tracked(serve("late", how).url)
    assert wait < tracked.seconds < wait + opening
    assert tracked.notes == ["note: the upload did not end in time: `make sync` does it again"]
    (offline,) = tracked.folders("*run-*")
    assert offline.name.startswith("offline-run-")
    tracked.holds_all(offline)
    tracked.tells_no_secret()


def test_a_server_that_works_has_it_all(tracked: Tracked, serve: Callable[..., Server]) -> None:
    server = serve("all")
    tracked(server.url)
    assert tracked.notes == []
    assert [line["val/nll"] for _, line in sorted(server.history.items())] == [0, 1 / 8, 2 / 8]
    assert server.names == {RUN} and server.exit_codes == [0]
    (online,) = tracked.folders("*run-*")
    assert online.name.startswith("run-"), "it is uploaded: `make sync` has nothing to do"
    tracked.tells_no_secret()


def test_attempts_are_one_run(tracked: Tracked, serve: Callable[..., Server]) -> None:
    """Killed after step 3, resumed from step 2: two folders of one id, which `wandb sync` joins."""
    tracked(mode="", steps=range(4), end="killed")
    time.sleep(1.1)  # W&B names folders by the second
    tracked(mode="", steps=range(2, 5))
    both = tracked.folders("offline-run-*")
    assert [self["run_id"] for self in map(tracked.summary, both)] == [RUN, RUN]
    assert tracked.summary(both[0])["summary"]["val/nll"] == 3 / 8
    tracked.holds_all(both[1], last=4)

    server = serve("all")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    env |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    sync = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, both)]
    done = subprocess.run(sync, cwd=tracked.folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert server.names == {RUN}
    lines = [line for _, line in sorted(server.history.items())]
    assert [line["trainer/global_step"] for line in lines if "val/nll" in line] == [0, 1, 2, 3, 2, 3, 4]
    assert [line["_step"] for line in lines] == list(range(len(lines)))
    assert server.exit_codes[-1] == 0


def test_losing_the_service_at_the_start_is_as_losing_the_server(
    tracked: Tracked, serve: Callable[..., Server]
) -> None:
    """A process that is dead takes no word that it shall end."""
    tracked(serve("nothing").url, end="service killed at the start")
    (note,) = tracked.notes
    assert "this run is offline, `make sync` uploads it" in note
    (offline,) = tracked.folders("*run-*")
    assert offline.name.startswith("offline-run-")
    tracked.holds_all(offline)


@pytest.mark.parametrize(("end", "wait"), [("service killed", 0.0), ("service hung", TIMEOUT_S + GRACE_S)])
def test_losing_the_service_loses_the_mirror_alone(
    tracked: Tracked, opening: float, end: str, wait: float
) -> None:
    tracked(mode="", end=end)
    assert wait < tracked.seconds < wait + opening
    (note,) = tracked.notes
    assert re.match(r"note: W&B fails \(\w+: .*the rest of this run is in its record only", note)
    (offline,) = tracked.folders("offline-run-*")
    assert tracked.summary(offline)["run_id"] == RUN


def test_a_run_that_fails_is_failed_there_too(tracked: Tracked) -> None:
    tracked(mode="", end="failed")
    (offline,) = tracked.folders("offline-run-*")
    shown = tracked.summary(offline)
    assert (shown["state"], shown["exit_code"], shown["summary"]["val/nll"]) == ("failed", 1, 2 / 8)


def test_trackio_has_the_same_figures(tracked: Tracked) -> None:
    pytest.importorskip("trackio")
    tracked(logger="trackio", TRACKIO_DIR=str(tracked.folder / "db"))
    with contextlib.closing(sqlite3.connect(tracked.folder / "db" / "tying-bench.db")) as database:
        rows = [
            (step, json.loads(figures))
            for step, figures in database.execute("select step, metrics from metrics")
        ]
        ((config,),) = database.execute("select config from configs")
    assert [figures["val/nll"] for _, figures in rows[:3]] == [0, 1 / 8, 2 / 8]
    assert rows[-1][1]["test/nll"] == 0.25 and json.loads(config)["tying_k"] == 2


def test_an_attempt_keeps_the_csv_of_the_one_before(tracked: Tracked) -> None:
    for _ in range(2):
        tracked(logger="csv")
    tables = sorted((tracked.folder / "csv").rglob("metrics.csv"))
    assert [path.parent.name for path in tables] == ["attempt-2", "csv"]
    for path in tables:
        assert "0.125" in path.read_text()


def test_a_whole_run_without_its_server(tmp_path: Path) -> None:
    """And with the variables of another run."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_", "BENCH_"))}
    env |= FOREIGN | {
        "WANDB_MODE": "online",
        "WANDB_API_KEY": KEY,
        "WANDB_BASE_URL": f"http://127.0.0.1:{free_port()}",
    }
    words = ["model.depth=6", "model.width=4", "trainer.limit_train_batches=2", "trainer.max_epochs=1"]
    words += ["trainer.limit_eval_batches=1", "measure.min_calls=1", "measure.min_seconds=0", "logger=wandb"]
    words += ["measure.cold=false"]
    words += [f"{place}={tmp_path / place}" for place in ("runs", "results", "cache")]
    command = [sys.executable, "-m", "bench", *words, "logger.timeout_s=1"]
    done = forked.run(command, ROOT, env)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").glob("*/record.json")
    assert json.loads(path.read_text())["status"] == "done"
    assert "this run is offline" in (path.parent / "log").read_text()
    (offline,) = path.parent.glob("wandb/offline-run-*")
    assert offline.name.endswith(path.parent.name)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("peak_rss_bytes", "peak_rss_mib"),
        ("cost/memory/train_step/total", "cost/memory/train_step/total_mib"),
        ("cost/memory/checkpoint_bytes", "cost/memory/checkpoint_mib"),
    ],
)
def test_memory_is_in_mib_under_a_name_that_says_so(key, name):
    from bench.runs.loggers import _in_mib

    assert _in_mib(key, 3 << 20) == (name, 3.0)
    assert _in_mib("cost/latency/one/ratio", 0.5) == ("cost/latency/one/ratio", 0.5)
