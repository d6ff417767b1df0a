"""Which commands belong to which scheduler, and what can be told from their arguments.

Pure: knows neither this host nor the head.  Every `argv` begins with the command's name,
with or without a directory.  Where a table does not know an option, the answer is the one
that does no harm.

    SCHEDULER_COMMANDS      all of them; FAMILIES has them by family
    wants_input(argv)       reads its stdin; a shim touches its own only then
    script_index(argv)      where in `argv` the script of sbatch, qsub or bsub is named
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .slurm_options import Option, has_option, split_options

__all__ = ["FAMILIES", "SCHEDULER_COMMANDS", "script_index", "wants_input"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# No launcher of MPI is among them, nor ever will be: what one starts belongs beside its
# caller.  srun is a client of the scheduler that happens to start things as well.
FAMILIES: dict[str, frozenset[str]] = {
    "slurm": _words(
        "sacct sacctmgr salloc sattach sbatch sbcast scancel scontrol scrontab sdiag seff"
        " sgather sinfo sprio squeue sreport srun sshare sstat strigger"
    ),
    "pbs": _words(
        "pbs_rdel pbs_rstat pbs_rsub pbsnodes qalter qdel qhold qmgr qmove qmsg qorder qrerun"
        " qrls qselect qsig qstat qsub tracejob"
    ),
    "lsf": _words(
        "bacct bbot bhist bhosts bjobs bkill blimits bmgroup bmod bparams bpeek bqueues"
        " brequeue bresources bresume bsla bstop bsub bswitch btop bugroup busers lsclusters"
        " lshosts lsid lsinfo lsload"
    ),
    "sge": _words(
        "qacct qalter qconf qdel qhold qhost qlogin qmod qping qquota qrdel qresub qrls qrsh"
        " qrstat qrsub qselect qsh qstat qsub"
    ),
}
SCHEDULER_COMMANDS: frozenset[str] = frozenset().union(*FAMILIES.values())

# What reads nothing of what is typed at it: an errand, or one that only takes names.
_NEVER_READS = _words(
    "bacct bbot bhist bhosts bjobs bkill blimits bmgroup bmod bparams bpeek bqueues brequeue"
    " bresources bresume bsla bstop bswitch btop bugroup busers lsclusters lshosts lsid"
    " lsinfo lsload pbs_rdel pbs_rstat pbs_rsub pbsnodes qacct qalter qdel qhold qhost qmod"
    " qmove qmsg qorder qping qquota qrdel qrerun qresub qrls qrstat qrsub qselect qsig qstat"
    " sacct sbcast sdiag seff sgather sinfo sprio squeue sreport sshare sstat strigger"
    " tracejob"
)
# Options of qsub with a value in the next word.  PBS and Grid Engine share the name, and where
# both have an option they agree; all others have none, or have it in the same word.
_QSUB_VALUES = _words(
    "-a -A -c -C -d -D -e -F -i -j -J -k -K -l -m -M -N -o -p -P -q -Q -r -R -S -t -T -u -v -w"
    " -W -ac -ar -binding -ckpt -dc -display -dl -hold_jid -hold_jid_ad -jc -js -jsv -masterq"
    " -now -pty -sc -shell -sync -tc -umask -wd -b -g -y -@"
)
_QSUB_SEVERAL = {"-pe": 2, "-clearp": 2, "-adds": 3, "-mods": 3}
_BSUB_FLAGS = _words(
    "-B -cn_mem -h -H -I -Ip -Is -ISp -ISs -IS -IX -K -N -Ne -Nd -r -rn -ul -V -x -XF -Zs"
    " -ptl -notify_none"
)
_BSUB_INTERACTIVE = _words("-I -Ip -Is -IS -ISp -ISs -IX")


def wants_input(argv: Sequence[str]) -> bool:
    """Whether it reads stdin; of a command that nobody here knows: yes."""
    name, arguments = _split(argv)
    reads = _READERS.get(name)
    return reads(arguments) if reads else name not in _NEVER_READS


def script_index(argv: Sequence[str]) -> int | None:
    """Where `argv` names the script that a submission reads; None where it names none.

    What follows it are the script's own arguments.  Of bsub, which takes a command line, only
    a single word is taken for a script.
    """
    name, arguments = _split(argv)
    at: int | None = None
    if name == "sbatch":
        given, words = split_options(arguments)
        if words and not has_option(given, "wrap"):
            at = len(arguments) - len(words)
    elif name == "qsub":
        at, is_script = _qsub_operand(arguments)
        at = at if is_script else None
    elif name == "bsub":
        at = _bsub_operand(arguments)
        is_single = at == len(arguments) - 1 and _BSUB_INTERACTIVE.isdisjoint(arguments)
        at = at if is_single else None
    return None if at is None else at + 1


def _split(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    return (argv[0].rpartition("/")[2], argv[1:]) if argv else ("", [])


# --- where options end


def _qsub_operand(arguments: Sequence[str]) -> tuple[int | None, bool]:
    """Where the script or the program is named, and whether it is a script in a file."""
    at, is_script = 0, True
    while at < len(arguments):
        one = arguments[at]
        if one == "--":  # PBS: a program follows
            return (at + 1 if at + 1 < len(arguments) else None), False
        if not one.startswith("-") or one == "-":
            return at, is_script and one != "-"
        if one == "-b" and arguments[at + 1 : at + 2] in (["y"], ["yes"]):  # Grid Engine
            is_script = False
        at += 1 + _QSUB_SEVERAL.get(one, int(one in _QSUB_VALUES))
    return None, False


def _bsub_operand(arguments: Sequence[str]) -> int | None:
    at = 0
    while at < len(arguments):
        one = arguments[at]
        if not one.startswith("-"):
            return at
        at += 1 if one in _BSUB_FLAGS else 2
    return None


# --- who reads what


def _sbatch_reads(arguments: Sequence[str]) -> bool:
    given, words = split_options(arguments)
    return not words and not has_option(given, "wrap") and not _only_tells(given)


def _salloc_reads(arguments: Sequence[str]) -> bool:
    given, _ = split_options(arguments)
    return not has_option(given, "no-shell") and not _only_tells(given)


def _srun_reads(arguments: Sequence[str]) -> bool:
    """Unless its input is nowhere, or a file; a number is a task that has all of it."""
    given, _ = split_options(arguments)
    values = [value or "" for name, value in given if name in ("i", "input")]
    is_elsewhere = bool(values) and values[-1] not in ("all", "-", "") and not values[-1].isdigit()
    return not is_elsewhere and not _only_tells(given)


def _only_tells(given: Sequence[Option]) -> bool:
    """Whether it prints a help text or its version, and ends."""
    return any(name in ("h", "V", "help", "usage", "version") for name, _ in given)


def _scontrol_reads(arguments: Sequence[str]) -> bool:
    return "-" in arguments or not {"show", "ping", "update"}.intersection(arguments)


def _bsub_reads(arguments: Sequence[str]) -> bool:
    at = _bsub_operand(arguments)
    return at is None or not _BSUB_INTERACTIVE.isdisjoint(arguments[:at])


def _qsub_reads(arguments: Sequence[str]) -> bool:
    at, _ = _qsub_operand(arguments)
    return at is None or arguments[at] == "-" or "-I" in arguments[:at]


_READERS: dict[str, Callable[[Sequence[str]], bool]] = {
    "sbatch": _sbatch_reads,
    "salloc": _salloc_reads,
    "srun": _srun_reads,
    "scancel": lambda given: any(one.startswith(("-i", "--int")) for one in given),
    "scontrol": _scontrol_reads,
    "sacctmgr": lambda given: not {"show", "list"}.intersection(given),
    "scrontab": lambda given: not {"-l", "-r"}.intersection(given),
    "qsub": _qsub_reads,
    "qconf": lambda given: not (given and given[0].startswith("-s")),
    "bsub": _bsub_reads,
}
