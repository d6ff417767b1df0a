"""Reaching the host: one authenticated SSH connection that serves everything else.

    target       whom the user means         ssh_config   what the config says about it
    connection   the connection itself       dialling     the stream beneath it
    host_keys    is it the right host?       known_hosts  the file that knows
    auth         are we let in?              keys         what we can sign with
    ask          who answers a prompt        dialogue     ... from which thread
    console      the terminal of Windows     key_query    would the host take it?
    execution    one command, or its stdio   tunnel       one forwarded port
    pump         bytes between a socket and a channel

    engine       what every connection promises
    login        one user on one host        suitability  can paramiko do what is asked?
    openssh      the same on the system's ssh ... in openssh_*.py, see below
    prompter     answers what that ssh asks  askpass      ... which it calls for that
    socket_directory  where both make their unix sockets

    openssh_target   whom ssh understands     openssh_errors   what it says when it gives up
    openssh_login    how ours logs in         openssh_options  ... and what it is told
    openssh_master   the process              openssh_control  the socket of a live one
    openssh_pipe     one command through it   openssh_forward  one port

Blocking throughout.  This is the only room that imports paramiko and sshtunnel; their
exceptions are turned into ours here.  It knows nothing of servers, protocols or ZMQ.
Nothing is imported by this file: who needs no SSH must not pay for paramiko.
"""
