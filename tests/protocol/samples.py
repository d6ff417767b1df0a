"""Messages for tests: one of each kind, and hypothesis strategies that draw any."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import strategies as st

from smartsim_bridge.protocol import codec, messages
from smartsim_bridge.protocol.messages import Message

__all__ = ["ONE_OF_EACH", "any_message"]

ONE_OF_EACH: tuple[Message, ...] = (
    messages.Hello(2, 2, "0.1", "s1"),
    messages.Welcome(2, "0.1", "login1", 42),
    messages.Refusal("version", "too old", "0.1"),
    messages.Start("c1", ("echo", "a b"), env={"A": "1"}, keep_env=("SLURM_*",), timeout=2.5),
    messages.Queued("c1", 3),
    messages.Started("c1", 4711),
    messages.StartFailed("c1", 2, "No such file or directory", "ehco"),
    messages.Input("c1", 0, payload=b"\x00\xff"),
    messages.InputTaken("c1", 2),
    messages.Output("c1", 1, 0, eof=True, payload=b"out"),
    messages.OutputTaken("c1", 1, 3),
    messages.OutputClosed("c1", 1),
    messages.Exited("c1", 0, None),
    messages.Attach("c1", 5, 0),
    messages.Attached("c1", 4711, 5, 0, argv=("echo", "a b")),
    messages.Detach("c1"),
    messages.Detached("c1"),
    messages.Forget(("c1", "c2")),
    messages.Lost("c1", messages.OUTCOME_UNKNOWN, "the server was killed"),
    messages.ListCommands(8),
    messages.Entry(8, "c1", ("echo", "a b"), messages.ENDED, 4711, 0, asked=1.5, ended=2.5),
    messages.CommandsEnd(8),
    messages.Locate(9, ("squeue", "sbatch"), "/home/alice/token", b"0123\n"),
    messages.Located(
        9, {"squeue": "/usr/bin/squeue"}, "/usr/bin:/bin", True, "/etc/slurm/slurm.conf"
    ),
    messages.Signal("c1", 15),
    messages.Terminate("c1", 1.5),
    messages.Inquiry(7),
    messages.Report(7, "0.1", "login1", 42, 1.5, 1, 0, endpoints=("tcp://127.0.0.1:5555",)),
    messages.Stop(),
    messages.Replace(9, "/home/me/far.pyz", "/usr/bin/python3"),
    messages.ReplaceFailed(9, "it says nothing"),
    messages.Stopping("stopped"),
    messages.Ping(1),
    messages.Pong(1),
    messages.Bye(),
)

# Any character, lone surrogates included: names of files need not be UTF-8.
_TEXT = st.text(st.characters(), max_size=20)
_WHOLE = st.integers(-(2**63), 2**63 - 1)
_NUMBER = st.floats(allow_nan=False, allow_infinity=False)
_VALUES: dict[str, st.SearchStrategy[object]] = {
    "str": _TEXT,
    "int": _WHOLE,
    "float": _NUMBER,
    "bool": st.booleans(),
    "bytes": st.binary(max_size=1000),
    "tuple[str, ...]": st.lists(_TEXT, max_size=5).map(tuple),
    "dict[str, str]": st.dictionaries(_TEXT, _TEXT, max_size=5),
    "str | None": st.none() | _TEXT,
    "int | None": st.none() | _WHOLE,
    "float | None": st.none() | _NUMBER,
    "bool | None": st.none() | st.booleans(),
}


def _of(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.builds(kind, **{one.name: _VALUES[str(one.type)] for one in fields(kind)})


any_message: st.SearchStrategy[Message] = st.one_of(*map(_of, messages.KINDS.values()))

assert codec.MAX_PAYLOAD > 1000
