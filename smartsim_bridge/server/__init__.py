"""On the head: one process per user that runs commands for its clients.

places       the directories, and whether they are safe to use
beacon_file  the lock, the beacon and the credentials on disk
exits        tells when a process has ended
descriptors  how many files may be open, and how many commands that makes
manners      a low priority, on a host that others use
processes    one operating-system process and its three pipes
runs         one process whose output several polls have
polls        which run answers a poll
spool        output that waits for its reader, in memory and in files
segments     one such file
inlets       the stdin of one command, on its way to the process
outlets      one output stream on its way to whoever follows the command
recipes      what a request means on this host, and which process that is
surroundings what all commands share, and who may follow one
commands     one command: bytes, numbers and states around a process
alarms       what a command is to do later, by name
backlog      how many commands run at once, and who waits for a turn
allowance    which programs may be run, where a list says so
search_path  the PATH of its commands, on which no folder of shims may be
accounting   whether sacct knows of jobs, by what slurm.conf says
locating     which programs and files there are, for who asks before it runs any
journal      what was asked and what became of it, over restarts; journal_file: its lines
audit        who ran what, where that is wanted
register     all commands by their ids, whoever follows them
sessions     what one client asks for over the link that it has now
visits       who is here: every link from its first word to its last
site         a pyzmq of our own beside the far half: in, and into use
options      how a server was asked to run, and the command line that says it
serve        the server: who may talk, how long, and when it ends
relay        stdin and stdout <-> the unix socket, for the stdio rung
__main__     the far half's command line

Async (relay is blocking, and alone in its process).  Standard library only, besides
pyzmq where it can be imported.  Nobody in the near half imports it.
"""
