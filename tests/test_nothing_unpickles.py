"""Nothing that arrives is unpickled or evaluated, on either half."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import smartsim_bridge

PACKAGE = Path(smartsim_bridge.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

MODULES = {"cPickle", "cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {"recv_pyobj", "send_pyobj", "loads_pyobj"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_source_neither_unpickles_nor_evaluates(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not {name.name.partition(".")[0] for name in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in MODULES
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in CALLS
        elif isinstance(node, ast.Attribute):
            assert node.attr not in METHODS
