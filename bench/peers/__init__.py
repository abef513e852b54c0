"""Other systems on the same servers: RQ, Celery as it comes, Procrastinate, and the bare floor.

``measuring`` runs in our environment and starts ``drive`` in the peers' own (`.venv-bench`), whose
workers run ``jobs``.
"""
