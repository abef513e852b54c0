"""What is to be done: tasks, their runs and events, and the one state machine they all obey.

Nothing here knows Celery. Edges (api, admin) call services, services change state, selectors read.
"""
