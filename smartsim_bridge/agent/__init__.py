"""The agent: a process of the user's that holds a bridge for shims that are installed for good.

One per user, host and target.  The first shim that finds no session and no agent starts one,
which may ask at that shim's terminal; then it belongs to nobody, and ends when it has been
idle for long enough.

    installation  the folder of installed shims, and what is written down beside them
    installing    makes one, for what the head has
    place         where an agent of this host is to be found, and whether it lives
    channel       what starter and agent say to each other until the agent is ready
    starter       run by a shim, or a person: there is an agent afterwards, or an error
    service       the agent itself

Blocking, but for `service`.  Of the bridge it knows how to open one, of shims that somebody
serves them.
"""
