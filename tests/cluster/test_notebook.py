"""The notebook of the docs, run where its picture was taken."""

from __future__ import annotations

import ast
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until

from .cluster import Cluster
from .site import CLONE

pytestmark = pytest.mark.cluster

SCRIPT = Path(__file__).parents[2] / "docs" / "draw_notebook.py"


def outputs(cell: Any) -> tuple[str, str]:
    """What it printed on stdout, and the text of what it gave."""
    streams = [one for one in cell["outputs"] if one["output_type"] == "stream"]
    given = [one for one in cell["outputs"] if one["output_type"] == "execute_result"]
    printed = "".join("".join(one["text"]) for one in streams if one["name"] == "stdout")
    return printed, "".join("".join(one["data"]["text/plain"]) for one in given)


def test_the_pictured_notebook_runs_without_slurm_on_its_host(cluster: Cluster) -> None:
    spec = spec_from_file_location("draw_notebook", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    draw = module_from_spec(spec)
    spec.loader.exec_module(draw)
    connect, submit, names, status, commands = map(
        outputs, json.loads(draw.run_on(cluster))["cells"]
    )
    assert connect == ("", "")
    lines = submit[0].splitlines()
    assert [line for line in lines if line.startswith("Submitted batch job ")] == lines[:2]
    assert sorted(lines[2:4]) == ["0: compute1", "1: compute2"]
    # The step of srun may be listed while it is tidied up.
    assert {"ocean", "ice"} <= set(" ".join(lines[4:]).split())
    assert {"ocean", "ice"} <= set(ast.literal_eval(names[1]))
    assert status[1].startswith("connected by tunnel to login1")
    assert "squeue --me --noheader" in commands[1]


INTERRUPTED = """
import sys
from tests.support.notebook import running_notebook
presses = [None] * int(sys.argv[1])
def press(cell):
    while "runs" in cell.stdout and presses:
        presses.pop()
        notebook.interrupt()
with running_notebook() as notebook:
    notebook.execute("%load_ext smartsim_bridge\\n%bridge login1")
    cell = notebook.execute("%head srun -N 2 sh -c 'echo runs; sleep 300'", meanwhile=press)
    print(cell.error)
"""


@pytest.mark.parametrize("presses", ["1", "2"])
def test_the_stop_button_ends_a_step_on_the_nodes(cluster: Cluster, presses: str) -> None:
    """srun wants to be interrupted twice within a second; most press a button once."""
    cluster.without_slurm("compute1")
    near = cluster.near("compute1", "alice")
    done = near.python(INTERRUPTED, presses, env={"PYTHONPATH": str(CLONE)})
    assert done.stdout.splitlines() == ["KeyboardInterrupt: "], done.stderr
    login1 = cluster.host("login1")
    wait_until(lambda: login1.run("squeue", "--me", "--noheader", user="alice").stdout == "")
