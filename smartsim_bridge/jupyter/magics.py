"""%bridge, %head and %%head.

Knows IPython's shell as what runs magics and holds the user's variables.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import smartsim_bridge

from ..client.blocking import Bridge, Command
from ..client.status import BridgeStatus
from ..current import current_bridge
from ..errors import BridgeClosed, CommandServerError, NoServer
from .following import STDERR, STDOUT, Following, feed, in_thread
from .options import bridge_parser, head_parser, parse, parse_before_command
from .progress import Lines, Picture, Progress
from .targets import candidates

__all__ = ["BridgeMagics", "forget"]

_CONNECT_FIRST = "Connect first, with %bridge TARGET or init_command_server()."

# A cell is its shell's script file, not its input: srun and ssh read what input there is, and
# would take the rest of the cell with them.
_AS_FILE = "exec 3<&0 </dev/null; exec ${*:-$(command -v bash || echo sh)} /dev/fd/3"
_SHELLS = ("sh", "bash", "dash", "ksh", "zsh")


class BridgeMagics:
    """The magics of one IPython shell, and the bridge that they made."""

    # Of the class, for %reload_ext makes another of these: the user must not be asked again.
    _made: ClassVar[tuple[dict[str, Any], Bridge] | None] = None

    def __init__(self, ipython: Any) -> None:
        self._ipython = ipython
        self._connecting = bridge_parser(smartsim_bridge.init_command_server)
        self._running = head_parser()

    def register(self) -> None:
        """Makes them known to the shell, which then finds them by name."""
        register = self._ipython.register_magic_function
        register(self.bridge, "line", "bridge")
        register(self.head, "line_cell", "head")
        self._ipython.set_hook("complete_command", self._complete, str_key="%bridge")

    def bridge(self, line: str) -> Bridge | BridgeStatus | None:
        """Connects to a head node, and tells how the connection is.

        %bridge TARGET [OPTION ...]   connect; starts a server there if none runs
        %bridge                       the status
        %bridge --close               close the bridge; the server runs on
        %bridge --stop                end the server, and all its commands

        TARGET is a host, user@host:port, or a name of ssh_config.  The options are the keywords
        of init_command_server: --transport tunnel, --user NAME, --ssh-port 2222, --timeout 60,
        --no-autostart ...; see `init_command_server?`.

        Gives the Bridge, or its BridgeStatus: bridge = %bridge login1
        """
        given = vars(parse(self._connecting, line))
        is_closing, is_stopping = given.pop("close"), given.pop("stop")
        keywords = {name: value for name, value in given.items() if value is not None}
        with _Plainly():
            if is_closing or is_stopping:
                self._end(is_stopping)
                return None
            if not keywords:
                return _current().status()
            return self._connect({"autostart": True, **keywords})

    def head(self, line: str, cell: str | None = None) -> None:
        """Runs a command, or a cell, on the head node; output appears while it comes.

        %head [OPTION ...] COMMAND    a line for the shell there, pipes and all
        %%head [OPTION ...]           the cell is a script for bash there, or sh

        --cwd DIRECTORY      where to run it, on the head
        --shell INTERPRETER  of a cell: "python3 -u", tcsh ...; the cell is its input
        --out VARIABLE       stdout into a variable, as text, instead of the notebook
        --bg                 leave it running; bridge.attach(ID) comes back to it.  With --out
                             the variable gets the id
        --no-raise-error     else CalledProcessError for every exit status but 0; the status is
                             in _exit_code

        $name and {expression} in the line are filled in by IPython, as after "!"; in a cell,
        as in %%bash, nothing is.  Interrupt the kernel to end the command.
        """
        options, command = parse_before_command(self._running, line)
        if cell is None and not command:
            self._running.error("there is no command: %head COMMAND")
        if cell is None and options.shell:
            self._running.error("--shell is for cells: %%head --shell INTERPRETER")
        if cell is not None and command:
            self._running.error(f"what to run stands below %%head, not behind it: {command}")
        with _Plainly():
            bridge = _current()
            if not (bridge.is_linked or bridge.is_closed):
                _print_to_stderr("%head: there is no link; looking for another ...\n")
            if cell is None:
                started = _start(bridge, command, options)
            else:
                started = _start(bridge, _words(options.shell), options, cell)
            name = f"%head {command}" if cell is None else f"%%head {line}".rstrip()
            if options.bg:
                self._leave(started, options.out)
            else:
                self._follow(bridge, started, name, options)

    # --- %bridge

    def _connect(self, keywords: dict[str, Any]) -> Bridge:
        words, former = self._made or ({}, None)
        if former is not None and words == keywords and _is_in_use(former):
            return former  # the cell was run again: nobody wants to be asked for a code again
        progress = self._progress(keywords.get("addr", "the head"))
        try:
            made = smartsim_bridge.init_command_server(**keywords, on_stage=progress)
        except BaseException as error:
            progress.fail(error)
            if progress.shows_advice and isinstance(error, CommandServerError):
                _show_as(error, error.what)
            raise
        progress.succeed()
        type(self)._made = (keywords, made)
        if former is not None:
            former.close()
        return made

    def _progress(self, target: str) -> Progress:
        if getattr(self._ipython, "kernel", None) is None:
            return Lines(target)
        from IPython.display import display

        return Picture(target, display)

    def _end(self, is_stopping: bool) -> None:
        bridge = _current()
        told = repr(bridge)
        if is_stopping:
            smartsim_bridge.shutdown_command_server(bridge)
        else:
            bridge.close()
        if self._made is not None and self._made[1] is bridge:
            type(self)._made = None
        sys.stdout.write(f"{'server stopped' if is_stopping else 'closed'}: {told}\n")

    def _complete(self, ipython: Any, event: Any) -> list[str]:
        return candidates(self._connecting, event.symbol)

    # --- %head

    def _follow(
        self, bridge: Bridge, command: Command, name: str, options: argparse.Namespace
    ) -> None:
        kept: list[str] = []
        show = {STDOUT: kept.append if options.out else _print, STDERR: _print_to_stderr}
        returncode = Following(bridge, command, show, flush=_flush).follow()
        self._ipython.user_ns["_exit_code"] = returncode
        if options.out:
            self._ipython.user_ns[options.out] = "".join(kept)
        if returncode and options.raises:
            raise subprocess.CalledProcessError(returncode, name, "".join(kept) or None)

    def _leave(self, command: Command, variable: str | None) -> None:
        left = command.detach()
        if variable:
            self._ipython.user_ns[variable] = left
        sys.stdout.write(f"left running as {left}\n")


class _Plainly:
    """An error that leaves the block is shown without the way it took through our rooms."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: Any, traceback: object) -> None:
        if isinstance(
            error, (CommandServerError, OSError, subprocess.SubprocessError, KeyboardInterrupt)
        ):
            if isinstance(error, BridgeClosed):
                error.advice = _CONNECT_FIRST
            _show_as(error, str(error))


