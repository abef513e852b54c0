"""The elected process that decides which task goes next.

==============  ==============================================================
lanes           the decision itself, in memory: fair, limited, explainable
allowances      what the lanes share about tenants: limits, rates, running, lengths
held_types      types that are paused, or outside their off-peak windows
parked          tasks beside their lanes, because they cannot start, and their way back
off_peak        which windows are open now, and when that changes
lengths         how long types take, kept for forecasts and the next leader
picture         all that is in memory, and how it is kept up to date
pace            when each look around is due, and its share of the time
keys            letting the next task in that waits for its key
pressure        critical work that waits while nothing is free
preemption      which batch runs make room for it: plain rules
lending         critical tasks in slots of the batch pool
store           what PostgreSQL holds of it, one function per statement
leader          who leads, by an epoch that fences a paused former leader
publisher       ringing the broker's doorbell, without ever waiting for long
reaper          unclaimed messages, ended leases, due times
loop            the process: wait, decide, commit, publish, look around
==============  ==============================================================

A task that is submitted to an idle platform is on its way after two statements: its lane is read, and
its row moved. Everything else that a round does comes after that, and only as often as it is worth.

Dying loses nothing: all it knows is rebuilt from ``ready`` and ``inflight`` by whoever leads next.
"""
