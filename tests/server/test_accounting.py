"""What slurm.conf says of accounting, as Slurm reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartsim_bridge.server.accounting import MAX_BYTES, why_no_accounting

NONE = "ClusterName=c\n"
SLURMDBD = "AccountingStorageType=accounting_storage/slurmdbd\n"


def says_none(text: str, directory: Path) -> bool:
    file = directory / "slurm.conf"
    file.write_text(text, "utf-8")
    why = why_no_accounting("/usr/bin/sacct", {"SLURM_CONF": str(file)})
    assert why in ("", str(file))
    return bool(why)


@pytest.mark.parametrize(
    "text",
    [
        NONE,
        "",
        "AccountingStorageType=accounting_storage/none\n",
        "AccountingStorageType=(null)\n",
        f"#{SLURMDBD}",
        f"ClusterName=c # {SLURMDBD}",
        f"{SLURMDBD}AccountingStorageType=accounting_storage/none\n",
        "JobAcctGatherType=jobacct_gather/linux\nAccountingStorageHost=db\n",
    ],
)
def test_without_a_storage_there_is_none(text: str, tmp_path: Path) -> None:
    assert says_none(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        NONE + SLURMDBD,
        SLURMDBD.lower(),
        SLURMDBD.upper(),
        "  AccountingStorageType = accounting_storage/slurmdbd",
        'AccountingStorageType="accounting_storage/slurmdbd"\n',
        "ClusterName=c AccountingStorageType=accounting_storage/slurmdbd # ours\n",
        "AccountingStorageType=\\\n accounting_storage/slurmdbd\n",
        SLURMDBD.replace("\n", "\r\n"),
        "AccountingStorageType=accounting_storage/filetxt\n",
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1") + "\n" + SLURMDBD,
    ],
)
def test_with_a_storage_nothing_is_said(text: str, tmp_path: Path) -> None:
    assert not says_none(text, tmp_path)


def test_what_is_included_counts(tmp_path: Path) -> None:
    (tmp_path / "db.conf").write_text(SLURMDBD, "ascii")
    assert not says_none(f"{NONE}include db.conf\n", tmp_path)
    assert not says_none(f"Include {tmp_path}/db.conf # site\n", tmp_path)
    (tmp_path / "db.conf").write_text(NONE, "ascii")
    assert says_none("Include db.conf\n", tmp_path)


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert not says_none("Include %c.conf\n", tmp_path)
    assert not says_none("Include slurm.conf\n", tmp_path)  # itself
    assert not says_none("#" * (MAX_BYTES + 1), tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", tmp_path / "gone", Path("slurm.conf")):
        assert why_no_accounting("/usr/bin/sacct", {"SLURM_CONF": str(place)}) == ""


@pytest.mark.parametrize("place", ["etc/slurm.conf", "etc/slurm/slurm.conf"])
def test_without_a_name_it_lies_where_that_slurm_is(place: str, tmp_path: Path) -> None:
    file, program = tmp_path / "opt" / place, tmp_path / "opt/bin/sacct"
    for each in (file, program):
        each.parent.mkdir(parents=True)
        each.write_text(NONE, "ascii")
    link = tmp_path / "sacct"
    link.symlink_to(program)
    assert why_no_accounting(str(link), {}) == str(file)
