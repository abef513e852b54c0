"""The welcome job: after a start in the foreground, one real task through the public API.

It checks this very checkout out with git and lints it with ruff, on the queue of those who wait,
and its log is streamed here as any client would stream it.
"""

from __future__ import annotations

import os
import sys

from ops.supervision.programs import Program
from ops.supervision.watch import Watch
from ops.up.progress import SINCE, Progress
from ops.up.site import CHECKOUT, Site

SECONDS = 180.0


def welcome(site: Site, watch: Watch, progress: Progress) -> None:
    """Run the welcome job and tell where to log in; a failed job is told and ends nothing."""
    credentials = site.state.read_credentials()
    progress.step("running the welcome job: ruff over this checkout, on the critical queue")
    code = watch.once(
        Program(
            name="welcome",
            argv=(sys.executable, "-m", "ops.up.welcome_job", str(site.state.credentials)),
            environment={**_client_environment(), SINCE: str(progress.began)},
            directory=CHECKOUT,
            log=None,
        ),
        seconds=SECONDS,
    )
    if code != 0:
        progress.step("the welcome job did not succeed; the platform runs all the same")
    progress.line("")
    progress.line(f"  Address   {credentials.get('url')}")
    progress.line(f"  User      {credentials.get('user')}")
    progress.line(f"  Password  {credentials.get('password') or '(unchanged)'}")
    progress.line(f"  Tokens    {site.state.credentials}")
    progress.line("")
    progress.line("Ctrl-C stops everything.")


def _client_environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "platform")]),
        "PYTHONUNBUFFERED": "1",
    }
