"""Which of a shim's variables go along with its command.  Pure.

A command that was typed here means the environment it was typed in: `sbatch --export=ALL`
hands it to the job.  But what belongs to the enclosing job, to this host or to the bridge
means nothing on the head, or the wrong thing; and where the two share no files, nothing
that names files does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..protocol.environment import OURS, matches, without_job

__all__ = ["HOST_BOUND", "NEEDS_OUR_FILES", "goes_along", "merged_path"]

# Names a socket, a screen, a scratch directory or a login that only this host has.
HOST_BOUND = (
    *("SSH_*", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_*", "GPG_*", "KRB5CCNAME"),
    *("XDG_RUNTIME_DIR", "XDG_SESSION_*", "XDG_VTNR", "XDG_SEAT", "TMPDIR", "TMP", "TEMP"),
    *("HOSTNAME", "HOST", "HOSTTYPE", "MACHTYPE", "TTY", "SSH_TTY", "TMUX", "TMUX_PANE", "STY"),
    *("NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_*", "SHLVL", "_"),
    *("JPY_*", "IPY*", "COLAB_*"),
)

# Says who and where one is, or what to load from where, by files that the head does not have.
NEEDS_OUR_FILES = (
    *("HOME", "PATH", "USER", "LOGNAME", "USERNAME", "SHELL", "PWD", "OLDPWD", "MAIL", "TERMINFO*"),
    *("LD_*", "DYLD_*", "PYTHON*", "VIRTUAL_ENV*", "CONDA_*", "_CONDA_*", "CONDA", "MAMBA_*"),
    *("MANPATH", "INFOPATH", "LIBRARY_PATH", "CPATH", "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH"),
    *("XDG_*", "MODULE*", "LMOD_*", "_LM*", "LOADEDMODULES", "_ModuleTable*", "BASH_ENV", "ENV"),
    *("BASH_FUNC_*", "PERL5*", "NVM_*", "PYENV_*", "RUSTUP_*", "CARGO_*", "JAVA_HOME", "EDITOR"),
    *("SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TERM_PROGRAM*", "COLORTERM", "PS1"),
)


def goes_along(
    environ: Mapping[str, str],
    *,
    files_are_shared: bool,
    head_path: str = "",
    keep: Iterable[str] = (),
    is_ours: Callable[[str], bool] = lambda _: False,
) -> dict[str, str]:
    """What of a shim's `environ` its command gets on top of the server's own environment.

    `keep` names what goes along all the same; `is_ours` tells a shim folder on PATH.  For
    srun the id of its allocation is added by the request.
    """
    kept, stays = tuple(keep), HOST_BOUND + (() if files_are_shared else NEEDS_OUR_FILES)
    clean = without_job(environ)
    going = {
        name: value
        for name, value in environ.items()
        if not matches(name, OURS)
        and (matches(name, kept) or (name in clean and not matches(name, stays)))
    }
    if "PATH" in going:
        going["PATH"] = merged_path(going["PATH"], head_path, is_ours)
    return going


def merged_path(own: str, head: str, is_ours: Callable[[str], bool] = lambda _: False) -> str:
    """The caller's PATH without shim folders, then what only the head's has.

    A relative entry means another directory there, so it stays; and each is there once.
    """
    entries = (*own.split(":"), *head.split(":"))
    wanted = (entry for entry in entries if entry.startswith("/") and not is_ours(entry))
    return ":".join(dict.fromkeys(wanted))
