"""Guarding one run: workspace, checkout, handler, end, in this order."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from tasks import fault_points
from tasks.errors import BadParams, Fenced
from tasks.outcomes import Outcome
from tasks.schemas import check_params
from tasks.services.claim import Claimed
from tasks.services.finish import finish
from tasks.services.refuse import late_write_refused
from tasks.states import RunStatus
from workers.handlers.checkout import CheckoutStep, SourceRefused, checkout_steps
from workers.sandbox import (
    HandlerIdentity,
    Launch,
    Level,
    SandboxError,
    WorkspaceError,
    become_subreaper,
    make_workspace,
    spawn,
    wipe_workspace,
)
from workers.supervisor.files import Claim, InputUnavailable, place_inputs, store_artifacts
from workers.supervisor.lease import EXIT_CODE, LeaseLost, LeaseWatch
from workers.supervisor.limits import effective_limits, output_cap
from workers.supervisor.meter import Meter
from workers.supervisor.output import Output
from workers.supervisor.place import Place, handler_identity, workspace_root
from workers.supervisor.verdict import SHELL, Heard, verdict
from workers.supervisor.watch import Watch, sigterm_noticed

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST_PAUSE_SECONDS = 0.5
"""Between two tries: shorter than the reaper's patience after an outage (see dispatcher.loop)."""

FINISH_PATIENCE_SECONDS = 600
"""How long the end of a run is tried to be written while the database is away."""

log = structlog.get_logger(__name__)


class Abandoned(Exception):
    """The server that had forked the handler was killed, and it with it: the run is lost, not failed."""


def guard(claimed: Claimed, place: Place, *, claimed_at: float) -> None:
    """Run a claimed task's handler and write how it ended.

    ``claimed_at`` is the moment (monotonic) before the claim was asked for: the lease began then.
    """
    become_subreaper()
    lease = LeaseWatch(settings.SWITCHYARD.lease, since=claimed_at)
    run = _Run(claimed, place, lease)
    given_up = False
    with sigterm_noticed():
        try:
            outcome = run.execute()
            fault_points.reach("before_finish")
            _finish(claimed, outcome)
        except (Fenced, LeaseLost) as late:
            log.warning("run_fenced", why=type(late).__name__)
            _tell_late(claimed)
        except Abandoned:
            log.error("run_given_up", why="its handler server was killed")
            given_up = True
        except Exception:
            # Nobody would hear of it before the lease ends, and then not why.
            log.exception("run_given_up", why="an error of the supervisor's")
            given_up = True
        finally:
            lease.stop()
            fault_points.reach("before_wipe")
            run.wipe()
    if given_up:
        os._exit(EXIT_CODE)


def try_out(claimed: Claimed, place: Place) -> Outcome:
    """Do all that is done between a claim and the end, for a run that the database knows nothing of."""
    lease = LeaseWatch(settings.SWITCHYARD.lease, since=time.monotonic())
    run = _Run(claimed, place, lease)
    try:
        return run.execute()
    finally:
        lease.stop()
        run.wipe()


