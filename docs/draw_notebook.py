#!/usr/bin/env python3
"""Runs a notebook on a compute node of the test cluster, and takes its picture for the docs.

    python docs/draw_notebook.py [FILE]      default: images/notebook.png
    python docs/draw_notebook.py --dark FILE

It needs what the test cluster needs (CONTRIBUTING.md), nbconvert, pillow, and Debian's
chromium.  Nothing is retouched: what is in the picture, the cells have shown; the path of
this interpreter, too.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # the tests, which boot the cluster

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

PICTURE = DOCS / "images" / "notebook.png"
CHROMIUM = "chromium"
WIDTH = 940  # CSS pixels: of a notebook beside its file list
SCALE = 1.5
COLOURS = 128  # as many as anybody sees, at a third of the bytes
RUN_SECONDS = 120.0
DRAW_SECONDS = 60.0

CELLS = (
    "%load_ext smartsim_bridge\nbridge = %bridge login1",
    """%%head
for model in ocean ice; do
    sbatch -J $model --wrap "sleep 600"
done
srun -N 2 --label hostname
squeue --me""",
    "names = !squeue --me --noheader --format %j\nnames",
    "%bridge",
    "bridge.commands()",
)

# In the place of the person: as nbclient does it, on the compute node.
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.stdin, as_version=4)
nbclient.NotebookClient(notebook, timeout=60).execute()
nbformat.write(notebook, sys.stdout)
"""

# The page of nbconvert is made for reading; here only the cells count.
STYLE = """
<style>
  body, main { padding: 6px 14px 6px 0 !important; margin: 0 !important; overflow: hidden }
  .jp-Cell { margin-bottom: 2px }
  .jp-InputPrompt, .jp-OutputPrompt { flex: 0 0 62px !important; width: 62px !important }
  .jp-CodeCell.jp-mod-outputsScrolled .jp-Cell-outputArea { max-height: none }
</style>
"""
MEASURE = "<script>onload = () => document.title = 'height ' + document.body.scrollHeight</script>"


def main(arguments: Sequence[str]) -> int:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dark", action="store_true", help="as the dark theme shows it")
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    photograph(page(executed(), "dark" if options.dark else "light"), options.file)
    sys.stdout.write(f"{options.file.name}: {options.file.stat().st_size // 1000} kB\n")
    return 0


def executed() -> str:
    """The notebook, run on a cluster of its own, as JSON."""
    from tests.cluster.cluster import Cluster

    with Cluster() as cluster:
        cluster.reset()
        return run_on(cluster)


def run_on(cluster: Cluster) -> str:
    """The notebook, run by alice on compute1 where there is no Slurm, as JSON."""
    import nbformat

    cells = [nbformat.v4.new_code_cell(one) for one in CELLS]
    cluster.without_slurm("compute1")
    done = cluster.near("compute1", "alice").python(
        RUN, input=nbformat.writes(nbformat.v4.new_notebook(cells=cells)), timeout=RUN_SECONDS
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def page(notebook: str, theme: str) -> str:
    """As JupyterLab shows it."""
    import nbformat
    from nbconvert import HTMLExporter

    cells = nbformat.reads(notebook, as_version=4)
    html, _ = HTMLExporter(template_name="lab", theme=theme).from_notebook_node(cells)
    # Mathematics would be fetched from elsewhere.
    html = re.sub(r'<script[^>]*src="https?://[^>]*></script>', "", html)
    return str(html).replace("</head>", f"{STYLE}{MEASURE}</head>")


def photograph(html: str, file: Path) -> None:
    """The whole page, as high as it is."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "page.html")
        source.write_text(html, "utf-8")
        dom = _chromium(directory, "--dump-dom", f"--window-size={WIDTH},400", source.as_uri())
        found = re.search(r"<title>height (\d+)", dom)
        if found is None:
            raise SystemExit("the page does not tell its height")
        _chromium(
            directory,
            f"--screenshot={file.resolve()}",
            f"--window-size={WIDTH},{int(found[1]) + 12}",
            f"--force-device-scale-factor={SCALE}",
            source.as_uri(),
        )
    with Image.open(file) as drawn:
        drawn.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


def _chromium(profile: str, *options: str) -> str:
    quiet = ("--headless", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}")
    # No sandbox: it needs what root in a container has not; the page is our own.
    done = subprocess.run(
        [CHROMIUM, *quiet, "--no-sandbox", *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=DRAW_SECONDS,
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
