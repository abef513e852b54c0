"""The HTTP edge of tasks: each module holds the views of one subject; ``urls`` is their tree."""
