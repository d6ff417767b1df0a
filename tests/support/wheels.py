"""A directory with a wheel of pyzmq in it, which pip is told to look into, and nowhere else.

Where the head's Python has our version, the wheel is made out of the pyzmq that runs these
tests; only for another version pip has to fetch one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from .head_python import HeadPython

__all__ = ["LEFT_OUT", "Links", "find_links", "links", "make_wheel", "zip_of"]

FETCH_SECONDS = 180.0
# What an installation adds to a wheel.
LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json")


class Links:
    """`directory` for PIP_FIND_LINKS, and the one `wheel` in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (self.wheel,) = directory.glob("*.whl")

    @property
    def environment(self) -> dict[str, str]:
        """With this pip finds the wheel, and nothing else."""
        return {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.directory),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_EXTRA_INDEX_URL": "",
        }


def make_wheel(directory: Path) -> Path | None:
    """The installed pyzmq as the wheel that it was; None where it was none."""
    try:
        installed = distribution("pyzmq")
    except PackageNotFoundError:
        return None
    tags = _tags(installed)
    if not tags:
        return None
    path = directory / f"pyzmq-{installed.version}-{tags}.whl"
    members = {}
    for file in installed.files or ():
        name = file.as_posix()
        if name.endswith(".pyc") or file.name in LEFT_OUT or name.startswith(".."):
            continue
        members[name] = Path(str(file.locate())).read_bytes()
    path.write_bytes(zip_of(members))
    return path


def zip_of(members: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    """A zip file, with these modes of files; a regular one of 0644 where none is told."""
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _tags(installed: Distribution) -> str:
    """`cp311-cp311-A.B`, from the tags of each platform."""
    lines = (installed.read_text("WHEEL") or "").splitlines()
    tags = [line.partition(": ")[2].strip() for line in lines if line.startswith("Tag: ")]
    if not tags:
        return ""
    platforms = ".".join(tag.split("-")[2] for tag in tags)
    return "-".join([*tags[0].split("-")[:2], platforms])


def find_links(python: HeadPython, directory: Path) -> Links:
    """A wheel for that Python."""
    directory.mkdir(exist_ok=True)
    if python.version != sys.version_info[:2] or make_wheel(directory) is None:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--only-binary=:all:"),
                *("--implementation", "cp", "--python-version", ".".join(map(str, python.version))),
                *("--dest", str(directory), "pyzmq>=26"),
            ],
            check=True,
            timeout=FETCH_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    return Links(directory)


@pytest.fixture(scope="session")
def _links_directory(head_python: HeadPython, tmp_path_factory: pytest.TempPathFactory) -> Links:
    return find_links(head_python, tmp_path_factory.mktemp("wheels") / "links")


@pytest.fixture
def links(_links_directory: Links, monkeypatch: pytest.MonkeyPatch) -> Links:
    """The one wheel that the head's Python needs; pip here finds it, and nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in _links_directory.environment.items():
        monkeypatch.setenv(name, value)
    return _links_directory
