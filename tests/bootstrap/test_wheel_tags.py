from __future__ import annotations

import pytest

from smartsim_bridge.bootstrap.facts import Build
from smartsim_bridge.bootstrap.wheel_tags import tags_for


def build(
    soabi: str = "cpython-39-x86_64-linux-gnu",
    platform: str = "linux-x86_64",
    libc: str = "glibc 2.28",
    bits: int = 64,
    machine: str = "x86_64",
) -> Build:
    return Build(soabi, platform, machine, bits, libc)


@pytest.mark.parametrize(
    ("given", "python", "abi", "first", "last"),
    [
        (build(), "3.9", "cp39", "manylinux_2_28_x86_64", "manylinux2014_x86_64"),
        (
            build(libc="glibc 2.17"),
            *("3.9", "cp39", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
        ),
        (
            build("cpython-313t-aarch64-linux-gnu", "linux-aarch64", "glibc 2.39"),
            *("3.13", "cp313t", "manylinux_2_39_aarch64", "manylinux2014_aarch64"),
        ),
        (
            build("cpython-312-powerpc64le-linux-gnu", "linux-ppc64le"),
            *("3.12", "cp312", "manylinux_2_28_ppc64le", "manylinux2014_ppc64le"),
        ),
        (
            build("cpython-311-i386-linux-gnu", bits=32),
            *("3.11", "cp311", "manylinux_2_28_i686", "manylinux2014_i686"),
        ),
        (
            build("cpython-311-arm-linux-gnueabihf", "linux-aarch64", bits=32),
            *("3.11", "cp311", "manylinux_2_28_armv7l", "manylinux2014_armv7l"),
        ),
        (
            build("cpython-312-x86_64-linux-musl", libc="macos "),
            *("3.12", "cp312", "musllinux_1_2_x86_64", "musllinux_1_1_x86_64"),
        ),
        (
            build("cpython-310-darwin", "macosx-11.0-arm64", "macos 14.5", machine="arm64"),
            *("3.10", "cp310", "macosx_14_0_arm64", "macosx_14_0_arm64"),
        ),
        (
            build("cpython-310-darwin", "macosx-10.9-universal2", "macos 10.15.7"),
            *("3.10", "cp310", "macosx_10_15_x86_64", "macosx_10_15_x86_64"),
        ),
        (
            build("cpython-310-darwin", "macosx-10.9-universal2", "macos 10.16"),
            *("3.10", "cp310", "macosx_11_0_x86_64", "macosx_11_0_x86_64"),
        ),
    ],
    ids=lambda value: value.soabi + value.libc if isinstance(value, Build) else "",
)
def test_tags_of(given: Build, python: str, abi: str, first: str, last: str) -> None:
    tags = tags_for(given)

    assert (tags.python, tags.abi) == (python, abi)
    assert (tags.platforms[0], tags.platforms[-1]) == (first, last)
    assert tags.name == f"{abi}-{first}"


def test_an_older_library_is_enough_a_newer_one_is_never_asked_for() -> None:
    platforms = tags_for(build(libc="glibc 2.19")).platforms

    assert platforms == (
        "manylinux_2_19_x86_64",
        "manylinux_2_18_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
    )


def test_pip_is_asked_for_each_of_them() -> None:
    options = tags_for(build(libc="glibc 2.17")).options

    assert options == [
        *("--implementation", "cp", "--python-version", "3.9", "--abi", "cp39"),
        *("--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64"),
    ]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "does not tell"),
        (build("pypy39-pp73-x86_64-linux-gnu"), "no CPython"),
        (build(""), "no CPython"),
        (build("cpython-312d-x86_64-linux-gnu"), "debug build"),
        (build("cpython-313td-x86_64-linux-gnu"), "debug build"),
        (build(libc="glibc 2.12"), r"glibc 2\.12 is older"),
        (build(libc="glibc strange"), "is older"),
        (build(platform="freebsd-14.0-RELEASE-amd64", libc="macos "), "freebsd"),
        (build("cpython-311-darwin", "macosx-11.0-arm64", "macos "), "no version of macOS"),
    ],
    ids=lambda value: value.soabi if isinstance(value, Build) else str(value),
)
def test_where_there_is_no_wheel_it_says_why(given: Build | None, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        tags_for(given)
