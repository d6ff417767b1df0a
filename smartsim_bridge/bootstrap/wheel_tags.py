"""Which wheel fits a Python on another host: what that Python says of itself, as pip's options.

Pure.  The tags are those of the packaging standards (PEP 425, 600, 656); that a wheel which
bears them really works is shown on the head, where it is tried before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .facts import Build

__all__ = ["Tags", "tags_for"]

_CPYTHON = re.compile(r"cpython-(\d)(\d+)([a-z]*)(?:-|$)")
OLDEST_GLIBC = 17  # of 2.17, the one of manylinux2014: pyzmq has no wheels for older ones
# What runs 32 bits on a kernel of 64 has the platform of the kernel, but not its wheels.
_NARROW = {"x86_64": "i686", "aarch64": "armv7l"}


@dataclass(frozen=True)
class Tags:
    """The wheels that fit one interpreter; `platforms` with the most demanding one first."""

    python: str  # "3.9"
    abi: str  # "cp39", "cp313t"
    platforms: tuple[str, ...]

    @property
    def name(self) -> str:
        """Tells these from others, in the name of a file."""
        return f"{self.abi}-{self.platforms[0]}"

    @property
    def has_stable_abi(self) -> bool:
        """Whether abi3 will do: not for free-threaded Pythons."""
        return not self.abi.endswith("t")

    @property
    def options(self) -> list[str]:
        """For `pip download`; that stable ABIs (abi3) will do, too, it knows itself."""
        platforms = [word for one in self.platforms for word in ("--platform", one)]
        interpreter = ["--implementation", "cp", "--python-version", self.python]
        return [*interpreter, "--abi", self.abi, *platforms]


def tags_for(build: Build | None) -> Tags:
    """Raises ValueError, with the reason, where there can be no wheel of pyzmq."""
    if build is None:
        raise ValueError("it does not tell what it was built for")
    found = _CPYTHON.match(build.soabi)
    if found is None:
        raise ValueError(f"it is no CPython ({build.soabi or 'no ABI'})")
    major, minor, flags = found.groups()
    if flags not in ("", "t"):
        raise ValueError(f"it is a debug build ({build.soabi}), for which no wheels are made")
    return Tags(f"{major}.{minor}", f"cp{major}{minor}{flags}", tuple(_platforms(build)))


def _platforms(build: Build) -> Iterator[str]:
    system, _, rest = build.platform.partition("-")
    if system == "macosx":
        yield _macos(build)
    elif system != "linux":
        raise ValueError(f"no wheels are made for {build.platform}")
    elif build.libc.startswith("glibc "):
        yield from _manylinux(build.libc, _architecture(rest, build.bits))
    else:
        # musl tells nobody its version.  1.2 is older than any Python that we can use.
        for version in ("1_2", "1_1"):
            yield f"musllinux_{version}_{_architecture(rest, build.bits)}"


def _architecture(spelled: str, bits: int) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", spelled)
    return _NARROW.get(name, name) if bits == 32 else name


def _manylinux(libc: str, architecture: str) -> Iterator[str]:
    found = re.match(r"glibc 2\.(\d+)", libc)
    newest = int(found[1]) if found else 0
    if newest < OLDEST_GLIBC:
        raise ValueError(f"{libc} is older than any wheel allows (2.{OLDEST_GLIBC})")
    for minor in range(newest, OLDEST_GLIBC - 1, -1):
        yield f"manylinux_2_{minor}_{architecture}"
    yield f"manylinux2014_{architecture}"  # as 2.17 was called before


def _macos(build: Build) -> str:
    """One is enough: pip knows which older ones it includes."""
    found = re.match(r"macos (\d+)\.(\d+)", build.libc)
    if found is None:
        raise ValueError(f"{build.libc!r} is no version of macOS")
    major, minor = int(found[1]), int(found[2])
    if (major, minor) == (10, 16):  # what 11 says to those who might not expect it
        major, minor = 11, 0
    return f"macosx_{major}_{minor if major == 10 else 0}_{build.machine}"
