"""The append-only trail: who did what to which thing, when, why, and by which request."""
