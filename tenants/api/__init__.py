"""The HTTP edge of tenants."""
