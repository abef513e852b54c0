"""A request rate per credential: a token bucket in Redis, one round trip for a few requests.

It guards the web processes; limits on work are the tenants' (``queued_limit``, ``submit_rate``).
When Redis is away everybody passes: a guard must not become the outage. After a failure it is left
alone for a few seconds, so that a frozen Redis delays one request and not each.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import redis
import structlog
from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from rest.errors import TooManyRequests

if TYPE_CHECKING:
    from rest_framework.views import APIView

TIMEOUT_SECONDS = 0.2
MOST_AT_ONCE = 20
KEPT_SECONDS = 1.0
"""While a bucket is far from empty a process takes a hundredth of it, at most so many requests, and
gives them out itself for so long: a busy client need not ask Redis each time."""
MOST_KEPT = 10_000
PAUSE_SECONDS = 5.0

# Redis's clock, so that the web processes need not agree on the time.
_TAKE = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(bucket[1]) or burst, tonumber(bucket[2]) or now
level = math.min(burst, level + math.max(0, now - at) * rate)
local wait, taken = 0, math.max(1, math.min(tonumber(ARGV[3]), math.floor(level / 100)))
if level >= 1 then level = level - taken else wait, taken = (1 - level) / rate, 0 end
redis.call('HSET', KEYS[1], 'level', tostring(level), 'at', tostring(now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {tostring(wait), taken}
"""

log = structlog.get_logger(__name__)


class RequestRateExceeded(TooManyRequests):
    """One credential sends requests faster than the server takes them."""

    code = "request_rate"
    title = "Too many requests"
    default_detail = "You send requests faster than allowed; wait, then go on more slowly."


class Bucket:
    """Token buckets in one Redis; made once per process."""

    def __init__(self, url: str, *, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self.client = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )
        self.script = self.client.register_script(_TAKE)
        self.resume_at = 0.0
        self._kept: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take one request from the bucket; return the seconds to wait, 0 when it was there."""
        now = time.monotonic()
        if self._take_kept(key, now) or now < self.resume_at:
            return 0.0
        try:
            answer: Any = self.script(
                keys=[f"switchyard:rate:{key}"], args=[self.rate, self.burst, MOST_AT_ONCE]
            )
        except redis.RedisError as error:
            self.resume_at = time.monotonic() + PAUSE_SECONDS
            log.warning("request_rate_unchecked", error=str(error))
            return 0.0
        self._keep(key, int(answer[1]) - 1, now)
        return float(answer[0])

    def _take_kept(self, key: str, now: float) -> bool:
        with self._lock:
            left, until = self._kept.get(key, (0, 0.0))
            if left < 1 or now > until:
                return False
            self._kept[key] = left - 1, until
            return True

    def _keep(self, key: str, count: int, now: float) -> None:
        if count < 1:
            return
        with self._lock:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = count, now + KEPT_SECONDS


_bucket: Bucket | None = None


def bucket() -> Bucket:
    """Return this process's buckets, by the settings."""
    global _bucket
    if _bucket is None:
        environment = settings.SWITCHYARD
        _bucket = Bucket(
            environment.redis_url, rate=environment.request_rate, burst=environment.request_burst
        )
    return _bucket


def require_rate(key: str) -> None:
    """Count one request of ``key`` (``token:7``, ``user:3``); for views outside DRF too.

    Raises:
        RequestRateExceeded: with the seconds to wait.
    """
    wait = bucket().take(key)
    if wait > 0:
        raise RequestRateExceeded(retry_after=wait, limit="request_rate")


class RequestRate(BaseThrottle):
    """The rate of the credential that authenticated the request; its ``key`` names the bucket."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        key = getattr(request.auth, "key", None)
        if key:
            require_rate(str(key))
        return True
