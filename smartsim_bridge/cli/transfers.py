"""put, get and sync: files and folders, to the head and back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .statuses import REFUSED
from .voice import say
from .way import add, connect

if TYPE_CHECKING:
    from ..client.blocking import Bridge
    from ..files.report import FilesReport, Left, Listener

__all__ = ["add_get", "add_put", "add_sync"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LISTED = 20  # names of a list that a person still reads


def add_put(verbs: Any) -> None:
    """`put`, among the verbs."""
    put = add(verbs, "put", _put, "copy a file or folder to the head")
    put.add_argument("source", metavar="LOCAL")
    put.add_argument("target", metavar="REMOTE", help="how it is called there; NAME/: goes into it")
    _add_common(put)


def add_get(verbs: Any) -> None:
    """`get`, among the verbs."""
    get = add(verbs, "get", _get, "copy a file or folder from the head")
    get.add_argument("source", metavar="REMOTE")
    get.add_argument("target", metavar="LOCAL", help="how it is called here; NAME/: goes into it")
    _add_common(get)


def add_sync(verbs: Any) -> None:
    """`sync`, among the verbs."""
    sync = add(verbs, "sync", _sync, "make a folder here and one on the head the same")
    sync.add_argument("source", metavar="FOLDER")
    sync.add_argument("target", metavar="REMOTE")
    sync.add_argument(
        "--direction", choices=("up", "down", "both"), default="up", help="default: up"
    )
    sync.add_argument("--delete", action="store_true", help="what is gone on one side goes, too")
    sync.add_argument("--keep-newer", action="store_true", help="and name what is not replaced")
    _add_common(sync)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-autostart", action="store_true", help="only with a running server")
    parser.add_argument("--symlinks", choices=("keep", "follow", "skip"), default="keep")
    for option in ("--include", "--exclude"):
        parser.add_argument(
            option, action="append", default=[], metavar="PATTERN", help="as in .gitignore"
        )
    parser.add_argument("--max-size", type=_size, metavar="BYTES", help="of a file; 10M, 2G ...")


def _put(options: argparse.Namespace) -> int:
    def act(bridge: Bridge, progress: Listener) -> Iterator[FilesReport]:
        yield bridge.put(options.source, options.target, progress=progress, **_common(options))

    return _move(options, act)


def _get(options: argparse.Namespace) -> int:
    def act(bridge: Bridge, progress: Listener) -> Iterator[FilesReport]:
        yield bridge.get(options.source, options.target, progress=progress, **_common(options))

    return _move(options, act)


def _sync(options: argparse.Namespace) -> int:
    def act(bridge: Bridge, progress: Listener) -> Iterator[FilesReport]:
        report = bridge.sync(
            options.source,
            options.target,
            direction=options.direction,
            delete=options.delete,
            keep_newer=options.keep_newer,
            progress=progress,
            **_common(options),
        )
        if options.direction != "down":
            yield report.up
        if options.direction != "up":
            yield report.down

    return _move(options, act)


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("symlinks", "include", "exclude", "max_size")}


def _move(
    options: argparse.Namespace, act: Callable[[Bridge, Listener], Iterator[FilesReport]]
) -> int:
    from ..bars import ProgressBar
    from ..errors import TransferIncomplete
    from ..files.report import SyncReport

    with connect(options, autostart=not options.no_autostart) as bridge:
        try:
            with ProgressBar(options.verb) as bar:
                reports = list(act(bridge, bar))
        except OSError as refused:
            say(f"{options.verb}: {refused.filename or ''}: {refused.strerror or refused}")
            return REFUSED
        except ValueError as wrong:
            say(f"{options.verb}: {wrong}")
            return REFUSED
        except TransferIncomplete as incomplete:
            report = incomplete.report
            told = (report.up, report.down) if isinstance(report, SyncReport) else (report,)
            for one in told:
                _tell(one)  # type: ignore[arg-type]
            raise
    for report in reports:
        _tell(report)
    return REFUSED if any(report.conflicts for report in reports) else 0


def _tell(report: FilesReport) -> None:
    """On stdout what was done, on stderr what was not."""
    if report.target:
        sys.stdout.write(f"{_summary(report)}: {report.target}\n")
    for word, left in (
        ("skipped", report.skipped),
        ("conflict", report.conflicts),
        ("failed", report.failed),
    ):
        _name(word, left)


def _summary(report: FilesReport) -> str:
    words = [f"{report.files} files, {report.bytes} bytes"]
    for count, word in (
        (report.resumed, "bytes were there"),
        (report.unchanged, "unchanged"),
        (len(report.deleted), "deleted"),
    ):
        if count:
            words.append(f"{count} {word}")
    return ", ".join(words)


def _name(word: str, left: tuple[Left, ...]) -> None:
    for one in left[:_LISTED]:
        say(f"{word}: {one.path!r}: {one.reason}")
    if len(left) > _LISTED:
        say(f"{word}: {len(left) - _LISTED} more")


def _size(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text} is no size: 500K, 10M, 2G") from None
