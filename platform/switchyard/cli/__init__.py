"""The command `switchyard`.

`main` picks the command from `catalogue` and imports only that command's module; `command` gives each
one its common options and its `Session` (client and output). What comes from the server is shown only
through `text`, so that no name or label can command a terminal.
"""
