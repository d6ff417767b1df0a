"""What stands between this machine and a head, stage by stage: `smartsim-bridge doctor`.

    findings     what is looked at, in its order; one verdict each
    examination  walks the stages on a real host, and never stops before the table is full
      questions.sh  what is asked there, in one round trip     answers   what came back, parsed
      trials     what only an attempt can tell: a channel, a port, a logout
    verdicts     facts in, findings out: pure
    report       the table for people, JSON for programs

Blocking.  Starts no server and leaves nothing on the head: what runs there for a moment has
a limited life of its own.  Nobody in the package needs this room but the command line.
"""
