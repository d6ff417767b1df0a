"""Sends the far half to the head, inside a shell script, in one round trip.

No scp and no sftp: sites switch them off, and noisy start-up files break them.  The file
goes in base64 through `printf`, which every shell has built in, so neither a here-document
in a full /tmp nor a limit on arguments is in the way; `receive.py` takes it on the other
end with the Python that is going to run it.
"""

from __future__ import annotations

from ..errors import BootstrapFailed, UploadFailed
from ..stages import Journey
from .artifact import Artifact
from .noise import clean, explain
from .plan import Upload
from .script import printing, quote, text_of, words
from .shell import Answer, Shell

__all__ = ["stored_path", "upload"]


def upload(shell: Shell, step: Upload, artifact: Artifact, *, journey: Journey) -> str:
    """The path of the far half on the host.  Raises UploadFailed, naming every directory tried."""
    with journey.stage("upload") as note:
        body = _body(step, artifact, shell.nonce)
        answer = shell.ask(body, "take", step="upload", failure=UploadFailed)
        path = stored_path(answer, shell, "The far half", step="upload", failure=UploadFailed)
        note.detail = f"{artifact.size / 1000:.0f} kB to {path}"
    return path


def _body(step: Upload, artifact: Artifact, nonce: str) -> str:
    facts = (nonce, artifact.name, str(artifact.size), artifact.digest, *step.directories)
    receiver = f"{quote(step.python)} -I -S -c {quote(text_of('receive.py'))} {words(facts)}"
    take = f"take() {{\n    umask 077\n    send | {receiver}\n}}\n"
    return printing(artifact.content, "send") + take


def stored_path(
    answer: Answer, shell: Shell, what: str, *, step: str, failure: type[BootstrapFailed]
) -> str:
    """Where a receiver says that it has put `what`.  Raises `failure` with what it says instead."""

    def failed(fault: str, noise: str, advice: str | None) -> BootstrapFailed:
        return failure(fault, host=shell.host, step=step, advice=advice, noise=noise)

    for line in answer.text.splitlines():
        _, stored, path = line.partition(f"{shell.nonce} STORED ")
        if stored:
            return path
        _, refused, why = line.partition(f"{shell.nonce} REFUSED ")
        if refused:
            raise failed(f"{what} could not be stored: {why}", "", explain(why))
    noise = clean(answer.text)
    raise failed(f"{what} did not arrive", noise, explain(noise))
