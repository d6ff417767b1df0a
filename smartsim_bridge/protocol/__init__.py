"""What is said between client and server: pure values and rules, no I/O and no clock.

messages      every message, a frozen dataclass each
codec         message <-> frames (JSON header, raw payload), with limits on every size
framing       cuts a byte stream into messages' frames, for links that have none
conversation  the states with one peer, as a table
lifecycle     the states of one command, as a table
flow          numbered bytes, acknowledgements, credit, replay
submission    which commands hand a job to a scheduler
polls         which commands only ask a scheduler, and which ask the same
environment   which of the caller's variables a command on the head may see
beacon        how a server says where it is: the ready line and the state file

Both halves use it; it must not know who does.
"""
