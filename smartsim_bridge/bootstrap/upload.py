"""Sends the far half to the head, inside a shell script, in one round trip.

No scp and no sftp: sites switch them off, and noisy start-up files break them.  The file
goes in base64 through `printf`, which every shell has built in, so neither a here-document
in a full /tmp nor a limit on arguments is in the way; `receive.py` takes it on the other
end with the Python that is going to run it.
"""

from __future__ import annotations

import base64

from ..errors import UploadFailed
from ..stages import Journey
from .artifact import Artifact
from .noise import clean, explain
from .plan import Upload
from .script import quote, text_of, words
from .shell import Answer, Shell

__all__ = ["upload"]

# Characters per `printf`: where it is a program after all, one argument may have 128 KiB.
PIECE = 64 * 1024


def upload(shell: Shell, step: Upload, artifact: Artifact, *, journey: Journey) -> str:
    """The path of the far half on the host.  Raises UploadFailed, naming every directory tried."""
    with journey.stage("upload") as note:
        body = _body(step, artifact, shell.nonce)
        answer = shell.ask(body, "take", step="upload", failure=UploadFailed)
        path = _stored_path(answer, shell)
        note.detail = f"{artifact.size / 1000:.0f} kB to {path}"
    return path


def _body(step: Upload, artifact: Artifact, nonce: str) -> str:
    encoded = base64.b64encode(artifact.content).decode()
    pieces = (encoded[at : at + PIECE] for at in range(0, len(encoded), PIECE))
    printed = "".join(f"    printf %s {quote(piece)}\n" for piece in pieces)
    facts = (nonce, artifact.name, str(artifact.size), artifact.digest, *step.directories)
    receiver = f"{quote(step.python)} -I -S -c {quote(text_of('receive.py'))} {words(facts)}"
    return f"send() {{\n{printed}}}\ntake() {{\n    umask 077\n    send | {receiver}\n}}\n"


def _stored_path(answer: Answer, shell: Shell) -> str:
    for line in answer.text.splitlines():
        _, stored, path = line.partition(f"{shell.nonce} STORED ")
        if stored:
            return path
        _, refused, why = line.partition(f"{shell.nonce} REFUSED ")
        if refused:
            raise _failed(f"The far half could not be stored: {why}", "", explain(why), shell)
    noise = clean(answer.text)
    raise _failed("The far half did not arrive", noise, explain(noise), shell)


def _failed(what: str, noise: str, advice: str | None, shell: Shell) -> UploadFailed:
    return UploadFailed(what, host=shell.host, step="upload", advice=advice, noise=noise)
