"""``switchyard up``: a whole platform on this machine from one command."""
