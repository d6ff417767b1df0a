"""What may follow `%bridge` at a press of Tab: hosts that ssh_config names, and options."""

from __future__ import annotations

import argparse
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidSettings
from ..ssh.config_line import split_keyword, split_words
from .options import option_names

__all__ = ["candidates", "named_hosts"]

MAX_INCLUDE_DEPTH = 16  # as ssh
_CONFIG = Path("~", ".ssh", "config")


def candidates(parser: argparse.ArgumentParser, symbol: str) -> list[str]:
    """Words that begin with `symbol`."""
    is_option = symbol.startswith("-")
    words = option_names(parser) if is_option else named_hosts(_CONFIG.expanduser())
    return sorted({word for word in words if word.startswith(symbol)})


def named_hosts(config: Path, depth: int = 0) -> Iterator[str]:
    """The names on `Host` lines that are no patterns; what cannot be read names none."""
    try:
        lines = config.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            keyword, rest = split_keyword(line, str(config))
            words = split_words(rest, str(config)) if keyword in ("host", "include") else []
        except InvalidSettings:  # ssh will say so; this is no place to
            continue
        if keyword == "host":
            yield from (word for word in words if not set(word) & set("*?!"))
        elif depth < MAX_INCLUDE_DEPTH:
            for pattern in words:
                for path in sorted(glob.glob(_beside(config, pattern))):
                    yield from named_hosts(Path(path), depth + 1)


def _beside(config: Path, pattern: str) -> str:
    """As ssh: what is no full path lies in ~/.ssh."""
    return os.path.join(_CONFIG.expanduser().parent, os.path.expanduser(pattern))
