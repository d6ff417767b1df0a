"""The script that all of this was made for, against a server that somebody has started by hand."""

import sys

from smartsim import Experiment
from smartsim.settings import SrunSettings
from smartsim.wlm import slurm

from smartsim_bridge import init_command_server

init_command_server(addr=sys.argv[1], port=int(sys.argv[2]))

# From here on it is what the documentation of SmartSim shows.
alloc = slurm.get_allocation(nodes=1, time="00:10:00")
exp = Experiment("hello_world", launcher="slurm")
settings = SrunSettings("echo", exe_args="Hello World!", alloc=alloc)
model = exp.create_model("hello_world", settings)
exp.start(model, block=True, summary=True)
print(exp.get_status(model))
slurm.release_allocation(alloc)