def _show_as(error: BaseException, text: str) -> None:
    """IPython asks an exception for this; the first word on it stays."""
    said = f"{type(error).__name__}: {text}".removesuffix(": ")
    # Picklable, for errors cross processes.
    error.__dict__.setdefault("_render_traceback_", partial(list, [said]))


def forget(ipython: Any) -> None:
    """Takes them away again."""
    for kind, name in (("line", "bridge"), ("line", "head"), ("cell", "head")):
        ipython.magics_manager.magics[kind].pop(name, None)
    ipython.strdispatchers["complete_command"].strs.pop("%bridge", None)


def _current() -> Bridge:
    try:
        return current_bridge()
    except NoServer as none:
        raise NoServer(none.what, advice=_CONNECT_FIRST) from None


def _is_in_use(bridge: Bridge) -> bool:
    """Whether it is the one that %head takes, and connected."""
    try:
        return _current() is bridge and bridge.status().connected
    except CommandServerError:
        return False


def _words(shell: list[str]) -> list[str]:
    """What runs a cell that is its input."""
    if shell and os.path.basename(shell[0]) not in _SHELLS:
        return shell
    return ["/bin/sh", "-c", _AS_FILE, "%%head", *shell]


def _start(
    bridge: Bridge, command: str | Sequence[str], options: argparse.Namespace, cell: str = ""
) -> Command:
    started = bridge.popen(
        command,
        shell=isinstance(command, str),
        cwd=options.cwd,
        stdin=subprocess.PIPE if cell else subprocess.DEVNULL,
        text=False,
    )
    if cell:
        give = partial(feed, started, cell.encode("utf-8", "surrogateescape"))
        if options.bg:
            _now(give, started)
        else:
            in_thread("cell", give)
    return started


def _now(give: Callable[[], None], command: Command) -> None:
    """Who lets go of a command must have told it all; a half of it must not run."""
    try:
        give()
    except BaseException:
        command.kill()
        raise


def _print(text: str) -> None:
    sys.stdout.write(text)


def _print_to_stderr(text: str) -> None:
    sys.stderr.write(text)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
