"""A person is asked once for each connection, and no host is asked again behind his back."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smartsim_bridge import Bridge, CommandServerError
from smartsim_bridge.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    HostKeyChanged,
    LinkLost,
)
from tests.support.heads import Head, MakeHead
from tests.support.sshd import make_key
from tests.support.users import User
from tests.support.waiting import wait_until

pytestmark = pytest.mark.sshd

BY_PASSWORD = ("PubkeyAuthentication no", "PasswordAuthentication yes")
CALLS = 20  # of a program that does not give up


class Person:
    """Knows the password, and counts how often it was wanted."""

    def __init__(self, head: Head) -> None:
        self.password = head.sshd.user.known_password()
        self.asked = 0

    def ask(self, _prompt: str, _secret: bool) -> str:
        self.asked += 1
        return self.password


def logins(head: Head) -> tuple[int, int, int]:
    """Connections, failures and successes that a host which watches its log would count."""
    lines = head.sshd.log.splitlines()
    starts = ("Connection from ", r"Failed \S+ for ", r"Accepted \S+ for ")
    counted = [sum(bool(re.match(start, line)) for line in lines) for start in starts]
    return counted[0], counted[1], counted[2]


# --- a lost link --------------------------------------------------------------------------


@pytest.mark.root
def test_a_lost_link_whose_login_needs_a_person_is_one_connection(make_head: MakeHead) -> None:
    head = make_head(*BY_PASSWORD)
    person = Person(head)
    bridge = head.init(autostart=True, ask=person.ask, transport="tunnel")
    command = bridge.popen(["cat"])
    head.sshd.kill_sessions()
    with pytest.raises(AuthenticationRequired, match="nobody is asked behind") as caught:
        command.wait()
    assert "bridge.reconnect()" in caught.value.advice
    for _ in range(CALLS):
        with pytest.raises(AuthenticationRequired):
            bridge.run(["true"])
    assert logins(head) == (2, 0, 1)
    assert person.asked == 1
    bridge.reconnect()
    assert bridge.run(["echo", "back"]).stdout == "back\n"
    assert logins(head) == (3, 0, 2)
    assert person.asked == 2


def test_a_lost_link_whose_login_is_refused_is_one_attempt(make_head: MakeHead) -> None:
    head = make_head("PasswordAuthentication no", "KbdInteractiveAuthentication no")
    bridge = head.init(autostart=True, transport="tunnel")
    (head.sshd.directory / "authorized_keys").write_text("")
    _lose_for_good(head, bridge, AuthenticationFailed)
    assert logins(head) == (2, 1, 1)


def test_a_lost_link_to_a_host_with_another_key_is_one_connection(
    make_head: MakeHead, tmp_path: Path
) -> None:
    head = make_head()
    bridge = head.init(autostart=True, transport="tunnel")
    other = Path(f"{make_key(tmp_path / 'other')}.pub").read_text().split()[:2]
    head.sshd.known_hosts.write_text(f"[127.0.0.1]:{head.sshd.port} {' '.join(other)}\n")
    _lose_for_good(head, bridge, HostKeyChanged)
    assert logins(head) == (2, 0, 1)


def _lose_for_good(head: Head, bridge: Bridge, expected: type[CommandServerError]) -> None:
    head.sshd.kill_sessions()
    for _ in range(CALLS):
        with pytest.raises(expected):
            bridge.run(["true"])


def test_a_host_that_turns_us_away_is_left_more_and_more_in_peace(make_head: MakeHead) -> None:
    """As one whose firewall has banned us: it accepts and hangs up."""
    head = make_head()
    bridge = head.init(autostart=True, transport="tunnel", reconnect=4.0)
    config = head.sshd.ssh_config.read_text()
    with TurnedAway() as door:
        away = config.replace(f"Port {head.sshd.port}", f"Port {door.port}")
        head.sshd.ssh_config.write_text(away)
        head.sshd.known_hosts.write_text("")
        head.sshd.kill_sessions()
        with pytest.raises(LinkLost, match="none came back"):
            bridge.run(["true"])
        # At once, then after at least 1/8, 1/4, 1/2, 1 and 2 seconds.
        assert 3 <= door.knocks <= 7
    assert logins(head) == (1, 0, 1)


class TurnedAway:
    """A port that counts who comes and shuts the door."""

    def __enter__(self) -> TurnedAway:
        self.knocks = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        try:
            while True:
                self._listener.accept()[0].close()
                self.knocks += 1
        except OSError:
            pass  # closed

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


# --- several at once ----------------------------------------------------------------------


@pytest.mark.root
def test_two_bridges_at_once_ask_one_after_the_other(make_head: MakeHead) -> None:
    head = make_head(*BY_PASSWORD)
    person = Person(head)
    open_prompts: list[int] = []
    is_open = threading.Lock()

    def ask(prompt: str, secret: bool) -> str:
        assert is_open.acquire(blocking=False), "two prompts at a time"
        wait_until(lambda: logins(head)[0] == 2)  # the other one wants to ask as well
        open_prompts.append(1)
        is_open.release()
        return person.ask(prompt, secret)

    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(head.init, autostart=True, ask=ask) for _ in range(2)]
        pids = {one.result().status().server_pid for one in made}
    assert len(pids) == 1
    assert len(open_prompts) == person.asked == 2
    assert logins(head) == (2, 0, 2)


# --- an expired password --------------------------------------------------------------------


@pytest.mark.root
def test_a_password_that_has_expired_is_told_in_the_hosts_words(
    make_head: MakeHead, lonely_user: User
) -> None:
    """sshd lets it in by the method `password`, and then runs nothing but passwd."""
    no_dialogue = "KbdInteractiveAuthentication no"
    head = make_head(*BY_PASSWORD, no_dialogue, user=lonely_user)
    subprocess.run(["chage", "-d", "0", lonely_user.name], check=True)
    try:
        with pytest.raises(CommandServerError, match="password has expired") as caught:
            head.init(autostart=True, ask=Person(head).ask)
    finally:
        subprocess.run(["chage", "-d", "19000", lonely_user.name], check=True)
    assert "renew the password" in caught.value.advice
    assert logins(head) == (1, 0, 1)


# --- at the terminal ----------------------------------------------------------------------

PROGRAM = """
import signal, sys, termios
signal.alarm(50)
from smartsim_bridge import init_command_server
def is_echo():
    with open("/dev/tty") as terminal:
        return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
