"""A SmartSim experiment whose scheduler is on another host.

    python seed.py login1           over SSH; starts a server there if none runs
    python seed.py 10.0.0.5 5555    to a server that somebody has started there by hand

Run it on a compute node, or on another host that shares its home with the head.  Of the program
only what is marked is new; SmartSim is as it came.  The orchestrator is what `smart build` makes;
its interface is a network of the nodes, "eth0" on many.
"""

import sys

from smartsim import Experiment
from smartsim.wlm import slurm

from smartsim_bridge import init_command_server  # new

HEAD = sys.argv[1]
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else None

init_command_server(addr=HEAD, port=PORT, autostart=PORT is None)  # new

# From here on it is what the documentation of SmartSim shows: an allocation ...
alloc = slurm.get_allocation(nodes=1, time="00:10:00")
exp = Experiment("hello_world", launcher="slurm")

# ... a model in it ...
settings = exp.create_run_settings("echo", "Hello World!", run_command="srun")
settings.alloc = alloc
model = exp.create_model("hello_world", settings)
exp.start(model, block=True, summary=True)
print("model:", *exp.get_status(model))

# ... and the orchestrator, on the network that the nodes have.
database = exp.create_database(port=6780, interface="eth0", alloc=alloc)
exp.start(database)
print("database:", *database.get_address())
exp.stop(database)

slurm.release_allocation(alloc)
