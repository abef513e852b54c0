"""What runs between the exec of a sandboxed process and its handler: builds the walls, shuts them.

Imported by a bare interpreter (`-I -S`), so it uses relative imports, ctypes and built-in modules
only; every module more is paid for by every run.
"""
