from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import smartsim_bridge
from smartsim_bridge import __version__
from smartsim_bridge.bootstrap import artifact
from smartsim_bridge.bootstrap.artifact import build, far_half, weights

# A far half that grows beyond this makes every cold start slower; think before raising it.
MOST_BYTES = 200_000


def names() -> list[str]:
    with zipfile.ZipFile(io.BytesIO(build().content)) as archive:
        return archive.namelist()


def test_equal_sources_give_equal_bytes() -> None:
    first = build().content
    build.cache_clear()

    assert build().content == first


def test_it_is_built_once_per_process() -> None:
    assert build() is build()


def test_another_process_builds_the_same() -> None:
    script = "from smartsim_bridge.bootstrap.artifact import build; print(build().digest)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == build().digest


def test_it_can_be_built_from_a_package_inside_a_zip_file(tmp_path: Path) -> None:
    package = Path(smartsim_bridge.__file__).parent
    bundle = tmp_path / "bundle.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        for path in sorted(package.rglob("*.py")):
            archive.write(path, path.relative_to(package.parent))
    script = "from smartsim_bridge.bootstrap.artifact import build; print(build().digest)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(bundle)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == build().digest


def test_the_name_carries_version_and_digest() -> None:
    digest = hashlib.sha256(build().content).hexdigest()

    assert build().digest == digest
    assert build().name == f"smartsim-bridge-{__version__}-{digest[:12]}.pyz"


def test_the_far_half_travels_and_the_near_half_does_not() -> None:
    rooms = {name.split("/")[1] for name in names() if "/" in name}

    assert rooms == {"__init__.py", "errors.py", "protocol", "links", "server", "files"}
    assert "__main__.py" in names()


def test_nothing_but_python_travels() -> None:
    assert all(name.endswith(".py") for name in names())
    assert names() == sorted(names())


def test_the_source_is_sent_as_it_is() -> None:
    with zipfile.ZipFile(io.BytesIO(build().content)) as archive:
        assert all(archive.read(name) == source for name, source in far_half())


def test_it_is_light() -> None:
    assert build().size < MOST_BYTES


def test_the_table_names_each_module_and_the_sum() -> None:
    table = weights()

    assert all(name in table for name in names())
    assert table.splitlines()[-1].split()[1] == str(build().size)


def test_the_representation_does_not_show_the_content() -> None:
    assert len(repr(build())) < 300


def test_the_entry_starts_the_server() -> None:
    assert "smartsim_bridge.server.__main__" in artifact.ENTRY
