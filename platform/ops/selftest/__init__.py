"""``switchyard selftest``: break a running deployment a little, on a tenant of its own, and look.

==========  ==================================================================
command     the command line and the report
canaries    the canary tenant and its tasks; what must hold of each at its end
steps       the steps: run, kill a supervisor, lose a message, cancel, isolation
doorbell    taking one canary's message out of the broker
==========  ==================================================================

It speaks to the platform as any operator's client does. Only canaries are killed, lost or cancelled;
whatever belongs to somebody else is left alone, or given back at once.
"""
