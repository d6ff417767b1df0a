"""What a command costs through the bridge, beside what it costs through anything else.

    head        the head node of a run: a loopback sshd, a home of its own, a server
    peers       the ways to run `true`: subprocess, the bridge's rungs, ssh
    libraries   paramiko, Fabric, asyncssh, execnet, mitogen and RPyC as such ways
    contestants who takes part, made ready
    rounds      turns in shuffled order, round after round
    figures     medians, quartiles, and ratios within a round
    trips  crowd  cold  imports  shims  bulk  distance  growth    the chapters
    newcomer    a fresh interpreter that connects; what `cold` starts
    far         what runs on the far side for mitogen and execnet
    budget      what was promised, and whether it holds
    machine     where it was measured
    report      the tables, into docs/performance.md

`python -m benchmarks` or `scripts/bench` runs all of it.
"""
