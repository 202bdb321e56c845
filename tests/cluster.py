"""A real Slurm of two nodes on this machine: munge, a controller and two node daemons."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")
CONFIGURATION = """\
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
SlurmctldTimeout=10
SlurmdTimeout=8
ReturnToService=2
MinJobAge=300
KillWait=5
JobRequeue=1
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
PropagateResourceLimits=NONE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={n1} CPUs=1 RealMemory=6000 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={n2} CPUs=1 RealMemory=6000 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class Cluster:
    """Daemons that run until they are ended; each is known by its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        folder = self.folder
        for name in ("state", *NODES):
            (folder / name).mkdir(parents=True)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        folder.chmod(0o711)
        ports = _free_ports(3)
        text = CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname(),
            user=getpass.getuser(),
            **dict(zip(("controller", *NODES), ports, strict=True)),
        )
        (folder / "slurm.conf").write_text(text)
        munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file")]
        munge += [f"--key-file={key}", f"--log-file={folder}/munge.log"]
        munge += [f"--seed-file={folder}/munge.seed", "--foreground", "--force"]
        self._start("munged", ["munged", *munge])
        _wait_for((folder / "munge.socket").exists, what="munge")
        self._start("slurmctld", ["slurmctld", "-D"])
        for node in NODES:
            self.start_node(node)
        _wait_for(lambda: self.ask("sinfo", "-h", "-o", "%T %D") == "idle 2", what="the nodes")

    def start_node(self, node: str) -> None:
        self._start(node, ["slurmd", "-D", "-N", node])

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon; what it started goes on, as on a node that lost its network."""
        process = self._running.pop(node)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def ask(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.env, check=False, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def stop(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.ask("scancel", "--signal=KILL", f"--user={getpass.getuser()}")
            self.ask("scancel", f"--user={getpass.getuser()}")
            time.sleep(1)
        for process in reversed(self._running.values()):
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._running[name] = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )


@contextlib.contextmanager
def two_nodes(folder: Path) -> Iterator[Cluster]:
    """Run the cluster, or skip where its programs are not installed."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        pytest.skip(f"no Slurm here: {lacking[0]} is not installed")
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(condition: object, *, what: str, seconds: float = 60) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"{what} did not come up within {seconds:.0f} s")
        time.sleep(0.2)
