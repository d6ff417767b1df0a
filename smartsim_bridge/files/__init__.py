"""Files and trees from one host to another: the same code at both ends.

    report    what is told of a transfer                  patterns  which names take part
    frames    how the two ends talk: bytes                entries   what is said of one file
    scan      what there is in a tree                     delta     whether it is to be moved
    source    the end that has the files                  sink      the end that gets them
    ground    the folder that a sink never leaves         landing   one file that is written
    pump      an end between two descriptors              __main__  the far end, a program

Blocking, standard library only; travels to the head, where it is a command of the server
like any other, so that a lost link is the business of the session below.  Knows neither
server nor client, and no link.
"""
