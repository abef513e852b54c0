"""The pool manager: one per machine, it runs the worker processes of this machine's pools."""
