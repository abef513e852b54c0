"""Reading tasks: what edges show is asked here, and nothing here writes.

==============  ==================================================================
tasks           which tasks a caller may see
filters         the filters of the list
representation  tasks, runs, task types and files as the API shows them
waiting         why a task is not running, and its place in line
history         events and log lines, in order
log_filter      which lines of a log are asked for
files           which files a task has
usage           what a tenant uses, in the shape of its limits
types           task types, read whole only when they have changed
routes          the operators' routing rules, and how long tasks will take
ability         which live worker can run which task
off_peak        whether batch tasks are held for off-peak windows, and until when
preemption      batch runs that may be asked to make room
machinery       workers, queues and lanes, for operators
pools           the pools: demand, size, bounds
==============  ==================================================================
"""
