"""The verbs of the system; each runs in one transaction and locks as ``tasks.models`` says.

=============  ====================================================================
submit         store a task, its first event and its place in line
cancel         end a waiting task at once, or ask a running one to stop
retry          give an ended task a new life
claim          a worker takes a dispatched task: the run is made here
renew          the run's worker is alive
append         progress and output of the newest run
finish         a run has ended: what becomes of its task
lose           a run's lease has ended
release        a time has come, or the last parent has completed
=============  ====================================================================
"""
