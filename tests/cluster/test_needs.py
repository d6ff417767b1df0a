"""Who cannot boot a cluster is told why; this needs none."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from . import needs


def test_an_ordinary_user_is_told_that_it_takes_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in needs.why_no_cluster()


def test_what_is_not_installed_is_named_as_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, path: None if name == "nft" else which(name, path=path)
    )
    assert "nftables" in needs.missing_packages()


def test_another_system_than_linux_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux" in needs.why_no_cluster()
