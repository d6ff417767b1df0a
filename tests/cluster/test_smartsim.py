"""SmartSim 0.8.0, not a line of it changed, on a compute node that has no Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.smartsim_venv import SmartSimVenv
from tests.support.waiting import wait_until

from .cluster import Cluster
from .host import Host
from .site import CLONE

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

EXPERIMENTS = Path(__file__).with_name("experiments")
EXAMPLES = CLONE / "examples"
OUTPUT = "/home/alice/output"
WHOLE = "/home/alice/whole"
SOAK_CUT_SECONDS = 30.0
STEP_SECONDS = 120.0
# SmartSim's monitor looks every second; it gives up when nothing has run for as long as it
# takes to start the first models.
TELEMETRY = {"SMARTSIM_TELEMETRY_FREQUENCY": "1", "SMARTSIM_TELEMETRY_COOLDOWN": "20"}
PORT = 5555


class Running:
    """An experiment that runs on compute1; what it prints is in a file."""

    def __init__(self, host: Host, process: subprocess.Popen[str]) -> None:
        self.host = host
        self.process = process

    def wait_for(self, step: str, seconds: float = STEP_SECONDS) -> Any:
        """What it said of that step, once it is there."""
        wait_until(lambda: step in self.said() or self.process.poll() is not None, seconds)
        assert step in self.said(), self.output()
        return self.said()[step]

    def said(self) -> dict[str, Any]:
        lines = [line for line in self.output().splitlines() if line.startswith('{"step"')]
        return {said["step"]: said["said"] for said in map(json.loads, lines)}

    def output(self) -> str:
        return self.host.path(OUTPUT).read_text("utf-8", "replace")


@contextmanager
def run_experiment(
    host: Host, venv: SmartSimVenv, *command: str, env: dict[str, str] | None = None
) -> Iterator[Running]:
    # SmartSim's telemetry monitor outlives the experiment, with the same output.
    script = f'touch {OUTPUT}; exec "$@" >{OUTPUT} 2>&1'
    environment = {**venv.environment, **(env or {})}
    with host.popen(
        *["sh", "-c", script, "sh", *command], user="alice", env=environment
    ) as process:
        wait_until(lambda: host.path(OUTPUT).exists())
        try:
            yield Running(host, process)
        finally:
            process.kill()


def test_an_unchanged_experiment_completes_though_its_link_is_cut(
    cluster: Cluster, smartsim_venv: SmartSimVenv, request: pytest.FixtureRequest
) -> None:
    """Allocation, srun, sbatch, an ensemble, a failure, a stop, the database, the telemetry."""
    cut_seconds = SOAK_CUT_SECONDS if request.config.getoption("--soak") else 0.0
    cluster.without_slurm("compute1")
    cluster.firewall.open()  # between the nodes, for the database
    login1, compute1 = cluster.host("login1"), cluster.host("compute1")
    bridge = (smartsim_venv.bridge, "shell", "--addr", "login1", "--autostart", "--")
    script = (smartsim_venv.python, str(EXPERIMENTS / "whole.py"), WHOLE)
    with run_experiment(compute1, smartsim_venv, *bridge, *script, env=TELEMETRY) as experiment:
        assert experiment.wait_for("launcher") == "slurm"
        experiment.wait_for("polling")
        cluster.firewall.cut("compute1", "login1")
        healing = time.monotonic() + cut_seconds
        login1.run("touch", f"{WHOLE}.go", user="alice")
        wait_until(lambda: "COMPLETED" in state_of(login1, "long-"), STEP_SECONDS)
        wait_until(lambda: time.monotonic() >= healing, SOAK_CUT_SECONDS + 1)
        assert "statuses" not in experiment.said()
        cluster.firewall.heal()
        expected = ["Completed", "Failed", "Completed", "Completed"]
        assert experiment.wait_for("statuses") == expected, experiment.output()
        assert experiment.wait_for("output") == "spam\n"
        assert experiment.wait_for("stopped") == ["Cancelled"]
        assert experiment.wait_for("database")[1:] == ["value", "spam"]
        assert experiment.wait_for("database stopped") == ["Cancelled"]
        assert "JobManager" in experiment.wait_for("threads")
        assert experiment.wait_for("unrecorded") == []
        assert experiment.process.wait(STEP_SECONDS) == 0, experiment.output()
        (recorded,) = compute1.path(WHOLE).glob(".smartsim/**/model/long/stop.json")
        assert "STATUS_COMPLETED" in recorded.read_text("utf-8")
    # The monitor is a process of its own: without its bridge it must not stay for ever.
    wait_until(lambda: not compute1.run("pgrep", "-f", "telemetrymonitor", check=False).stdout)
    assert not login1.run("squeue", "-h", "-u", "alice").stdout


def state_of(head: Host, name: str) -> str:
    """What accounting says of the step whose name begins like that."""
    said = head.run("sacct", "-n", "-P", "-o", "jobname,state", user="alice").stdout
    return "".join(line for line in said.splitlines() if line.startswith(name))


def test_the_seed_script_runs_against_a_fixed_deployment(
    cluster: Cluster, smartsim_venv: SmartSimVenv
) -> None:
    cluster.without_slurm("compute1")
    cluster.firewall.open()
    login1, compute1 = cluster.host("login1"), cluster.host("compute1")
    start = (str(CLONE / "scripts/start_cmd_server.py"), "--addr", login1.address)
    with login1.popen(*[sys.executable, "-u", *start, "--port", str(PORT)], user="alice") as server:
        try:
            assert server.stdout is not None
            assert any("stop it with" in line for line in server.stdout), server.communicate()
            script = (str(EXAMPLES / "seed.py"), login1.address, str(PORT))
            with run_experiment(
                compute1, smartsim_venv, smartsim_venv.python, *script, env=TELEMETRY
            ) as seed:
                assert seed.process.wait(STEP_SECONDS) == 0, seed.output()
            assert "model: SmartSimStatus.STATUS_COMPLETED" in seed.output(), seed.output()
            assert "\ndatabase: 10." in seed.output(), seed.output()
        finally:
            server.kill()
    (said,) = compute1.path("/home/alice").glob("hello_world/.smartsim/**/model/**/hello_world.out")
    assert said.read_text() == "Hello World!\n"
