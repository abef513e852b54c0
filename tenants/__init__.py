"""Who may do what, and how much: tenants, members, tokens and their authentication, limits."""
