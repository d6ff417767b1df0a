from __future__ import annotations

import dataclasses

import pytest

from smartsim_bridge import BridgeStatus, Rung
from smartsim_bridge.stages import Stage


def status(**changes: object) -> BridgeStatus:
    fields: dict[str, object] = {
        "connected": True,
        "transport": "stdio",
        "endpoint": "stdio of head",
        "server_host": "head",
        "server_pid": 17,
        "version": "0.1.0",
        "started": False,
        "rungs": (
            Rung("local", held=False, reason="head is another host", tried=False),
            Rung("tunnel", held=False, reason="the site forbids it"),
            Rung("stdio", held=True, reason=""),
        ),
    }
    return BridgeStatus(**{**fields, **changes})  # type: ignore[arg-type]


def test_it_tells_how_it_is_connected_and_why_not_otherwise() -> None:
    said = str(status()).splitlines()
    assert said[0] == "connected by stdio to head, server 0.1.0, pid 17"
    assert [line.strip() for line in said[1:]] == [
        "local: not tried, head is another host",
        "tunnel: failed, the site forbids it",
        "stdio: held",
    ]


def test_it_names_the_shims_and_what_of_the_job_stays_behind() -> None:
    said = str(status(shims=("sbatch", "squeue"), left_behind=("PMI_RANK", "SLURM_JOB_ID")))
    assert [line.strip() for line in said.splitlines()[-2:]] == [
        "shims: sbatch squeue",
        "left behind: PMI_RANK SLURM_JOB_ID",
    ]


def test_it_tells_why_it_is_not_connected() -> None:
    said = str(status(connected=False, fault="The server's heartbeat stopped"))
    assert said.startswith("not connected (The server's heartbeat stopped)")


def test_it_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        status().connected = False  # type: ignore[misc]
    assert status() == status()


def test_a_notebook_is_shown_all_of_it_and_runs_none_of_it() -> None:
    stages = (Stage("probe", "head", 0.25, "<script>alert(1)</script>"),)
    more = {"server_log": "/logs/<b>.log", "running": 3, "shims": ("sbatch",), "poll_cache": 2.0}
    html = status(stages=stages, **more)._repr_html_()
    for said in (
        "connected by stdio",
        "3 running",
        "the site forbids it",
        "not tried",
        "250 ms",
        "sbatch",
        "2 s old",
    ):
        assert said in html
    assert "<script" not in html
    assert "<b>" not in html
    assert "not connected" in status(connected=False, fault="it is cut")._repr_html_()
