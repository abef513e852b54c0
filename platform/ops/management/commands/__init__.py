"""Django's commands that run the platform."""
