from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smartsim_bridge.deadline import Deadline
from smartsim_bridge.errors import InvalidSettings, UnsupportedSshConfig
from smartsim_bridge.ssh.openssh_target import find_ssh, resolve_openssh_target
from smartsim_bridge.ssh.target import Target, resolve_target


def resolve(spelled: str, home: Path, config: str = "", **keywords: Any) -> Target:
    path = home / "config"
    path.write_text(config + "\n")
    keywords.setdefault("ssh_config", str(path))
    return resolve_target(spelled, local_user="me", home=str(home), **keywords)


@pytest.mark.parametrize(
    ("spelled", "user", "hostname", "port"),
    [
        ("login1", "me", "login1", 22),
        ("ann@login1", "ann", "login1", 22),
        ("ann@login1:2222", "ann", "login1", 2222),
        ("login1:2222", "me", "login1", 2222),
        ("ann@site.org@login1", "ann@site.org", "login1", 22),
        ("[::1]:22", "me", "::1", 22),
        ("[::1]", "me", "::1", 22),
        ("::1", "me", "::1", 22),
        ("ann@fe80::1%eth0", "ann", "fe80::1%eth0", 22),
        ("ssh://ann@h:2200", "ann", "h", 2200),
        ("ssh://h/", "me", "h", 22),
        (" login1 ", "me", "login1", 22),
        ("LOGIN1", "me", "login1", 22),
        ("127.0.0.1", "me", "127.0.0.1", 22),
    ],
)
def test_each_spelling_is_understood(
    spelled: str, user: str, hostname: str, port: int, tmp_path: Path
) -> None:
    target = resolve(spelled, tmp_path)
    assert (target.user, target.hostname, target.port) == (user, hostname, port)
    assert target.spelled == spelled


@pytest.mark.parametrize(
    "spelled",
    ["", " ", "@h", "me@", "h:", "h:0", "h:65536", "h:ssh", "h:+22", "h:²", "-oProxyCommand=x",
     "me@-x", "a b", "h/path", "h;id", "[h]:22", "[::1", "a:b:c", "$(id)", "h\n", "ssh://", "*"],
)  # fmt: skip
def test_malformed_targets_are_refused(spelled: str, tmp_path: Path) -> None:
    if spelled == "h\n":
        spelled = "h\nx"
    with pytest.raises(InvalidSettings) as caught:
        resolve(spelled, tmp_path)
    assert repr(spelled) in str(caught.value) or "port" in str(caught.value)


def test_keywords_win_over_the_spelling_which_wins_over_the_config(tmp_path: Path) -> None:
    config = "Host login1\n  User config\n  Port 1\n  HostName h.site"
    assert resolve("login1", tmp_path, config).destination == "config@h.site:1"
    assert resolve("typed@login1:2", tmp_path, config).destination == "typed@h.site:2"
    by_keyword = resolve("typed@login1:2", tmp_path, config, user="key", ssh_port=3)
    assert by_keyword.destination == "key@h.site:3"
    assert by_keyword.alias == "login1"


@pytest.mark.parametrize(
    "keywords",
    [{"ssh_port": 0}, {"ssh_port": 70000}, {"user": "-x"}, {"user": "a b"},
     {"user": ""}, {"user": "a;id"}, {"user": "$(id)"}, {"user": "`id`"}, {"user": "a\\"},
     {"jump": "a;id"}, {"jump": "gate,-x"}],
)  # fmt: skip
def test_malformed_keywords_are_refused(keywords: dict[str, Any], tmp_path: Path) -> None:
    # A ProxyCommand is a line for a shell, and these stand in it.
    config = "ProxyCommand nc -x %r %h"
    with pytest.raises(InvalidSettings):
        resolve("login1", tmp_path, config, **keywords)
    if find_ssh() is None:
        return
    with pytest.raises(InvalidSettings):
        resolve_openssh_target("login1", home=str(tmp_path), deadline=Deadline(60), **keywords)


def test_destination_brackets_an_ipv6_address(tmp_path: Path) -> None:
    assert resolve("ann@[::1]:23", tmp_path).destination == "ann@[::1]:23"


def test_host_key_name_carries_the_port_unless_it_is_an_alias(tmp_path: Path) -> None:
    assert resolve("h", tmp_path).host_key_name == "h"
    assert resolve("h:23", tmp_path).host_key_name == "[h]:23"
    assert resolve("[::1]:23", tmp_path).host_key_name == "[::1]:23"
    assert resolve("h:23", tmp_path, "HostKeyAlias cluster").host_key_name == "cluster"


def test_known_hosts_are_the_users_files_and_then_the_systems(tmp_path: Path) -> None:
    target = resolve("h", tmp_path)
    assert target.known_hosts == (
        f"{tmp_path}/.ssh/known_hosts",
        f"{tmp_path}/.ssh/known_hosts2",
        "/etc/ssh/ssh_known_hosts",
        "/etc/ssh/ssh_known_hosts2",
    )
    assert target.new_keys_file == f"{tmp_path}/.ssh/known_hosts"


