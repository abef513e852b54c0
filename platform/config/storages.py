"""Turn ``SWITCHYARD_FILES`` into Django's ``STORAGES``."""

from __future__ import annotations

from typing import Any

from config.environment import Environment


def storages(environment: Environment) -> dict[str, Any]:
    """Return Django's ``STORAGES``; ``files`` holds the bytes of inputs and artifacts.

    Web, workers and the system worker all read and write there, so on several machines it is a
    bucket or a shared folder. Nobody else may enter a folder: handlers run as other users.
    """
    return {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
        "files": _bucket(environment.files)
        if environment.files.startswith("s3://")
        else {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {
                "location": environment.files_folder.absolute(),
                "file_permissions_mode": 0o600,
                "directory_permissions_mode": 0o700,
            },
        },
    }


def _bucket(url: str) -> dict[str, Any]:
    """Return the storage of ``s3://bucket/prefix``; keys and region come as boto3 finds them."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        # Names are UUIDs, so none is ever taken: looking would cost a request per file.
        "OPTIONS": {"bucket_name": bucket, "location": prefix.strip("/"), "file_overwrite": True},
    }
