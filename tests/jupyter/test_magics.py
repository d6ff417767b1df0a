"""%bridge, %head and %%head in a real kernel."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.local_server import LocalServer
from tests.support.notebook import Cell, Notebook
from tests.support.waiting import wait_until

# --- %head


def test_a_line_is_for_the_shell_of_the_head(notebook: Notebook) -> None:
    cell = notebook.execute("%head echo 'two  words' | tr a-z A-Z; echo aside >&2")
    assert (cell.stdout, cell.stderr, cell.error) == ("TWO  WORDS\n", "aside\n", "")
    assert not cell.result


def test_a_lines_variables_are_python_s_or_else_the_heads(notebook: Notebook) -> None:
    notebook.execute("job = 4711")
    assert notebook.execute("%head echo $job {job + 1}").stdout == "4711 4712\n"
    assert notebook.execute("%head echo $0 ${#SHELL}x").stdout.endswith("x\n")


def test_a_cells_variables_are_the_heads(notebook: Notebook) -> None:
    notebook.execute("job = 4711")
    assert notebook.execute("%%head\njob=12\necho $job {job}").stdout == "12 {job}\n"


def test_output_appears_before_the_end(notebook: Notebook, tmp_path: Path) -> None:
    """The command ends only when somebody has seen its first words."""
    seen = tmp_path / "seen"

    def look(cell: Cell) -> None:
        if cell.stdout == "first\n" and cell.stderr == "aside\n":
            seen.touch()

    cell = notebook.execute(
        f"%%head\necho first; echo aside >&2\n"
        f"for i in $(seq 300); do [ -e {seen} ] && break; sleep .1; done; echo last",
        meanwhile=look,
    )
    assert seen.exists()
    assert cell.stdout == "first\nlast\n"


def test_a_cell_is_not_the_input_of_its_commands(notebook: Notebook) -> None:
    assert notebook.execute("%%head\ncat\necho after").stdout == "after\n"
    assert notebook.execute("%%head --shell sh\ncat\necho after").stdout == "after\n"


def test_a_cell_is_the_input_of_an_interpreter(notebook: Notebook) -> None:
    cell = notebook.execute("%%head --shell 'python3 -u'\nimport sys\nprint(sys.path[0] == '')")
    assert cell.stdout == "True\n"


def test_a_long_cell_arrives_whole(notebook: Notebook) -> None:
    lines = "\n".join(f"# {number:06} {'x' * 60}" for number in range(5000))
    assert notebook.execute(f"%%head\n{lines}\necho end").stdout == "end\n"


def test_a_piece_of_a_letter_is_not_shown_as_rubbish(notebook: Notebook) -> None:
    cell = notebook.execute(
        r"%%head"
        "\nprintf '\\303'; for i in 1 2 3; do :; done; printf '\\274'; printf '\\377'"
    )
    assert cell.stdout == "ü�"


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_a_failed_cell_is_an_error_of_one_line(
    notebook: Notebook, command: str, status: int
) -> None:
    cell = notebook.execute(f"%%head\necho said; {command}")
    assert cell.stdout == "said\n"
    assert cell.error.startswith("CalledProcessError: Command '%%head' ")
    assert len(cell.traceback) == 1
    assert notebook.execute("_exit_code").result["text/plain"] == str(status)
    assert notebook.execute(f"%%head --no-raise-error\n{command}").error == ""


def test_output_goes_into_a_variable(notebook: Notebook) -> None:
    cell = notebook.execute("%head --out answer echo one; echo two >&2")
    assert (cell.stdout, cell.stderr) == ("", "two\n")
    assert notebook.execute("answer").result["text/plain"] == "'one\\n'"


def test_where_it_runs_can_be_said(notebook: Notebook, tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    assert notebook.execute(f"%head --cwd '{place}' pwd").stdout == f"{place}\n"
    assert "FileNotFoundError" in notebook.execute(f"%head --cwd {place}/none pwd").error


def test_what_is_left_running_is_found_again(notebook: Notebook) -> None:
    cell = notebook.execute(f"%%head --bg --out job\n# {'x' * 200_000}\necho from behind")
    assert cell.stdout.startswith("left running as ")
    said = notebook.execute("print(bridge.attach(job).communicate())")
    assert said.stdout == "('from behind\\n', '')\n"


@pytest.mark.parametrize(
    "code", ["%head", "%head --cwd", "%head --nonsense ls", "%%head ls\nls", "%bridge --nonsense"]
)
def test_what_is_not_understood_is_told_with_the_usage(notebook: Notebook, code: str) -> None:
    cell = notebook.execute(code)
    assert cell.stderr.startswith("UsageError: %")
    assert "usage: " in cell.stderr or "is for cells" in cell.stderr


# --- the stop button


def interrupt_at(notebook: Notebook, word: str) -> Callable[[Cell], None]:
    def look(cell: Cell) -> None:
        if cell.stdout.endswith(word) and not cell.error:
            notebook.interrupt()

    return look


def test_an_interrupt_is_one_sigint_for_the_command(notebook: Notebook, tmp_path: Path) -> None:
    told = tmp_path / "told"
    cell = notebook.execute(
        f"%%head\ntrap 'echo INT >> {told}; echo tidied; exit 0' INT\n"
        "echo begun\nfor i in $(seq 300); do sleep .1; done",
        meanwhile=interrupt_at(notebook, "begun\n"),
    )
    assert cell.stdout == "begun\ntidied\n"
    assert cell.error == "KeyboardInterrupt: "
    assert len(cell.traceback) == 1
    assert told.read_text() == "INT\n"
    assert notebook.execute("%head echo still there").stdout == "still there\n"


def test_what_ignores_an_interrupt_ends_all_the_same(notebook: Notebook) -> None:
    cell = notebook.execute(
        "%%head\ntrap '' INT\necho begun\nexec sleep 300",
        meanwhile=interrupt_at(notebook, "begun\n"),
    )
    assert cell.error == "KeyboardInterrupt: "
    assert notebook.execute("print(bridge.commands()[-1].returncode)").stdout == "-15\n"


# --- %bridge


def test_the_status_is_a_value_and_a_card(notebook: Notebook, server: LocalServer) -> None:
    cell = notebook.execute("%bridge")
    assert cell.result["text/plain"].startswith("connected by local to ")
    assert f"pid {server.pid}" in cell.result["text/html"]
    said = notebook.execute("status = %bridge\nprint(status.server_pid)")
    assert said.stdout == f"{server.pid}\n"
    assert "connected by local" in notebook.execute("bridge").result["text/html"]


def test_a_cell_that_is_run_again_keeps_its_bridge(notebook: Notebook) -> None:
    said = notebook.execute("again = %bridge --transport local\nagain is bridge")
    assert said.result["text/plain"] == "True"
    assert not said.displays
    said = notebook.execute(
        "other = %bridge --transport local --timeout 20\nother is bridge, bridge"
    )
    assert said.result["text/plain"] == "(False, <Bridge closed>)"


def test_steps_are_drawn_in_one_place(notebook: Notebook) -> None:
    cell = notebook.execute("other = %bridge --transport direct")
    assert len(cell.displays) == 1
    assert len(cell.drawings) >= 3  # begun, a step, the end
    assert "Connecting to" in cell.drawings[0]["text/html"]
    assert "handshake" in cell.displays[0]["text/html"]
    assert cell.displays[0]["text/plain"].startswith("✓ Connected to ")


def test_a_failure_is_marked_and_advised(notebook: Notebook) -> None:
    cell = notebook.execute("%bridge nowhere.invalid --transport tunnel --timeout 10")
    shown = cell.displays[0]["text/html"]
    assert "Not connected to nowhere.invalid" in shown
    assert "failed" in shown
    assert "What to do:" in shown
    name, _, what = cell.traceback[0].partition(": ")
    assert name in shown
    assert cell.error.startswith(f"{name}: {what} [")  # the advice was given once
    assert notebook.execute("%head echo kept").stdout == "kept\n"


def test_an_unknown_value_is_an_error_in_the_cell(notebook: Notebook) -> None:
    assert notebook.execute("%bridge login1 --transport pigeon").error.startswith("InvalidSettings")


def test_without_a_bridge_the_way_to_one_is_told(notebook: Notebook) -> None:
    assert notebook.execute("%bridge --close").stdout.startswith("closed: <Bridge connected by ")
    for code in ("%head ls", "%bridge"):
        cell = notebook.execute(code)
        assert "%bridge TARGET" in cell.error
        assert not cell.stderr  # nobody looks for another link


def test_tab_offers_hosts_and_options(kernel: Notebook, near_side: dict[str, str]) -> None:
    config = Path(near_side["HOME"], ".ssh", "config")
    config.parent.mkdir()
    config.write_text("Host login1 login2 log*\n")
    kernel.execute("%config IPCompleter.use_jedi = False")  # it takes seconds to load
    assert {"login1", "login2"} <= set(kernel.complete("%bridge lo"))
    assert "--transport" in kernel.complete("%bridge login1 --tr")


def test_the_magics_go_when_the_extension_goes(notebook: Notebook) -> None:
    notebook.execute("%unload_ext smartsim_bridge")
    assert "UsageError" in notebook.execute("%head ls").stderr
    notebook.execute("%load_ext smartsim_bridge")
    assert notebook.execute("%head echo back").stdout == "back\n"


def test_the_bridge_stays_when_the_extension_is_loaded_anew(notebook: Notebook) -> None:
    """Else the same cell would ask for a code again, and leave the former open."""
    notebook.execute("%load_ext smartsim_bridge\n%reload_ext smartsim_bridge")
    same = "bridge is get_ipython().run_line_magic('bridge', '--transport local')"
    assert notebook.run(same) == "True"


def test_hostile_names_are_text_in_every_drawing(notebook: Notebook) -> None:
    word = "<script>alert(1)</script>"
    notebook.execute(f"wait = bridge.popen(['sleep', '60', {word!r}], cwd='/')")
    listed = notebook.execute("bridge.commands()").result["text/html"]
    assert "&lt;script&gt;" in listed
    failed = notebook.execute(f"%bridge '{word}'")
    drawn = [one.get("text/html", "") for one in failed.drawings] + [listed]
    assert not [one for one in drawn if "<script" in one]
    notebook.execute("wait.kill(); wait.wait()")


def test_a_connect_that_hangs_is_interrupted_and_leaves_the_former_bridge(
    notebook: Notebook,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and says nothing
        port = silent.getsockname()[1]

        def press(cell: Cell) -> None:
            if len(cell.drawings) == 1:  # it has begun
                notebook.interrupt()

        options = f"--transport tunnel --ssh-port {port} --timeout 60"
        cell = notebook.execute(f"%bridge me@127.0.0.1 {options}", meanwhile=press)
    assert cell.error.startswith("KeyboardInterrupt")
    assert notebook.execute("%head echo still").stdout == "still\n"


def test_the_kernels_own_loop_goes_on(notebook: Notebook) -> None:
    notebook.execute("import asyncio")
    notebook.execute("task = asyncio.ensure_future(asyncio.sleep(0.05, 'done'))")
    assert notebook.execute("%head echo between").stdout == "between\n"
    assert notebook.run("await task") == "'done'"


def test_stop_ends_the_server(kernel: Notebook, tmp_path: Path) -> None:
    with LocalServer(tmp_path) as other:
        kernel.execute(f"%env SMARTSIM_BRIDGE_STATE_DIR={tmp_path}")
        kernel.execute("%bridge --transport local")
        assert kernel.execute("%bridge --stop").stdout.startswith("server stopped: ")
        wait_until(lambda: other.process.poll() is not None)
