"""HTTP in: the URL table, the handlers, and our own pages below `/-/`."""
