"""How messages travel: a link carries them, in order, to one peer and back.

link          what every link can do, and the mailbox that they share
zmq_link      TCP with CURVE, the client's end; zmq_listener the server's, zmq_socket what
              both share: the only importers of zmq
stream_link   unix sockets and other byte streams
memory_link   two ends in one process, for tests

Async.  A link lives as long as one connection: once lost it stays lost, and whoever
holds it gets another one.  Knows messages and frames, not what they mean.
"""
