"""Running the platform: ``up``, the pool manager and the embedded servers.

``supervision`` keeps programs alive and ends them, ``embedded`` knows PostgreSQL and Valkey from
their wheels, ``up`` puts a whole platform together on one machine, ``pools`` runs this machine's
worker processes.
"""
