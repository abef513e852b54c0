"""The URL tree of the API, its OpenAPI document, and the operators' endpoints."""
