"""What things are: plain frozen values and the rules between them; no I/O, standard library only."""
