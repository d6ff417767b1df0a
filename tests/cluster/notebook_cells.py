"""Runs inside a host, as a user: a notebook's cells in a kernel, and says what they printed.

A list of cells in JSON on standard input, a list of texts as the last line of standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import nbformat
from nbclient import NotebookClient

CELL_SECONDS = 120


def run_cells(cells: list[str]) -> list[str]:
    """An error of a cell is its output, and the next one runs all the same."""
    written = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": one} for one in cells]
    notebook = nbformat.from_dict(  # type: ignore[no-untyped-call]
        {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": written}
    )
    NotebookClient(notebook, timeout=CELL_SECONDS, allow_errors=True).execute()
    return ["".join(map(_text, cell.outputs)) for cell in notebook.cells]


def _text(output: Any) -> str:
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    if output.output_type == "stream":
        return str(output.text)
    return str(output.data.get("text/plain", ""))


if __name__ == "__main__":
    texts = run_cells(json.load(sys.stdin))
    print()
    print(json.dumps(texts), flush=True)
