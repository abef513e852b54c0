"""The verbs of the system, which lock as ``tasks.models`` says.

============  ==================================================================
submit        store a task, its first event and its place in line
store         the statement that does all three
classify      which queue a submission goes to
admission     whether the tenant may submit one more: queued limits, submit rate
keys          how many tasks may run with the same key
inputs        large inputs, and letting their task go
files         content of files: kept first, named after it, removed last
cancel        end a waiting task at once, or ask a running one to stop
retry         give an ended task a new life
bulk          cancel and retry many, in batches
audited       cancel and retry as somebody asks for it, with an entry in the trail
claim         a worker takes a dispatched task and keeps it: the run is made here
append        progress, output and checkpoints of the newest run
finish        a run has ended: what becomes of its task
lose          nobody looks after a run any more
refuse        a late attempt wrote something
preempt       ask a batch run to make room for critical work
graph         what a task's end means for those that wait for it
ready         places in line, and the counters of the backlog
recount       compare and repair those counters
later         what the clock has to do for a task
release       the clock does it, or the inputs are complete
transitions   from one status to another, but for claims and the ends of runs
consume       the submitter has seen how its task ended
retention     forget results and history that are too old
shutdown      a planned stop: what waits for workers that are gone
workers       workers and what they can run
pools         scale pools, and what their managers report
maintenance   stop and resume the intake
pauses        pause a queue or a task type
routes        the operators' routing rules
windows       off-peak windows of a task type
============  ==================================================================

A verb is one transaction, or a part of its caller's. What is done to many (``bulk``, ``recount``,
``retention``, ``shutdown``, all runs of a worker in ``lose``) and to ``files`` is one after the other,
and may stop after each.
"""
