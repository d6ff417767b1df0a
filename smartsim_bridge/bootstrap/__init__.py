"""Getting a server onto a head node, through a connection that somebody else opened.

`probe` asks one shell script what is there, `plan` decides (pure), `upload`, `provision` and
`launch` do it, all through one shell; `ensure` puts them in order.  A head with a server costs the
probe alone.

    ensure     find a live server, or put one there           <- client calls this
    +-- probe      one script, one marked answer
    |   +-- facts      what the answer says
    +-- plan       facts and a wish in, steps out
    |   +-- servers      which of those that run is meant
    |   +-- neighbours   those on other heads that share the home
    +-- upload     the far half through the same connection
    |   +-- artifact   the far half as one file
    |   +-- receive    the end of it that runs on the head
    +-- provision  a pyzmq beside it, where the Python has none and one is wanted
    |   +-- wheel_tags  which one fits
    |   +-- wheels      fetched here, by pip, and kept
    +-- launch     start it, wait for the ready line
        shell      one /bin/sh there, asked one thing after the other
        script     how text gets into a shell script, quoted in one place
        noise      what hosts say besides, for the error message
        hop        from one head to another
        host       the one method needed of a connection; this machine as a host

Blocking.  It knows neither SSH nor ZMQ: it is given a `Host`.
"""
