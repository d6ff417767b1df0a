"""Stand-ins for the head's scheduler commands, on this process's PATH.

A *shim* is a local `sbatch` that hands its arguments, streams and signals to the process
that holds the bridge, which runs the real one on the head.

families       which commands there are; what an argv reads, and which script it names: pure
slurm_options  how sbatch, salloc and srun read their options: pure
wire           SHIM WIRE 1, spoken between a shim and that process: pure
folder         makes the folder of shims
stub           the text of a shim: a small script for /bin/sh
stand_in       the program behind it; runs alone, and imports nothing of this package

opening        opens the shims of one bridge: all of the following, in order
survey         what the head has, and how an older server is asked for it: pure
search_path    this process's PATH, and the variable that names the socket
reception      the socket at which shims are served
door           how many of them at once
guest          one shim there, to the exit status of its command
errand         what it was called for, as a request to the head: pure
environment    which of its variables go along: pure
job_script     a script that only this host has
"""