try:
    init_command_server("head", autostart=True, ssh_config=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted, echo", is_echo())
except Exception as fault:
    print("failed", type(fault).__name__, fault)
"""

TERMINATED = """
import os, signal, sys, termios, threading, time
signal.alarm(50)
from smartsim_bridge import init_command_server
def end_at_the_prompt():
    with open("/dev/tty") as terminal:
        while termios.tcgetattr(terminal)[3] & termios.ECHO:
            time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end_at_the_prompt, daemon=True).start()
init_command_server("head", autostart=True, ssh_config=sys.argv[1])
"""

AWAITING = """
import asyncio, signal, sys
signal.alarm(50)
from smartsim_bridge import AsyncBridge
asyncio.run(AsyncBridge.connect("head", autostart=True, ssh_config=sys.argv[1]))
"""


def at_a_terminal(program: str, head: Head, typed: bytes) -> str:
    """What a terminal shows when somebody types at the program's first prompt."""
    shell = (
        "import signal, subprocess, sys, termios\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "ended = subprocess.run([sys.executable, '-c', *sys.argv[1:]])\n"
        "print('ended', ended.returncode)\n"
        "print('afterwards, echo', bool(termios.tcgetattr(0)[3] & termios.ECHO))\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        arguments = [sys.executable, "-c", shell, program, str(head.sshd.ssh_config)]
        os.execv(sys.executable, arguments)
    shown = b""
    try:
        while b"assword: " not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, typed)
        while part := os.read(terminal, 1000):
            shown += part
    except OSError:
        pass  # Linux tells the end of a terminal so
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    return shown.decode()


def test_ctrl_c_at_the_prompt_leaves_nothing_open(make_head: MakeHead) -> None:
    head = make_head(*BY_PASSWORD)
    shown = at_a_terminal(PROGRAM, head, b"half an answ\x03")
    assert "interrupted, echo True" in shown
    assert "afterwards, echo True" in shown
    wait_until(lambda: head.sshd.session_pids() == [])
    assert logins(head) == (1, 0, 0)


def test_ctrl_c_at_a_prompt_of_another_thread_leaves_the_terminal_as_it_was(
    make_head: MakeHead,
) -> None:
    head = make_head(*BY_PASSWORD)
    shown = at_a_terminal(AWAITING, head, b"half an answ\x03")
    assert "KeyboardInterrupt" in shown
    assert "afterwards, echo True" in shown
    wait_until(lambda: head.sshd.session_pids() == [])
    assert logins(head) == (1, 0, 0)


def test_sigterm_at_the_prompt_leaves_the_terminal_as_it_was(make_head: MakeHead) -> None:
    head = make_head(*BY_PASSWORD)
    shown = at_a_terminal(TERMINATED, head, b"")
    assert f"ended {-signal.SIGTERM}" in shown
    assert "afterwards, echo True" in shown
    wait_until(lambda: head.sshd.session_pids() == [])
    assert logins(head) == (1, 0, 0)


def test_the_end_of_input_at_the_prompt_is_one_connection(make_head: MakeHead) -> None:
    head = make_head(*BY_PASSWORD)
    shown = at_a_terminal(PROGRAM, head, b"\x04")
    assert "failed AuthenticationRequired" in shown
    wait_until(lambda: head.sshd.session_pids() == [])
    assert logins(head) == (1, 0, 0)


def test_without_a_terminal_the_prompt_is_told_at_once(make_head: MakeHead) -> None:
    """As under cron."""
    head = make_head(*BY_PASSWORD)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(head.sshd.ssh_config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=True,
        timeout=20,
    )
    assert "failed AuthenticationRequired there is no terminal to ask" in done.stdout
    assert "assword:" in done.stdout
    wait_until(lambda: head.sshd.session_pids() == [])
    assert logins(head) == (1, 0, 0)
