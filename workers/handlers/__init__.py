"""The built-in task types. API.md, "Built-in task types", is their contract.

Their modules are imported inside the sandbox: only `switchyard`, the standard library, and the
address rules of `workers.sandbox.addresses`.
"""
