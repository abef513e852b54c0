"""The only place that wires everything: environment, settings, URLs and the ASGI application."""
