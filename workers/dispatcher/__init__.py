"""The elected process that decides which task goes next.

==============  ==============================================================
lanes           the decision itself, in memory: fair, limited, explainable
allowances      what the lanes share about tenants: limits, rates, running, lengths
held_types      types that are paused, or outside their off-peak windows
off_peak        which windows are open now, and when that changes
lengths         how long types take, kept for forecasts and the next leader
keys            letting the next task in that waits for its key
store           what PostgreSQL holds of it, one function per statement
leader          who leads, by an epoch that fences a paused former leader
publisher       ringing the broker's doorbell, without ever waiting for long
reaper          unclaimed messages, ended leases, due times
loop            the process: wait, look, decide, commit, publish
==============  ==============================================================

Dying loses nothing: all it knows is rebuilt from ``ready`` and ``inflight`` by whoever leads next.
"""
