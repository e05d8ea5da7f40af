"""The outside world: databases, files, child processes and sockets, each behind one port."""
