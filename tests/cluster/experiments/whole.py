"""An experiment as users of SmartSim write them: it knows of no bridge.

    python whole.py DIRECTORY      the longest model ends when there is a file DIRECTORY.go

Prints a line of JSON for each step.  test_smartsim.py runs it in hosts of the cluster.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import redis
from smartredis import Client, Dataset
from smartsim import Experiment
from smartsim.wlm import detect_launcher, slurm

HERE = Path(sys.argv[1])
GO = HERE.with_name(f"{HERE.name}.go")
BEGAN = time.monotonic()
# What a model that fails runs.  Slower than SmartSim's look for those that fail at once.
FAILING = HERE / "failing.sh"
WAITING = HERE / "waiting.sh"


def say(step: str, said: Any = None) -> None:
    seconds = round(time.monotonic() - BEGAN, 1)
    print(json.dumps({"step": step, "said": said, "seconds": seconds}), flush=True)


def statuses(*entities: Any) -> list[str]:
    return [status.value for status in experiment.get_status(*entities)]


def unrecorded() -> list[str]:
    """Jobs that SmartSim's monitor has seen begin, and not end; members of one have one end."""
    begun, ended = (
        {json.loads(one.read_text())["step_id"] for one in (HERE / ".smartsim").glob(f"**/{name}")}
        for name in ("start.json", "stop.json")
    )
    return sorted(begun - ended)


def srun(program: str, *words: str) -> Any:
    settings = experiment.create_run_settings(program, list(words), run_command="srun")
    settings.alloc = allocation
    settings.set_tasks(1)
    return settings


HERE.mkdir()
FAILING.write_text("sleep 1\nexit 3\n")
WAITING.write_text(f"until [ -e {GO} ]; do sleep 0.1; done\n")
say("launcher", detect_launcher())
# The nodes run all of it at once, whatever each asks for.
options = {"overcommit": "", "ntasks": "8", "nodelist": "compute2"}
allocation = slurm.get_allocation(nodes=1, time="00:10:00", options=options)
say("allocation", allocation)

experiment = Experiment("whole", launcher="auto", exp_path=str(HERE))
where = {"nodelist": "compute2"}
batch = experiment.create_batch_settings(nodes=1, time="00:05:00", batch_args=where)
echo = experiment.create_run_settings("/bin/echo", ["spam"], run_command="srun")
long = experiment.create_model("long", srun("/bin/sh", str(WAITING)))
failing = experiment.create_model("failing", srun("/bin/sh", str(FAILING)))
single = experiment.create_model("single", echo, batch_settings=batch)
members = experiment.create_ensemble("members", replicas=2, run_settings=echo, batch_settings=batch)
entities = (long, failing, single, members)
experiment.generate(*entities)
experiment.start(failing, single, members, block=False, summary=False)
experiment.start(long, block=False, summary=False)
say("polling")
experiment.poll(interval=1, verbose=False)
say("statuses", statuses(*entities))
say("output", (HERE / "single" / "single.out").read_text())

endless = experiment.create_model("endless", srun("/bin/sleep", "1000"))
experiment.generate(endless)
experiment.start(endless, block=False, summary=False)
experiment.stop(endless)
say("stopped", statuses(endless))

database = experiment.create_database(port=6780, interface="eth0", alloc=allocation)
experiment.generate(database)
experiment.start(database, block=False, summary=False)
(address,) = database.get_address()
host, port = address.split(":")
plain = redis.Redis(host, int(port))
plain.set("key", "value")
client = Client(address=address, cluster=False)
dataset = Dataset("words")
dataset.add_meta_string("first", "spam")
client.put_dataset(dataset)
words = client.get_dataset("words").get_meta_strings("first")
value: Any = plain.get("key")
say("database", [address, value.decode(), *words])
experiment.stop(database)
say("database stopped", statuses(database))

slurm.release_allocation(allocation)
say("threads", sorted(thread.name for thread in threading.enumerate()))
# The monitor asks through the same bridge, which ends with us: what it has not heard by then it
# never hears, and asks for it for ever.
deadline = time.monotonic() + 60
while unrecorded() and time.monotonic() < deadline:
    time.sleep(0.2)
say("unrecorded", unrecorded())
say("end")
