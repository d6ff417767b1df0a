"""Defaults < file < environment < arguments, and who is to blame for what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest

from smartsim_bridge.errors import CommandServerError, InvalidSettings
from smartsim_bridge.settings import Settings

HOME = {"HOME": "/home/me", "USER": "me"}
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def gather(file: Path, environ: dict[str, str] | None = None, **arguments: Any) -> Settings:
    return Settings.gather(environ={**HOME, **(environ or {})}, config_file=file, **arguments)


# --- who has the last word ----------------------------------------------------------------


def test_without_anything_the_defaults_hold(file: Path) -> None:
    settings = gather(file)
    assert settings == Settings(home="/home/me", local_user=ME, environment=HOME)
    assert (settings.addr, settings.port, settings.transport) == ("127.0.0.1", None, "auto")
    assert (settings.autostart, settings.host_keys, settings.timeout) == (False, "strict", 30.0)


def test_the_environment_beats_the_file_and_an_argument_beats_both(file: Path) -> None:
    file.write_text("[default]\ntimeout = 1\nuser = 'file'\nprelude = 'from file'\n")
    environ = {"SMARTSIM_BRIDGE_TIMEOUT": "2", "SMARTSIM_BRIDGE_USER": "environment"}
    settings = gather(file, environ, timeout=3)
    assert (settings.timeout, settings.user, settings.prelude) == (3.0, "environment", "from file")


def test_the_table_of_the_host_beats_the_default_table(file: Path) -> None:
    file.write_text('[default]\ntimeout = 1\n[host.login1]\ntimeout = 2\n[host."a.b"]\nuser="x"\n')
    assert gather(file, addr="login1").timeout == 2
    assert gather(file, {"SMARTSIM_BRIDGE_ADDR": "login1"}).timeout == 2
    assert gather(file, addr="login2").timeout == 1
    assert gather(file, addr="a.b").user == "x"


def test_none_leaves_the_word_to_the_others(file: Path) -> None:
    environ = {"SMARTSIM_BRIDGE_TRANSPORT": "stdio"}
    assert gather(file, environ, transport=None).transport == "stdio"


def test_an_empty_variable_says_nothing(file: Path) -> None:
    assert gather(file, {"SMARTSIM_BRIDGE_TRANSPORT": ""}).transport == "auto"


def test_the_file_may_be_named_by_a_variable(file: Path) -> None:
    file.write_text("[default]\ntimeout = 7\n")
    environ = {**HOME, "SMARTSIM_BRIDGE_CONFIG": str(file)}
    assert Settings.gather(environ=environ).timeout == 7


# --- words and their meaning --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "5555", 5555),
        ("AUTOSTART", "1", True),
        ("AUTOSTART", "yes", True),
        ("AUTOSTART", "False", False),
        ("KEEP_ENV", "SLURM_JOB_ID, PMI_*", ("SLURM_JOB_ID", "PMI_*")),
        ("TIMEOUT", "2.5", 2.5),
        ("HOST_KEYS", "accept-new", "accept-new"),
        ("STATE_DIR", "/scratch/me", "/scratch/me"),
    ],
)
def test_a_variable_is_read_as_its_type(name: str, text: str, value: object, file: Path) -> None:
    settings = gather(file, {f"SMARTSIM_BRIDGE_{name}": text})
    assert getattr(settings, name.lower()) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("addr", ""),
        ("addr", "  "),
        ("addr", 5),
        ("port", 0),
        ("port", 65536),
        ("port", "http"),
        ("port", True),
        ("transport", "carrier-pigeon"),
        ("transport", ["auto"]),
        ("host_keys", "never"),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("inf")),
        ("timeout", float("nan")),
        ("timeout", "soon"),
        ("autostart", "perhaps"),
        ("keep_env", 5),
        ("python", ""),
    ],
)
def test_a_wrong_value_is_named(name: str, value: object, file: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        gather(file, None, **{name: value})
    assert name in caught.value.what
    assert caught.value.step == "settings"
    assert isinstance(caught.value, (ValueError, CommandServerError))


def test_an_unknown_argument_is_named(file: Path) -> None:
    with pytest.raises(InvalidSettings, match="transprot"):
        gather(file, transprot="auto")


@pytest.mark.parametrize(
    "text",
    [
        "[default]\ntransprot = 'auto'\n",
        "[host.'127.0.0.1']\ntransprot = 'auto'\n",
        "[default]\nask = 'me'\n",
        "[default]\nhome = '/root'\n",
        "default = 5\n",
        "host = 5\n",
        "[host]\n'127.0.0.1' = 5\n",
        "not toml at all",
        "[default]\ntimeout = 'soon'\n",
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_culprit(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(InvalidSettings) as caught:
        gather(file)
    assert str(file) in caught.value.what or "timeout" in caught.value.what


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=str(tmp_path)):
        gather(tmp_path)  # a directory


def test_a_wrong_variable_is_named(file: Path) -> None:
    with pytest.raises(InvalidSettings, match="port"):
        gather(file, {"SMARTSIM_BRIDGE_PORT": "http"})


# --- places -------------------------------------------------------------------------------


def test_beacons_lie_in_the_home_or_where_the_user_said(file: Path) -> None:
    assert gather(file).state_directory == "/home/me/.local/state/smartsim-bridge"
    assert gather(file, {"SMARTSIM_BRIDGE_STATE_DIR": "/x"}).state_directory == "/x"


def test_sockets_lie_in_the_runtime_directory_where_it_is_ours(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    settings = gather(file, {"XDG_RUNTIME_DIR": str(runtime)})
    assert settings.runtime_directory == f"{runtime}/smartsim-bridge"


@pytest.mark.filterwarnings("error")
def test_a_runtime_directory_of_somebody_else_is_not_used(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write there could exchange what lies in it, also below a private directory."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    settings = gather(file, {"XDG_RUNTIME_DIR": str(runtime)})
    runtime.chmod(0o770)
    assert settings.runtime_directory == tempfile.gettempdir()
    runtime.chmod(0o700)
    assert settings.runtime_directory == f"{runtime}/smartsim-bridge"
    monkeypatch.setattr("os.getuid", lambda: runtime.stat().st_uid + 1)
    assert settings.runtime_directory == tempfile.gettempdir()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    relative = gather(file, {"XDG_RUNTIME_DIR": "runtime"})
    assert relative.runtime_directory == tempfile.gettempdir()


@pytest.mark.filterwarnings("error")
def test_without_a_runtime_directory_it_is_the_temporary_one_without_a_warning(
    file: Path, tmp_path: Path
) -> None:
    assert gather(file).runtime_directory == tempfile.gettempdir()
    missing = gather(file, {"XDG_RUNTIME_DIR": str(tmp_path / "missing")})
    assert missing.runtime_directory == tempfile.gettempdir()


# --- the value ----------------------------------------------------------------------------


def test_settings_are_frozen(file: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        gather(file).addr = "x"  # type: ignore[misc]


def test_repr_shows_neither_environment_nor_questions(file: Path) -> None:
    settings = gather(file, {"API_TOKEN": "canary"}, ask=lambda prompt, secret: "canary")
    assert "canary" not in repr(settings)
    assert "lambda" not in repr(settings)


def test_a_user_without_a_name_is_no_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(uid: int) -> NoReturn:
        raise KeyError(f"uid {uid} not found")

    monkeypatch.setattr("pwd.getpwuid", nameless)
    settings = Settings.gather(environ={"HOME": os.fspath(file.parent)}, config_file=file)
    assert settings.local_user == ""


def test_the_user_is_who_runs_this_whatever_the_environment_says(file: Path) -> None:
    environ = {"HOME": os.fspath(file.parent), "USER": "somebody.else"}
    settings = Settings.gather(environ=environ, config_file=file)
    assert settings.local_user == ME


def test_every_keyword_of_init_is_a_field() -> None:
    from inspect import signature

    from smartsim_bridge import init_command_server

    words = set(signature(init_command_server).parameters)
    names = {one.name for one in dataclasses.fields(Settings)}
    assert words <= names
    assert names - words == {"environment", "home", "local_user", "runtime_dir", "state_dir"}
    for word in words:
        assert word in (init_command_server.__doc__ or ""), word


# --- for later ----------------------------------------------------------------------------


def test_what_was_said_can_be_gathered_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").touch()
    environ = {"SMARTSIM_BRIDGE_TIMEOUT": "5", "SMARTSIM_BRIDGE_USER": "me", "OTHER": "x"}
    said = Settings.spoken(environ=environ, addr="login1", user="you", identity="key", port=None)
    assert said == {
        "addr": "login1",
        "user": "you",
        "timeout": 5.0,
        "identity": str(tmp_path / "key"),
    }
    assert json.loads(json.dumps(said)) == said


def test_what_was_said_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidSettings, match="transport"):
        Settings.spoken(environ={}, transport="none")
    with pytest.raises(InvalidSettings, match="on_stage"):
        Settings.spoken(environ={}, on_stage=print)
