"""A SLURM of one node for the tests: its own folder and ports, loopback only, gone with the `with` block."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
WAIT_S = 30.0

CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
MailProg=/bin/true
KillWait=3
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=only Nodes={host} Default=YES MaxTime=60 State=UP
"""


def missing() -> str | None:
    """Why no sandbox can be started here; None where one can."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "the daemons of SLURM need root"


@contextlib.contextmanager
def cluster(folder: Path, cpus: int = 2, memory_mb: int = 8000) -> Iterator[dict[str, str]]:
    """Runs until the block is left; yields the variables that its commands need. Keep the folder's path short."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700, parents=True)
    controller_port, node_port = _free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(**locals()))
    environment = {"SLURM_CONF": str(conf)}
    try:
        _start_munge(folder / "munge")
        for daemon in (["slurmctld", "-c", "-f", str(conf)], ["slurmd", "-f", str(conf), "-N", host]):
            _run(daemon, environment)
        _until(lambda: _ask(["sinfo", "-h", "-o", "%t"], environment) == "idle", folder)
        yield environment
    finally:
        _ask(["scancel", "--full", "-u", "root"], environment)
        _until(lambda: not _ask(["squeue", "-h"], environment), folder, fatal=False)
        for pid_file in (folder / "slurmd.pid", folder / "slurmctld.pid", folder / "munge" / "pid"):
            _stop(pid_file)


def _start_munge(folder: Path) -> None:
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    places = {"key-file": key, "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    _run(["munged", "--force", *(f"--{name}={folder / place}" for name, place in places.items())], {})


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(
        [_program(command[0]) or command[0], *command[1:]],
        env={**os.environ, **environment},
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _ask(command: list[str], environment: dict[str, str]) -> str:
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout.strip()


def _until(condition, folder: Path, fatal: bool = True) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            if fatal:
                raise TimeoutError(f"SLURM did not come up; its logs are in {folder}")
            return
        time.sleep(0.1)


def _stop(pid_file: Path) -> None:
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 15)
    end = time.monotonic() + WAIT_S
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    """A zombie, which nobody may be there to reap, is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False
