"""Reading tasks: what edges show is asked here, and nothing here writes.

==============  =================================================================
tasks           which tasks a caller may see, and the filters of the list
waiting         why a task is not running, and its place in line
representation  tasks, runs and task types as API.md shows them
history         events and log lines, in order
usage           what a tenant uses, in the shape of its limits
machinery       workers, queues and lanes, for operators
pools           the pools: demand, size, bounds
==============  =================================================================
"""
