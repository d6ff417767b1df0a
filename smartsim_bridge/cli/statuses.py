"""Exit statuses that are the bridge's own; every other one is the command's."""

from __future__ import annotations

__all__ = ["INTERRUPTED", "NOT_EXECUTABLE", "NOT_FOUND", "OURS", "REFUSED", "WRONG_LINE"]

OURS = 255  # as ssh has it: the way failed, not the command
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it
INTERRUPTED = 130
WRONG_LINE = 2  # as argparse has it
REFUSED = 1
