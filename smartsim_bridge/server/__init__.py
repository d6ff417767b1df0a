"""On the head: one process per user that runs commands for its clients.

places       the directories, and whether they are safe to use
beacon_file  the lock, the beacon and the credentials on disk
exits        tells when a process has ended
processes    one operating-system process and its three pipes
commands     one command of one client: bytes, numbers and states around a process
sessions     what the server remembers of one client
visits       who is here: every link from its first word to its last
serve        the server: who may talk, how long, and when it ends
relay        stdin and stdout <-> the unix socket, for the stdio rung
__main__     the far half's command line

Async (relay is blocking, and alone in its process).  Standard library only, besides
pyzmq where it can be imported.  Nobody in the near half imports it.
"""
