"""The web UI: pages rendered on the server, moved by htmx, kept live by small ES modules.

A page reads through selectors and changes things through services, behind the same door as the API
(``tenants.access``): what a caller may not see is 404 here too.
"""