class _Run:
    """One run while it lasts."""

    def __init__(self, claimed: Claimed, place: Place, lease: LeaseWatch) -> None:
        self.claimed = claimed
        self.place = place
        self.lease = lease
        self.began = time.monotonic()
        self.limits = effective_limits(claimed.limits, claimed.time_limit)
        self.output = Output(cap=output_cap(claimed.limits), steered=claimed.steering)
        self.workspace: Path | None = None
        self.identity: HandlerIdentity | None = None
        self.named: dict[str, str] = {}

    def clock(self) -> datetime:
        """Return the database's time, carried on by this machine's monotonic clock."""
        return self.claimed.started_at + timedelta(seconds=time.monotonic() - self.began)

    def execute(self) -> Outcome:
        """Do all steps up to the handler's end and return what it was.

        Raises:
            Fenced: another attempt has taken over; there is nothing to write.
            LeaseLost: the lease could not be kept; there is nothing to write.
            Abandoned: the handler was killed through no fault of its own; this end is not written.
        """
        try:
            if self.claimed.params_schema is not None:
                check_params(self.claimed.params_schema, self.claimed.params)
            fault_points.reach("before_workspace")
            self.identity = handler_identity()
            name = f"{self.claimed.task_id}-{self.claimed.epoch}"
            self.workspace = make_workspace(workspace_root(), name, self.identity)
            room = self.limits.workspace_bytes
            place_inputs(self.claimed, self.workspace, self.identity, cap=room)
            return self._run_handler()
        except (SandboxError, WorkspaceError, OSError) as error:
            log.error("run_not_started", error=str(error))
            return self._failed("disk_full" if is_disk_full(error) else "sandbox", str(error))
        except InputUnavailable as error:
            return self._failed(error.code, str(error))
        except SourceRefused as error:
            return self._failed("source_refused", str(error), retry=False)
        except BadParams as error:
            told = "; ".join(f"{each.pointer}: {each.detail}" for each in error.errors)
            return self._failed("bad_params", told, retry=False)

    def wipe(self) -> None:
        """Remove the workspace; what cannot be removed is told, and swept by the machine later."""
        if self.workspace is None:
            return
        try:
            wipe_workspace(self.workspace, self.identity)
        except WorkspaceError as error:
            log.error("workspace_not_wiped", error=str(error))

    def _run_handler(self) -> Outcome:
        claimed = self.claimed
        for step in self._checkout():
            fault_points.reach("before_checkout")
            stopped = self._launch(self._checkout_launch(step), source=True)
            if stopped is not None:
                return stopped
        fault_points.reach("before_handler")
        job = {
            "handler": claimed.handler,
            "task": str(claimed.task_id),
            "tenant": claimed.tenant,
            "type": claimed.type,
            "attempt": claimed.attempt,
            "params": claimed.params,
            "secrets": {},
            "checkpoint": claimed.checkpoint,
        }
        outcome = self._launch(self._handler_launch(job), source=False)
        fault_points.reach("after_handler")
        assert outcome is not None  # noqa: S101 - only a successful checkout step gives None
        assert self.workspace is not None  # noqa: S101 - made by execute
        store_artifacts(
            claimed,
            self.workspace,
            self.identity,
            named=self.named,
            output=self.output,
            clock=self.clock,
        )
        return self._ended(outcome)

    def _launch(self, launch: Launch, *, source: bool) -> Outcome | None:
        """Start a sandbox, watch it to its end, and return the outcome; None: go on."""
        heard = Heard(checkpointed=self.claimed.checkpoint is not None)
        self._keep_claim()
        with spawn(launch) as sandboxed:
            meter = Meter(sandboxed, self.limits, launch.workspace, self.identity)
            watch = Watch(
                sandboxed,
                self.claimed,
                self.output,
                heard,
                clock=self.clock,
                meter=meter,
                lease=self.lease,
                deadline=self._deadline(),
                stdout="system" if source else "stdout",
                stderr="system" if source else "stderr",
            )
            end = watch.until_it_ends()
            heard.hints = meter.hints(end)
        if end.reason == "abandoned" and heard.stopped_for is None:
            raise Abandoned
        self.named |= heard.artifacts
        outcome = verdict(
            "" if source else self.claimed.type,
            self.claimed.params,
            end,
            heard,
            time_limit=self.claimed.time_limit,
            cancel_asked=watch.cancel_asked,
        )
        if source:
            if end.code == 0 and heard.stopped_for is None:
                return None
            if outcome.status in (RunStatus.FAILED, RunStatus.COMPLETED):
                error = {
                    "code": "checkout_failed",
                    "message": "The source could not be checked out; the log says why.",
                }
                outcome = self._ended(outcome, status=RunStatus.FAILED, error=error)
        return self._ended(
            outcome,
            cpu_seconds=max(end.cpu_seconds, meter.cpu_seconds),
            max_rss_bytes=max(end.max_rss_bytes, meter.peak_rss_bytes),
        )

    def _keep_claim(self) -> None:
        """Renew the claim before something is started, if that is due: files may have taken long."""
        asked_at = time.monotonic()
        if asked_at >= self.lease.renewed_at + settings.SWITCHYARD.heartbeat:
            Claim(self.claimed).keep(now=True)
            self.lease.renewed(asked_at)

    def _ended(self, outcome: Outcome, **changes: Any) -> Outcome:
        return replace(
            outcome,
            wall_seconds=time.monotonic() - self.began,
            log_bytes=self.output.total_bytes,
            log_lines=self.output.total_lines,
            log_truncated=self.output.truncated,
            **changes,
        )

    def _failed(self, code: str, message: str, *, retry: bool | None = None) -> Outcome:
        error = {"code": code, "message": message}
        return self._ended(Outcome(RunStatus.FAILED, error=error, retry=retry))

    def _deadline(self) -> float | None:
        limit = self.limits.wall_seconds
        return None if limit is None else self.began + limit

    def _network(self) -> bool:
        """Whether this run has the network: its task asks, and its tenant or type may."""
        permitted = self.claimed.tenant_network or self.claimed.type_network
        asked = self.claimed.params.get("network", self.claimed.type != SHELL)
        return bool(permitted and asked)

    def _checkout(self) -> list[CheckoutStep]:
        if self.claimed.type != SHELL:
            return []
        return checkout_steps(
            self.claimed.params,
            settings.SWITCHYARD.git_roots,
            proxied=self.place.level is Level.FULL,
            private=settings.SWITCHYARD.private_folders,
        )

    def _checkout_launch(self, step: CheckoutStep) -> Launch:
        return self._launch_with(
            argv=step.argv, env=step.env, network=step.network, extra_read_only=step.read_only
        )

    def _handler_launch(self, job: dict[str, Any]) -> Launch:
        return self._launch_with(
            job=job, network=self._network(), read_only_paths=settings.SWITCHYARD.toolchains
        )

    def _launch_with(self, **what: Any) -> Launch:
        assert self.workspace is not None  # noqa: S101 - made by execute
        return Launch(
            level=self.place.level,
            workspace=self.workspace,
            limits=self.limits,
            identity=self.identity,
            egress_allow=settings.SWITCHYARD.opened_networks,
            egress_deny=settings.SWITCHYARD.services,
            marker=f"{self.claimed.task_id}:{self.claimed.epoch}",
            **what,
        )


def _tell_late(claimed: Claimed) -> None:
    """Leave a note of a write that was refused; a lease that is only about to end needs none."""
    try:
        late_write_refused(claimed.task_id, claimed.epoch, what="output")
    except DatabaseError as error:
        log.warning("refusal_not_recorded", error=str(error))


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error, or what caused it, is that nothing more fits on the disk."""
    told: BaseException | None = error
    while told is not None:
        if isinstance(told, OSError) and told.errno in DISK_FULL:
            return True
        told = told.__cause__
    return False


def _finish(claimed: Claimed, outcome: Outcome) -> None:
    """Write the end, again and again while the database is away.

    The end is written once: a repetition of a commit whose answer was lost finds the run ended by
    its own epoch, and is refused like any late write.
    """
    give_up = time.monotonic() + FINISH_PATIENCE_SECONDS
    pause = 0.1
    while True:
        try:
            status = finish(claimed.task_id, claimed.epoch, outcome)
        except Fenced:
            log.warning("end_refused", status=outcome.status)
            return
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() > give_up:
                raise
            log.warning("end_not_written_yet", error=str(error))
            connection.close()
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
        else:
            fault_points.reach("after_finalise")
            log.info("run_ended", run=outcome.status, task_status=status)
            return
