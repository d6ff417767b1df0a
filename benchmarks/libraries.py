"""The Python libraries that run commands over SSH, as ways to be compared.

As favourably as we know how: what costs a library time and is not its own, such as a missing
TCP_NODELAY, is put right.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
from typing import Any

from .far import EXECNET_LOOP, run_there
from .head import BenchHead
from .peers import COMMAND, LIMIT, Peer

__all__ = [
    "AsyncSsh",
    "Execnet",
    "Fabric",
    "Mitogen",
    "ParamikoExec",
    "Rpyc",
    "paramiko_login",
]


class ParamikoExec(Peer):
    """An exec channel of an open paramiko connection; without TCP_NODELAY it takes 40 ms more."""

    name = "paramiko exec"
    needs = "paramiko"

    def open(self, head: BenchHead) -> None:
        """Over a socket of our own, since paramiko sets no TCP_NODELAY."""
        import paramiko

        sshd = head.sshd
        self.client = paramiko.SSHClient()
        self.client.load_host_keys(str(sshd.known_hosts))
        self.client.connect(sshd.host, sshd.port, sshd.user.name, **paramiko_login(head))

    def call(self) -> None:
        """Both streams to their ends, then the status."""
        _, out, err = self.client.exec_command(" ".join(COMMAND), timeout=LIMIT)
        _check(out.channel.recv_exit_status(), out.read(), err.read())

    def close(self) -> None:
        """And its thread."""
        self.client.close()


class Execnet(Peer):
    """execnet's gateway over ssh; one channel, a loop behind it."""

    name = "execnet"
    needs = "execnet"

    def open(self, head: BenchHead) -> None:
        """A Python over there, and the loop."""
        import execnet

        self.group: Any = execnet.Group()
        gateway = self.group.makegateway(
            f"ssh={head.alias}//ssh_config={head.sshd.ssh_config}//python={head.python}"
        )
        self.channel: Any = gateway.remote_exec(EXECNET_LOOP)

    def call(self) -> None:
        """A word there, three back."""
        self.channel.send(COMMAND)
        _check(*self.channel.receive(timeout=LIMIT))

    def close(self) -> None:
        """The far Python ends with its connection."""
        with contextlib.suppress(OSError, EOFError):
            self.channel.close()
        self.group.terminate(timeout=LIMIT)


class Mitogen(Peer):
    """mitogen's context over ssh; a plain call of a function there."""

    name = "mitogen"
    needs = "mitogen"

    def open(self, head: BenchHead) -> None:
        """A Python over there; it asks for the module of `run_there` once."""
        import mitogen.master

        self.broker: Any = mitogen.master.Broker()
        router: Any = mitogen.master.Router(self.broker)
        self.context: Any = router.ssh(
            hostname=head.alias,
            python_path=head.python,
            ssh_args=["-F", str(head.sshd.ssh_config)],
            connect_timeout=LIMIT,
        )

    def call(self) -> None:
        """A call there, its result back."""
        _check(*self.context.call(run_there, COMMAND))

    def close(self) -> None:
        """The far Python ends with the broker."""
        self.broker.shutdown()
        self.broker.join()


class Fabric(Peer):
    """A connection of Fabric's, which is paramiko's with threads for the streams."""

    name = "Fabric"
    needs = "fabric"

    def open(self, head: BenchHead) -> None:
        """Over a socket of our own, as paramiko's."""
        import fabric

        sshd = head.sshd
        self.connection: Any = fabric.Connection(
            sshd.host,
            sshd.user.name,
            sshd.port,
            config=fabric.Config(lazy=True),  # and no files of whoever runs this
            connect_kwargs=paramiko_login(head),
        )
        self.connection.client.load_host_keys(str(sshd.known_hosts))

    def call(self) -> None:
        """Nothing on stdin, and nothing shown."""
        done = self.connection.run(" ".join(COMMAND), hide=True, in_stream=False, timeout=LIMIT)
        _check(done.return_code, done.stdout, done.stderr)

    def close(self) -> None:
        """And its threads."""
        self.connection.close()


class AsyncSsh(Peer):
    """A session of asyncssh's connection, awaited by the caller's own loop."""

    name = "asyncssh"
    needs = "asyncssh"

    def open(self, head: BenchHead) -> None:
        """A loop that nobody else uses."""
        import asyncssh

        sshd = head.sshd
        self.loop = asyncio.new_event_loop()
        self.connection: Any = self.loop.run_until_complete(
            asyncssh.connect(
                sshd.host,
                sshd.port,
                username=sshd.user.name,
                client_keys=[str(sshd.identity)],
                known_hosts=str(sshd.known_hosts),
                agent_path=None,
                config=None,
            )
        )

    def call(self) -> None:
        """Text both ways, as its `run` does."""
        done = self.loop.run_until_complete(self.connection.run(" ".join(COMMAND), timeout=LIMIT))
        _check(done.exit_status, done.stdout, done.stderr)

    def close(self) -> None:
        """The connection, then the loop."""
        self.connection.close()
        self.loop.run_until_complete(self.connection.wait_closed())
        self.loop.close()


class Rpyc(Peer):
    """RPyC's server, which it brings to the head itself and reaches through an ssh tunnel."""

    name = "rpyc over ssh"
    needs = "rpyc"

    def open(self, head: BenchHead) -> None:
        """A function over there that takes and gives plain values, so that one trip is enough."""
        from plumbum import SshMachine
        from rpyc.utils.zerodeploy import DeployedServer

        options = ["-F", str(head.sshd.ssh_config)]
        # -O: the scp of old, as the head need not have sftp.
        self.machine: Any = SshMachine(head.alias, ssh_opts=options, scp_opts=[*options, "-O"])
        self.server: Any = DeployedServer(self.machine, python_executable=head.python)
        self.connection: Any = self.server.classic_connect()
        self.connection.execute(f"import subprocess\n{inspect.getsource(run_there)}")
        self.run: Any = self.connection.namespace["run_there"]

    def call(self) -> None:
        """A call there, its result back."""
        _check(*self.run(tuple(COMMAND)))

    def close(self) -> None:
        """The far Python, then the connections."""
        self.connection.close()
        self.server.close()
        self.machine.close()


def paramiko_login(head: BenchHead) -> dict[str, Any]:
    """With the head's key only, over a socket with TCP_NODELAY, which paramiko does not set."""
    made = socket.create_connection((head.sshd.host, head.sshd.port), timeout=LIMIT)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = str(head.sshd.identity)
    return {"key_filename": key, "sock": made, "look_for_keys": False, "allow_agent": False}


def _check(status: int, out: object, err: object) -> None:
    if status or out or err:
        raise RuntimeError(f"true gave {status}, {out!r}, {err!r}")
