"""A head node to take along, and the main job shown on it.

    head_node   a loopback SSH server, run in a child process: the host to be reached
      session     one exec request     forward   one forwarded connection
      pump        bytes from here to there      children  the processes it started
    embedded    makes the directory and the keys, starts that child, ends it
    show        what `smartsim-bridge demo` does, through the public API only
    screen      how it looks

Blocking, with threads.  Nobody in the package needs this room but the command line; the
tests may take its head node as a second kind of SSH server beside sshd.
"""
