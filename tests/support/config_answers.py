"""The same ssh_config, read by us and by the system's ssh."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from smartsim_bridge.ssh.host_config import HostConfig
from smartsim_bridge.ssh.keywords import HONOURED
from smartsim_bridge.ssh.ssh_config import read_host_config

from .users import us

__all__ = ["ME", "disagreements", "read", "said_by_ssh", "write_config"]

ME = us().name

# These ssh prints in another form, or not at all.
_NOT_COMPARED = {"host", "match", "include", "ignoreunknown"}
_FORMS = {"true": "yes", "Yes": "yes", "false": "no"}


def write_config(home: Path, text: str) -> Path:
    path = home / ".ssh" / "config"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((text + "\n").encode("utf-8", "surrogateescape"))
    return path


def read(
    home: Path,
    text: str,
    alias: str = "login1",
    environment: Mapping[str, str] | None = None,
    **given: str,
) -> HostConfig:
    path = write_config(home, text)
    return read_host_config(
        alias,
        path=str(path),
        given=given,
        local_user=ME,
        home=str(home),
        environment=environment or {},
    )


def said_by_ssh(config: Path, *options: str, alias: str = "login1") -> dict[str, list[str]] | None:
    """What `ssh -G` says; None where it refuses the file."""
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), *options, alias], capture_output=True, check=False
    )
    if done.returncode != 0:
        return None
    answers: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "surrogateescape").split("\n"):
        keyword, _, value = line.partition(" ")
        answers.setdefault(keyword.lower(), []).append(value)
    return answers


def disagreements(
    ours: HostConfig, theirs: Mapping[str, list[str]], defaults: Mapping[str, list[str]]
) -> dict[str, tuple[list[str], list[str]]]:
    """keyword -> (our values, those of ssh), where they are not the same.

    `defaults` is what ssh says without any file: that is what not saying anything means.
    """
    found = {}
    for keyword in {name.lower() for name in HONOURED} - _NOT_COMPARED:
        said = theirs.get(keyword, [])
        answer = ours.values.get(keyword, defaults.get(keyword, []))
        if keyword == "hostname":
            answer = [ours.hostname]
        elif keyword == "hostkeyalias" or keyword == "addressfamily":
            answer = [word.lower() for word in answer]
        elif keyword in ("userknownhostsfile", "globalknownhostsfile"):
            # ssh shows whose ~ it is.
            answer = [" ".join(word.replace("~", str(Path.home())) for word in answer)]
        elif keyword in ("proxyjump", "proxycommand"):
            answer = [word for word in answer if word.lower() != "none"]
        elif keyword == "port":
            answer = [str(int(word)) if word.isdigit() else word for word in answer]
        if _in_one_form(answer) != _in_one_form(said):
            found[keyword] = (answer, said)
    return found


def _in_one_form(words: list[str]) -> list[str]:
    return [_FORMS.get(word, word) for word in words]
