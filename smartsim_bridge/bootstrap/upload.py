"""Sends the far half to the head, inside a shell script, in one round trip.

No scp and no sftp: sites switch them off, and noisy start-up files break them.  The file
goes in base64 through `printf`, which every shell has built in, so neither a here-document
in a full /tmp nor a limit on arguments is in the way; `receive.py` takes it on the other
end with the Python that is going to run it.
"""

from __future__ import annotations

import base64

from ..deadline import Deadline
from ..errors import UploadFailed
from ..stages import Journey
from .artifact import Artifact
from .host import Answer, Host
from .noise import explain, noise_of
from .plan import Upload
from .script import COMMAND, compose, quote, text_of, words

__all__ = ["upload"]

# Characters per `printf`: where it is a program after all, one argument may have 128 KiB.
PIECE = 64 * 1024


def upload(
    host: Host,
    step: Upload,
    artifact: Artifact,
    *,
    nonce: str,
    prelude: str = "",
    deadline: Deadline,
    journey: Journey,
) -> str:
    """The path of the far half on `host`.  Raises UploadFailed, naming every directory tried."""
    with journey.stage("upload") as note:
        answer = host.execute(
            COMMAND, stdin=_script(step, artifact, nonce, prelude), deadline=deadline
        )
        path = _stored_path(answer, nonce, host.target.spelled)
        note.detail = f"{artifact.size / 1000:.0f} kB to {path}"
    return path


def _script(step: Upload, artifact: Artifact, nonce: str, prelude: str) -> bytes:
    encoded = base64.b64encode(artifact.content).decode()
    pieces = (encoded[at : at + PIECE] for at in range(0, len(encoded), PIECE))
    printed = "".join(f"    printf %s {quote(piece)}\n" for piece in pieces)
    facts = (nonce, artifact.name, str(artifact.size), artifact.digest, *step.directories)
    receiver = f"{quote(step.python)} -I -S -c {quote(text_of('receive.py'))} {words(facts)}"
    body = f"send() {{\n{printed}}}\ntake() {{\n    send | {receiver}\n}}\n"
    return compose("take", body=body, prelude=prelude)


def _stored_path(answer: Answer, nonce: str, spelled: str) -> str:
    text = answer.stdout.decode("utf-8", "surrogateescape")
    for line in text.splitlines():
        _, stored, path = line.partition(f"{nonce} STORED ")
        if stored:
            return path
        _, refused, why = line.partition(f"{nonce} REFUSED ")
        if refused:
            raise UploadFailed(
                f"The far half could not be stored: {why}",
                host=spelled,
                step="upload",
                advice=explain(why),
            )
    noise = noise_of(answer)
    raise UploadFailed(
        "The far half did not arrive",
        host=spelled,
        step="upload",
        advice=explain(noise),
        noise=noise,
    )
