"""The built-in task types; `/task-types` shows everybody what they take.

Their modules are imported inside the sandbox: only `switchyard`, the standard library, and the
address rules of `workers.sandbox.addresses`.
"""
