"""The elected process that decides which task goes next.

==============  ==============================================================
lanes           the decision itself, in memory: fair, limited, explainable
allowances      what the lanes share about tenants: limits, rates, running, lengths
keys            letting the next task in that waits for its key
pressure        critical work that waits while nothing is free
preemption      which batch runs make room for it: plain rules
lending         critical tasks in slots of the batch pool
store           what PostgreSQL holds of it, one function per statement
leader          who leads, by an epoch that fences a paused former leader
publisher       ringing the broker's doorbell, without ever waiting for long
reaper          unclaimed messages, ended leases, due times
loop            the process: wait, look, decide, commit, publish
==============  ==============================================================

Dying loses nothing: all it knows is rebuilt from ``ready`` and ``inflight`` by whoever leads next.
"""
