"""SmartSim 0.8.0 in a notebook whose kernel is on a compute node that has no Slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.smartsim_venv import SmartSimVenv

from .cluster import Cluster
from .site import CLONE

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

WHOLE = Path(__file__).with_name("experiments") / "whole.py"
SEED = CLONE / "examples/seed.py"
OUTPUT = "/home/alice/output"
NOTEBOOK_SECONDS = 240.0
CONNECT = """
from smartsim_bridge import init_command_server
bridge = init_command_server("login1", autostart=True)
"""


def run_cells(cluster: Cluster, venv: SmartSimVenv, *cells: str) -> list[str]:
    """What each of them printed, after one that connects."""
    cluster.without_slurm("compute1")
    cluster.firewall.open()
    compute1 = cluster.host("compute1")
    compute1.run(
        # SmartSim's telemetry monitor has the same output, and may outlive the kernel.
        *("sh", "-c", f'exec "$@" >{OUTPUT} 2>&1', "sh"),
        *(venv.python, "-m", "tests.cluster.notebook_cells"),
        user="alice",
        input=json.dumps([CONNECT, *cells]),
        env={**venv.environment, "PYTHONPATH": str(CLONE)},
        timeout=NOTEBOOK_SECONDS,
    )
    lines = compute1.path(OUTPUT).read_text("utf-8").splitlines()
    texts: list[str] = json.loads(next(line for line in lines if line.startswith('["')))
    assert texts[0] == ""
    return texts[1:]


def test_what_smartsim_documents_runs_line_by_line(
    cluster: Cluster, smartsim_venv: SmartSimVenv
) -> None:
    imports, _, documented = SEED.read_text("utf-8").partition("# From here")
    lines = [line for line in imports.splitlines() if line.startswith("from smartsim")]
    lines += documented.splitlines()[1:]
    texts = run_cells(cluster, smartsim_venv, *lines)
    assert "model: SmartSimStatus.STATUS_COMPLETED\n" in texts, texts
    assert any(text.startswith("database: 10.") for text in texts), texts


@pytest.mark.soak
def test_all_of_an_experiment_runs_in_a_kernel(
    cluster: Cluster, smartsim_venv: SmartSimVenv
) -> None:
    whole = f"!touch whole.go\n%run {WHOLE} /home/alice/whole"
    summary = "print(experiment.summary(style='plain'))"
    text, summary, closed = run_cells(cluster, smartsim_venv, whole, summary, "bridge.close()")
    lines = [line for line in text.splitlines() if line.startswith('{"step"')]
    said = {line["step"]: line["said"] for line in map(json.loads, lines)}
    assert said["statuses"] == ["Completed", "Failed", "Completed", "Completed"], text
    assert said["database"][1:] == ["value", "spam"]
    assert said["database stopped"] == ["Cancelled"]
    assert "end" in said
    assert "long" in summary
    assert closed == ""
