"""What the system does, in readable order; reaches the outside through `cloudfinite.ports` alone."""