def test_known_hosts_none_leaves_nowhere_to_write(tmp_path: Path) -> None:
    target = resolve("h", tmp_path, "UserKnownHostsFile none\nGlobalKnownHostsFile /etc/k")
    assert (target.known_hosts, target.new_keys_file) == (("/etc/k",), None)


def test_identities_come_from_the_keyword_then_the_config_then_the_defaults(
    tmp_path: Path,
) -> None:
    usual = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
    assert resolve("h", tmp_path).identities == tuple(f"{tmp_path}/.ssh/{one}" for one in usual)
    config = "IdentityFile ~/.ssh/%h-%r\nIdentitiesOnly yes"
    configured = resolve("h", tmp_path, config)
    assert configured.identities == (f"{tmp_path}/.ssh/h-me",)
    assert configured.identities_only
    (tmp_path / "key").write_text("")
    named = resolve("h", tmp_path, config, identity="~/key")
    assert named.identities == (f"{tmp_path}/key", f"{tmp_path}/.ssh/h-me")
    assert resolve("h", tmp_path, "IdentityFile none").identities == ()


def test_an_identity_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="not a file"):
        resolve("h", tmp_path, identity=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("config", "agent"),
    [("", None), ("IdentityAgent none", "none"), ("IdentityAgent SSH_AUTH_SOCK", None),
     ("IdentityAgent /run/agent", "/run/agent")],
)  # fmt: skip
def test_identity_agent_is_the_environments_unless_named(
    config: str, agent: str | None, tmp_path: Path
) -> None:
    assert resolve("h", tmp_path, config).identity_agent == agent


def test_identity_agent_in_a_variable_is_that_of_the_callers_environment(tmp_path: Path) -> None:
    for spelled in ("$MY_AGENT", "${MY_AGENT}"):
        config = f"IdentityAgent {spelled}"
        target = resolve("h", tmp_path, config, environment={"MY_AGENT": "/run/agent"})
        assert target.identity_agent == "/run/agent"
    # As ssh: the old form is no agent then, and the new one an error.
    assert resolve("h", tmp_path, "IdentityAgent $MY_AGENT").identity_agent == "none"
    with pytest.raises(InvalidSettings, match="MY_AGENT"):
        resolve("h", tmp_path, "IdentityAgent ${MY_AGENT}")


def test_methods_follow_the_config(tmp_path: Path) -> None:
    everything = ("publickey", "keyboard-interactive", "password")
    assert resolve("h", tmp_path).methods == everything
    config = "PreferredAuthentications password,gssapi-with-mic,publickey"
    assert resolve("h", tmp_path, config).methods == ("password", "publickey")
    config = "PasswordAuthentication no\nKbdInteractiveAuthentication no"
    assert resolve("h", tmp_path, config).methods == ("publickey",)


def test_proxy_command_gets_its_tokens(tmp_path: Path) -> None:
    target = resolve("login1:23", tmp_path, "HostName h.site\nProxyCommand nc %h %p '%n' %% #1")
    assert target.proxy_command == "nc h.site 23 'login1' % #1"
    assert resolve("h", tmp_path, "ProxyCommand none").proxy_command is None


def test_jump_hosts_are_resolved_by_their_own_config(tmp_path: Path) -> None:
    config = "Host gate\n HostName gate.site\n User guest\nHost login1\n ProxyJump gate,b@c:23"
    target = resolve("login1", tmp_path, config)
    assert target.jump == ("gate", "b@c:23")
    assert [hop.destination for hop in target.hops] == ["guest@gate.site:22", "b@c:23"]


def test_the_first_jump_host_may_have_jump_hosts_of_its_own(tmp_path: Path) -> None:
    config = "Host gate\n ProxyJump outer\nHost c\n ProxyJump never\nHost login1\n ProxyJump gate,c"
    target = resolve("login1", tmp_path, config)
    assert [hop.alias for hop in target.hops] == ["outer", "gate", "c"]


def test_the_jump_keyword_wins_and_none_switches_off(tmp_path: Path) -> None:
    config = "Host login1\n  ProxyJump gate"
    assert resolve("login1", tmp_path, config, jump="a,b").jump == ("a", "b")
    assert resolve("login1", tmp_path, config, jump="none").hops == ()
    assert resolve("login1", tmp_path, "ProxyCommand nc %h %p", jump="a").proxy_command is None


@pytest.mark.parametrize(
    "config", ["ProxyJump gate", "Host login1\n ProxyJump login1", "Host *\n ProxyJump a,b"]
)
def test_a_jump_host_reached_through_itself_is_refused(config: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSshConfig, match="through itself"):
        resolve("login1", tmp_path, config)


def test_a_target_shows_no_more_than_it_was_told(tmp_path: Path) -> None:
    assert "login1" in repr(resolve("login1", tmp_path))
