"""The frame of the REST API: strict input, problem+json, cursors, ETags, idempotency keys.

It knows HTTP and nothing of tenants or tasks; those packages build on it.
"""
