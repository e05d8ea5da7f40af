"""How things look on the wire: pure functions between domain values and bytes; no sockets."""
