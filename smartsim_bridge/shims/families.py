"""Which commands belong to which scheduler, and what can be told from their arguments.

Pure: knows neither this host nor the head.  Every `argv` begins with the command's name,
with or without a directory.  Where a table does not know an option, the answer is the one
that does no harm.

    SCHEDULER_COMMANDS      all of them; FAMILIES has them by family
    is_poll(argv)           only asks, so it may be asked again
    wants_input(argv)       reads its stdin; a shim touches its own only then
    script_index(argv)      where in `argv` the script of sbatch, qsub or bsub is named
"""

from __future__ import annotations

from collections.abc import Sequence

from .slurm_options import (
    SALLOC_FLAGS,
    SBATCH_FLAGS,
    SBATCH_VALUES,
    SINFO_VALUES,
    SQUEUE_VALUES,
    has_option,
    split_options,
)

__all__ = ["FAMILIES", "SCHEDULER_COMMANDS", "is_poll", "script_index", "wants_input"]


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

# They only ask, whatever their options.
_ALWAYS_POLLS = _words(
    "bacct bhist bhosts bjobs blimits bmgroup bparams bqueues bresources bsla bugroup"
    " busers lsclusters lshosts lsid lsinfo lsload pbs_rstat qacct qhost qquota qrstat"
    " qselect qstat sacct seff sinfo sprio squeue sreport sshare sstat tracejob"
)
# They ask if their first word is one of these, and nothing else is.
_ASKING_WORDS = {
    "scontrol": frozenset({"show", "ping", "version"}),
    "sacctmgr": frozenset({"show", "list", "ping", "version"}),
}
# They repeat themselves until somebody ends them: their output is no one answer.
_REPEATING = {"squeue": SQUEUE_VALUES, "sinfo": SINFO_VALUES}

# What reads nothing of what is typed at it: an errand, or one that only takes names.
_NEVER_READS = _words(
    "bbot bkill bmod brequeue bresume bstop bswitch btop pbs_rdel pbs_rsub pbsnodes"
    " qalter qdel qhold qmod qmove qmsg qorder qping qrdel qrerun qresub qrls qrsub qsig"
    " sbcast sdiag sgather strigger bpeek"
)

# Options of qsub by the number of words that follow; PBS and Grid Engine share the name, and
# where both have an option they agree.  Letters may have their value attached, in PBS.
_QSUB_LETTERS = frozenset("aAcCdDeFijJkKlmMNopPqQrRStTuvwW")
_QSUB_FLAGS = _words("-V -z -I -X -x -f -h -n -E")
_QSUB_WORDS = {
    **dict.fromkeys(
        _words("-clear -cwd -hard -help -noshell -nostdin -notify -soft -terse"),
        0,
    ),
    **dict.fromkeys(["-verbose", "-verify", "-inherit", "-xml"], 0),
    **dict.fromkeys(
        _words("-ac -ar -binding -ckpt -dc -display -dl -hold_jid -hold_jid_ad"),
        1,
    ),
    **dict.fromkeys(
        _words("-jc -js -jsv -masterq -now -pty -sc -shell -sync -tc -umask -wd"),
        1,
    ),
    **dict.fromkeys(["-b", "-g", "-y", "-@"], 1),
    "-pe": 2,
    "-clearp": 2,
    "-adds": 3,
    "-mods": 3,
}
_BSUB_FLAGS = _words(
    "-B -cn_mem -h -H -I -Ip -Is -ISp -ISs -IS -IX -K -N -Ne -Nd -r -rn -ul -V -x -XF -Zs"
    " -ptl -notify_none"
)
_BSUB_INTERACTIVE = _words("-I -Ip -Is -IS -ISp -ISs -IX")


def is_poll(argv: Sequence[str]) -> bool:
    """Whether it changes nothing, ends by itself and says the same if it is run again."""
    name, arguments = _split(argv)
    if name in _ASKING_WORDS:
        _, words = split_options(arguments, "adFhiM:noPpQrsu:vV", {"clusters", "uid"})
        return bool(words) and words[0] in _ASKING_WORDS[name] and "-" not in words
    if name == "qconf":
        return bool(arguments) and arguments[0].startswith("-s")
    if name == "sdiag":
        return not any(one.startswith(("-r", "--r")) for one in arguments)
    if name == "pbsnodes":
        return all(one in ("-a", "-v", "-S", "-j", "-l", "-L") for one in arguments[:1])
    if name in _REPEATING:
        given, _ = split_options(arguments, *_REPEATING[name])
        return not has_option(given, "i", "iterate")
    return name in _ALWAYS_POLLS


def wants_input(argv: Sequence[str]) -> bool:
    """Whether it reads stdin; of a command that nobody here knows: yes."""
    name, arguments = _split(argv)
    if name == "sbatch":
        given, words = split_options(arguments, *SBATCH_VALUES, flags=SBATCH_FLAGS)
        return not words and not has_option(given, None, "wrap") and not _only_tells(given)
    if name == "salloc":
        given, _ = split_options(arguments, *SBATCH_VALUES, flags=SALLOC_FLAGS)
        return not has_option(given, None, "no-shell") and not _only_tells(given)
    if name == "srun":
        given, _ = split_options(arguments, *SBATCH_VALUES, flags=SBATCH_FLAGS)
        return not _only_tells(given) and not _reads_elsewhere(given)
    if name == "qsub":
        return _qsub_reads(arguments)
    if name == "bsub":
        at = _bsub_operand(arguments)
        return at is None or not _BSUB_INTERACTIVE.isdisjoint(arguments[:at])
    if name == "scancel":
        return any(one.startswith(("-i", "--int")) for one in arguments)
    if name == "scrontab":
        return "-l" not in arguments and "-r" not in arguments
    return name not in _NEVER_READS and not is_poll(argv)


def script_index(argv: Sequence[str]) -> int | None:
    """Where `argv` names the script that a submission reads; None where it names none.

    What follows it are the script's own arguments.  Of bsub, which takes a command line, only
    a single word is taken for a script.
    """
    name, arguments = _split(argv)
    at: int | None = None
    if name == "sbatch":
        given, words = split_options(arguments, *SBATCH_VALUES, flags=SBATCH_FLAGS)
        if words and not has_option(given, None, "wrap"):
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


def _only_tells(given: Sequence[tuple[str, str | None]]) -> bool:
    """Whether it prints a help text or its version, and ends."""
    return any(name in ("h", "V", "help", "usage", "version") for name, _ in given)


def _reads_elsewhere(given: Sequence[tuple[str, str | None]]) -> bool:
    """Whether srun has its input from nowhere, or from a file."""
    values = [value for name, value in given if name in ("i", "input")]
    return bool(values) and values[-1] not in ("all", "-", "") and not _is_task(values[-1])


def _is_task(value: str | None) -> bool:
    return value is not None and value.isdigit()


def _qsub_reads(arguments: Sequence[str]) -> bool:
    at, _ = _qsub_operand(arguments)
    options = arguments if at is None else arguments[:at]
    return at is None or arguments[at] == "-" or "-I" in options


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
        at += 1 + _words_after(one)
    return None, False


def _words_after(option: str) -> int:
    if option in _QSUB_FLAGS:
        return 0
    if option in _QSUB_WORDS:
        return _QSUB_WORDS[option]
    return int(len(option) == 2 and option[1] in _QSUB_LETTERS)


def _bsub_operand(arguments: Sequence[str]) -> int | None:
    at = 0
    while at < len(arguments):
        one = arguments[at]
        if not one.startswith("-"):
            return at
        at += 1 if one in _BSUB_FLAGS else 2
    return None
