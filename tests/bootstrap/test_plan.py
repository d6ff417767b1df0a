"""Every branch of the plan, in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smartsim_bridge.bootstrap.facts import Build, Neighbour, PythonFound
from smartsim_bridge.bootstrap.plan import (
    Launch,
    LookAgain,
    Provide,
    Start,
    Upload,
    in_next_directory,
    listen_addresses,
    plan,
    stored_at,
)
from smartsim_bridge.bootstrap.servers import Elsewhere, Use, of_session
from smartsim_bridge.errors import NoServer, NoUsablePython
from smartsim_bridge.protocol.beacon import Beacon
from tests.bootstrap.samples import BEACON, CREDENTIALS, FACTS, WISH, found

STATE = FACTS.state_dir


def test_a_live_server_is_used() -> None:
    decided = plan(replace(FACTS, beacons=(found(),)), WISH)

    assert decided == Use(BEACON, CREDENTIALS)


def test_a_live_server_is_used_without_autostart_and_without_pythons() -> None:
    facts = replace(FACTS, beacons=(found(),), searched=False, pythons=())

    assert isinstance(plan(facts, replace(WISH, autostart=False)), Use)


def test_of_two_live_servers_the_newer_is_used() -> None:
    newer = replace(BEACON, pid=5000, started=200.0)

    decided = plan(replace(FACTS, beacons=(found(newer), found())), WISH)

    assert isinstance(decided, Use)
    assert decided.beacon == newer


@pytest.mark.parametrize(
    ("beacon", "start", "alive", "why"),
    [
        (replace(BEACON, host="login2"), 777, True, "of another host, login2"),
        (replace(BEACON, uid=1001), 777, True, "of another user, uid 1001"),
        (replace(BEACON, boot_id="older"), 777, True, "from before the last reboot"),
        (BEACON, None, False, "process 4242 has ended"),
        (BEACON, 778, True, "pid 4242 belongs to another process now"),
        (BEACON, None, True, "pid 4242 belongs to another process now"),
    ],
)
def test_a_leftover_is_passed_over_and_named(
    beacon: Beacon, start: int | None, alive: bool, why: str
) -> None:
    facts = replace(FACTS, beacons=(found(beacon, start=start, alive=alive),))

    assert isinstance(plan(facts, WISH), Start)
    with pytest.raises(NoServer, match=why):
        plan(facts, replace(WISH, autostart=False))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "x" * 20_000, '{"format":99}', "{}"])
def test_a_broken_beacon_is_passed_over_and_named(text: str) -> None:
    facts = replace(FACTS, beacons=(found(text=text),))

    assert isinstance(plan(facts, WISH), Start)
    with pytest.raises(NoServer, match=r"/servers/4242\.json: not a beacon"):
        plan(facts, replace(WISH, autostart=False))


def test_a_leftover_beside_a_live_server_changes_nothing() -> None:
    leftover = found(replace(BEACON, boot_id="older", started=999.0))

    assert plan(replace(FACTS, beacons=(leftover, found())), WISH) == Use(BEACON, CREDENTIALS)


def test_a_host_without_proc_compares_no_start_times() -> None:
    beacon = replace(BEACON, pid_start=0)

    assert isinstance(plan(replace(FACTS, beacons=(found(beacon, start=None),)), WISH), Use)


@pytest.mark.parametrize("key_text", ["", "{", '{"server_key":"short"}'])
def test_a_server_with_missing_or_broken_keys_is_used_without_them(key_text: str) -> None:
    decided = plan(replace(FACTS, beacons=(found(key_text=key_text),)), WISH)

    assert decided == Use(BEACON, None)


def test_keys_of_another_server_are_not_used() -> None:
    beacon = replace(BEACON, server_key="z" * 40)

    assert plan(replace(FACTS, beacons=(found(beacon),)), WISH) == Use(beacon, None)


def test_no_server_and_no_autostart_says_so_with_host_and_step() -> None:
    with pytest.raises(NoServer) as raised:
        plan(FACTS, replace(WISH, autostart=False))

    assert str(raised.value) == (
        "No command server runs there [host me@login1, step plan]. "
        "Start one with autostart=True or `smartsim-bridge start`, or run "
        "scripts/start_cmd_server.py on the head."
    )


def test_a_start_without_a_search_for_pythons_asks_for_one() -> None:
    facts = replace(FACTS, searched=False, pythons=(), beacons=(found(alive=False),))

    assert plan(facts, WISH) == LookAgain()


def test_an_empty_head_gets_upload_and_launch() -> None:
    decided = plan(FACTS, WISH)

    assert decided == Start(
        upload=Upload(
            "/usr/bin/python3",
            "far.pyz",
            (STATE, "/var/tmp/smartsim-bridge-1000", "/tmp/smartsim-bridge-1000"),
        ),
        launch=Launch("/usr/bin/python3", f"{STATE}/far/far.pyz", ("127.0.0.1",), 0, STATE),
        python=FACTS.pythons[0],
    )


def test_a_far_half_that_lies_there_is_not_sent_again() -> None:
    decided = plan(replace(FACTS, artifacts=(f"{STATE}/far/far.pyz",)), WISH)

    assert isinstance(decided, Start)
    assert decided.upload is None
    assert decided.launch.path == f"{STATE}/far/far.pyz"


def test_a_read_only_home_is_left_alone() -> None:
    decided = plan(replace(FACTS, state_writable=False), WISH)

    assert isinstance(decided, Start)
    assert decided.upload is not None
    assert decided.upload.directories == (
        "/var/tmp/smartsim-bridge-1000",
        "/tmp/smartsim-bridge-1000",
    )
    assert decided.launch.state_dir == "/var/tmp/smartsim-bridge-1000"


def test_a_python_with_pyzmq_is_preferred() -> None:
    without = PythonFound("/usr/bin/python3", (3, 12, 0), why_no_zmq="No module named 'zmq'")
    having = PythonFound("/usr/bin/python3.9", (3, 9, 1), zmq="25.0")

    decided = plan(replace(FACTS, pythons=(without, having)), WISH)

    assert isinstance(decided, Start)
    assert decided.python == having


def test_without_pyzmq_the_first_new_enough_python_is_taken() -> None:
    old = PythonFound("/usr/bin/python3", (3, 6, 8))
    first = PythonFound("/usr/bin/python3.10", (3, 10, 0))
    second = PythonFound("/usr/bin/python3.9", (3, 9, 0))

    decided = plan(replace(FACTS, pythons=(old, first, second)), WISH)

    assert isinstance(decided, Start)
    assert decided.python == first


def test_a_head_without_a_usable_python_names_each_that_was_tried() -> None:
    pythons = (
        PythonFound("/usr/bin/python3", (3, 6, 8)),
        PythonFound("/opt/python3", fault="cannot open shared object file"),
    )
    with pytest.raises(NoUsablePython) as raised:
        plan(replace(FACTS, pythons=pythons, prelude_status=1), WISH)

    said = str(raised.value)
    assert "No Python 3.9 or newer was found there [host me@login1, step python]" in said
    assert "/usr/bin/python3: Python 3.6.8" in said
    assert "/opt/python3: cannot open shared object file" in said
    assert "the prelude ended with status 1" in said


def test_a_named_python_that_is_not_there_is_named() -> None:
    with pytest.raises(NoUsablePython, match=r"python='py3' is not a Python 3\.9 or newer"):
        plan(replace(FACTS, pythons=()), replace(WISH, python="py3"))


def test_a_python_that_did_not_answer_is_answered_with_more_time() -> None:
    hanging = PythonFound("/nfs/bin/python3", fault="did not answer within 7 s")
    with pytest.raises(NoUsablePython) as raised:
        plan(replace(FACTS, pythons=(hanging,)), WISH)

    assert "raise timeout=" in raised.value.advice
    assert "prelude=" in raised.value.advice


def test_the_wished_port_is_launched_with() -> None:
    decided = plan(FACTS, replace(WISH, port=5555))

    assert isinstance(decided, Start)
    assert decided.launch.port == 5555


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ("10.1.2.3 50000 10.9.8.7 22", "10.9.8.7"),
        ("10.1.2.3 50000 172.16.0.1 22", "172.16.0.1"),
        ("10.1.2.3 50000 192.168.7.7 22", "192.168.7.7"),
        ("10.1.2.3 50000 100.64.1.1 22", "100.64.1.1"),
        ("::ffff:10.1.2.3 50000 ::ffff:10.9.8.7 22", "10.9.8.7"),
        ("1.2.3.4 50000 8.8.8.8 22", ""),
        ("127.0.0.1 50000 127.0.0.1 22", ""),
        ("169.254.1.1 50000 169.254.1.2 22", ""),
        ("1.2.3.4 50000 0.0.0.0 22", ""),
        ("fe80::1 50000 fe80::2%eth0 22", ""),
        ("fd00::1 50000 fd00::2 22", ""),
        ("::1 50000 ::1 22", ""),
        ("x y; rm z 22", ""),
        ("UNKNOWN 65535 UNKNOWN 65535", ""),
        ("10.1.2.3 50000 10.9.8.7", ""),
        ("", ""),
    ],
)
def test_only_a_private_address_is_listened_on_besides_loopback(
    connection: str, address: str
) -> None:
    assert listen_addresses(connection) == (("127.0.0.1", address) if address else ("127.0.0.1",))


# --- servers on other heads ----------------------------------------------------------------

ALIAS = replace(WISH, spelled="login", names=("login", "login.site"))
OTHER = replace(BEACON, host="login3", pid=5555, known_as=("login",))


def neighbour(beacon: Beacon = OTHER, **changes: str) -> Neighbour:
    whole = Neighbour(
        f"{STATE}/servers/{beacon.host}.json", beacon.to_json(), CREDENTIALS.to_json()
    )
    return replace(whole, **changes)


def test_an_alias_means_a_server_on_another_head_as_well() -> None:
    facts = replace(FACTS, neighbours=(neighbour(),))

    assert plan(facts, ALIAS) == Elsewhere((Use(OTHER, CREDENTIALS),))
    assert plan(facts, replace(ALIAS, autostart=False)) == Elsewhere((Use(OTHER, CREDENTIALS),))


def test_of_several_the_oldest_comes_first() -> None:
    third = replace(OTHER, host="login4", started=OTHER.started + 1)
    facts = replace(FACTS, neighbours=(neighbour(third), neighbour()))

    decided = plan(facts, ALIAS)

    assert isinstance(decided, Elsewhere)
    assert [use.beacon.host for use in decided.servers] == ["login3", "login4"]


@pytest.mark.parametrize("later", [0.0, 0.5], ids=["at the same moment", "half a second later"])
def test_where_two_clients_started_one_each_all_choose_the_same(later: float) -> None:
    """Wherever the login ends."""
    first = replace(BEACON, known_as=("login",))
    second = replace(OTHER, started=first.started + later)
    there = replace(FACTS, host="login3", beacons=(found(second),), neighbours=(neighbour(first),))
    here = replace(FACTS, beacons=(found(first),), neighbours=(neighbour(second),))

    assert plan(here, ALIAS) == Use(first, CREDENTIALS)
    assert plan(there, ALIAS) == Elsewhere((Use(first, CREDENTIALS),))
    # Out of reach after all, the other one serves.
    assert plan(there, replace(ALIAS, alone=True)) == Use(second, CREDENTIALS)
    # A session stays with the one that has its commands.
    assert plan(there, replace(ALIAS, sought=("login3", second.pid))) == Use(second, CREDENTIALS)


def test_what_an_earlier_climb_found_leads_a_session_back_to_its_own_server() -> None:
    first, second = Use(replace(OTHER, pid=1), None), Use(OTHER, CREDENTIALS)

    assert of_session((first, second), ("login3", 5555)) == (second,)
    assert of_session((first, second), ("login1", 5555)) == ()
    assert of_session((first, second), None) == ()


def test_a_server_that_was_started_by_the_name_of_this_head_is_used_here() -> None:
    facts = replace(FACTS, beacons=(found(),), neighbours=(neighbour(replace(OTHER, started=1.0)),))

    assert plan(facts, ALIAS) == Use(BEACON, CREDENTIALS)


def test_who_was_out_of_reach_when_this_one_started_is_not_tried_again() -> None:
    older = replace(OTHER, started=1.0)
    facts = replace(FACTS, neighbours=(neighbour(older),))
    started = plan(facts, replace(ALIAS, alone=True))
    assert isinstance(started, Start)
    assert started.launch.apart_from == ("login3",)

    apart = replace(BEACON, known_as=("login",), apart_from=started.launch.apart_from)
    assert plan(replace(facts, beacons=(found(apart),)), ALIAS) == Use(apart, CREDENTIALS)


@pytest.mark.parametrize(
    ("names", "arrived"),
    [
        (("login1",), ""),
        (("login1.site",), ""),
        (("LOGIN1",), ""),
        (("cluster", "login1.site"), ""),
        (("10.77.0.2",), "10.77.0.2"),
        ((), ""),
    ],
)
def test_who_names_this_head_gets_a_server_here(names: tuple[str, ...], arrived: str) -> None:
    facts = replace(FACTS, neighbours=(neighbour(),), ssh_connection=f"10.77.0.9 5 {arrived} 22")

    assert isinstance(plan(facts, replace(WISH, names=names)), Start)


@pytest.mark.parametrize("names", [("login",), ("10.77.0.1",), ("127.0.0.1",), ("login1x",)])
def test_what_is_no_name_of_this_head_may_mean_another(names: tuple[str, ...]) -> None:
    facts = replace(FACTS, neighbours=(neighbour(),), ssh_connection="127.0.0.1 5 127.0.0.1 22")

    other = replace(OTHER, known_as=names)
    facts = replace(facts, neighbours=(neighbour(other),))
    assert isinstance(plan(facts, replace(WISH, names=names)), Elsewhere)


def test_a_server_that_was_never_reached_by_this_name_does_not_stand_in() -> None:
    """Such as one on a compute node, where there is no scheduler."""
    beacon = replace(OTHER, host="compute1", known_as=("another",))

    assert isinstance(plan(replace(FACTS, neighbours=(neighbour(beacon),)), ALIAS), Start)


def test_a_session_goes_back_to_its_server_by_whatever_name_it_was_started() -> None:
    beacon = replace(OTHER, known_as=())
    facts = replace(FACTS, neighbours=(neighbour(beacon),))

    assert isinstance(plan(facts, replace(ALIAS, sought=("login3", 5555))), Elsewhere)


def test_who_names_a_head_without_a_server_is_told_where_one_is() -> None:
    facts = replace(FACTS, neighbours=(neighbour(),))

    with pytest.raises(NoServer, match=r"servers of yours run on login3 \(pid 5555\)") as raised:
        plan(facts, replace(WISH, autostart=False, names=("login1",)))
    assert "Name the head" in raised.value.advice


def test_others_out_of_reach_leave_a_start_here() -> None:
    facts = replace(FACTS, neighbours=(neighbour(),))

    assert isinstance(plan(facts, replace(ALIAS, alone=True)), Start)


def test_a_session_goes_back_to_its_own_server_before_any_other() -> None:
    facts = replace(FACTS, beacons=(found(),), neighbours=(neighbour(),))

    decided = plan(facts, replace(ALIAS, sought=("login3", 5555)))
    assert decided == Elsewhere((Use(OTHER, CREDENTIALS),))
    assert isinstance(plan(facts, replace(ALIAS, sought=("login3", 1))), Use)


@pytest.mark.parametrize(
    "one",
    [
        neighbour(text=""),
        neighbour(text="{"),
        neighbour(replace(OTHER, uid=1001)),
        neighbour(replace(OTHER, host="login1", boot_id="older")),
    ],
    ids=["empty", "garbage", "another user's", "this host before its reboot"],
)
def test_a_neighbour_that_is_none_is_passed_over(one: Neighbour) -> None:
    assert isinstance(plan(replace(FACTS, neighbours=(one,)), ALIAS), Start)


def test_a_neighbour_without_the_wished_port_will_not_do() -> None:
    facts = replace(FACTS, neighbours=(neighbour(),))

    assert isinstance(plan(facts, replace(ALIAS, port=5555)), Start)
    assert isinstance(plan(facts, replace(ALIAS, port=41234)), Elsewhere)


def test_the_alias_is_what_the_server_is_known_as() -> None:
    decided = plan(FACTS, replace(WISH, names=("login", "127.0.0.1", "login1.site", "-x", "a b")))

    assert isinstance(decided, Start)
    assert decided.launch.known_as == ("login",)


# --- state that lies elsewhere -------------------------------------------------------------


def test_a_server_that_had_to_go_elsewhere_is_used_when_the_home_is_well_again() -> None:
    beacon = replace(BEACON, instead_of=STATE)
    there = found(beacon, path="/var/tmp/smartsim-bridge-1000/servers/login1-x.json")

    assert plan(replace(FACTS, beacons=(there,)), WISH) == Use(beacon, CREDENTIALS)


def test_the_server_of_another_state_directory_is_left_alone() -> None:
    beacon = replace(BEACON, instead_of="/other/state")
    there = found(beacon, path="/var/tmp/smartsim-bridge-1000/servers/login1-x.json")

    assert isinstance(plan(replace(FACTS, beacons=(there,)), WISH), Start)


def test_a_directory_that_takes_nothing_is_followed_by_the_next_and_so_on_to_the_end() -> None:
    start = plan(FACTS, WISH)
    tried = []
    while isinstance(start, Start):
        tried.append((start.launch.state_dir, start.launch.path, start.launch.instead_of))
        start = in_next_directory(start, FACTS)  # type: ignore[assignment]

    assert tried == [
        (STATE, f"{STATE}/far/far.pyz", ""),
        ("/var/tmp/smartsim-bridge-1000", "/var/tmp/smartsim-bridge-1000/far/far.pyz", STATE),
        ("/tmp/smartsim-bridge-1000", "/tmp/smartsim-bridge-1000/far/far.pyz", STATE),
    ]


def test_the_state_follows_the_far_half() -> None:
    start = plan(FACTS, WISH)
    assert isinstance(start, Start)

    launch = stored_at(start, "/tmp/smartsim-bridge-1000/far/far.pyz", FACTS).launch
    assert (launch.state_dir, launch.instead_of) == ("/tmp/smartsim-bridge-1000", STATE)
    launch = stored_at(start, f"{STATE}/far/far.pyz", FACTS).launch
    assert (launch.state_dir, launch.instead_of) == (STATE, "")


# --- pyzmq that is brought ----------------------------------------------------------------

BUILT = Build("cpython-39-x86_64-linux-gnu", "linux-x86_64", "x86_64", 64, "glibc 2.28")
BARE = PythonFound("/usr/bin/python3.9", (3, 9, 2), why_no_zmq="none", build=BUILT)
PYPY = PythonFound("/usr/bin/pypy3", (3, 10, 1), build=replace(BUILT, soabi="pypy310-pp73"))


def test_pyzmq_is_brought_only_where_that_is_wanted_and_there_is_none() -> None:
    bare = replace(FACTS, pythons=(BARE,))
    wanting = replace(WISH, provision=True)

    decided = plan(bare, wanting)
    assert isinstance(decided, Start)
    assert decided.provide == Provide(
        BARE, (STATE, *(f"{root}/smartsim-bridge-1000" for root in ("/var/tmp", "/tmp")))
    )
    for facts, wish in ((bare, WISH), (FACTS, wanting)):
        decided = plan(facts, wish)
        assert isinstance(decided, Start)
        assert decided.provide is None


def test_pyzmq_goes_to_the_python_that_a_wheel_can_fit() -> None:
    facts = replace(FACTS, pythons=(PYPY, BARE))

    chosen = [plan(facts, replace(WISH, provision=wanted)) for wanted in (True, False)]
    assert [one.python for one in chosen if isinstance(one, Start)] == [BARE, PYPY]


def test_where_no_wheel_fits_the_first_serves_all_the_same() -> None:
    decided = plan(replace(FACTS, pythons=(PYPY,)), replace(WISH, provision=True))

    assert isinstance(decided, Start)
    assert decided.python == PYPY
    assert decided.provide is not None


def test_what_lies_beside_the_far_half_is_named_to_the_server() -> None:
    lent = replace(BARE, zmq="27.3.0", site="/state/far/pyzmq-27")

    for provision in (False, True):
        decided = plan(replace(FACTS, pythons=(lent,)), replace(WISH, provision=provision))
        assert isinstance(decided, Start)
        assert decided.launch.site == "/state/far/pyzmq-27"
        assert decided.provide is None
