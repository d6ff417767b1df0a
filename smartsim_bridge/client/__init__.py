"""What the user holds: bridges and commands, and the ladder that gets them a link.

talk        one conversation with a server, over any link
session     what outlives a link: the commands followed, and the way back to them
command     one command on the head, as its caller sees it
bridge      AsyncBridge: run, popen, commands, attach, status, close
ladder      tries the rungs in order; rungs says how each is made
attempts    what was tried on one climb; ways: to one server, over an SSH connection
portal      the one thread with an event loop
desk        what a waiting thread does for others; steps: blocking work for the loop
blocking    Bridge and Command: the same without await
status      what a bridge can say about itself
listing     what it can say about the commands on the head
markup      HTML for a notebook; status_card and command_list: of those two

Async below, one blocking face on top.  Must not know how SSH works; only session
tries anything twice.
"""
