"""Stand-ins for the head's scheduler commands, on this process's PATH.

A *shim* is a local `sbatch` that hands its arguments, streams and signals to the process
that holds the bridge, which runs the real one on the head.

families    which commands there are; what an argv reads, asks or submits: pure
wire        SHIM WIRE 1, spoken between a shim and that process: pure
folder      makes the folder of shims, and takes such folders off a PATH
stub        the text of a shim: a small script for /bin/sh
stand_in    the program behind it; runs alone, and imports nothing of this package
"""
