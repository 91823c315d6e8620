# SPDX-License-Identifier: MIT
"""
What a gateway tells of itself: the log, a line and a count of each exchange,
and the gauges.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger
from zope.interface import provider

from trstctl.config.model import LogSettings
from trstctl.http.site import report_exchange
from trstctl.interfaces import IStore
from trstctl.log import JSONLogObserver, LogFile
from trstctl.metrics import Metrics
from trstctl.serving.in_force import InForce
from trstctl.serving.repeats import Repeats

#: Events beside the exchange's own line that anybody can bring about; each
#: has the tenant, the protocol and the peer.
_STRANGERS = frozenset({"request.forgiven", "scep.legacy", "scep.unopened"})

_log = Logger(namespace="trstctl.gateway")


class Reports:
    """
    Writes the log that the configuration asks for, and counts.

    :param now: the wall clock, UTC.
    """

    def __init__(
        self,
        settings: LogSettings,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._file: LogFile | None = None
        self._lines: JSONLogObserver | None = None
        self._repeats = Repeats()

    def log_observer(self) -> ILogObserver:
        """Return what writes the log that the configuration asks for."""
        output: Any = sys.__stderr__
        if self._settings.file is not None:
            self._file = output = LogFile(self._settings.file)
        self._lines = lines = JSONLogObserver(output, self._settings.level)

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event.get("event") not in _STRANGERS or (
                self._repeats.admits(event)
            ):
                lines(event)

        observer: ILogObserver = observe
        return observer

    def reopen(self) -> None:
        """Go on in a new file, where the old one was moved away."""
        if self._file is not None:
            self._file.reopen()

    def exchange(self, facts: Mapping[str, Any]) -> None:
        """
        Log one exchange, unless it is one more of a flood, and count it.

        Straight into the JSON log, unless it is not the one in use:
        ``twistd --logger`` puts another in its place.
        """
        self._measure(facts)
        if not self._repeats.admits(facts):
            return
        if self._lines is not None and self._lines.heard:
            self._lines.report(facts, self._now().timestamp())
        else:
            report_exchange(facts)

    def tell_repeats(self) -> None:
        """Say of what was only counted how much it was."""
        for facts in self._repeats.counted():
            _log.info(
                "{count} more of {of} from {peer}",
                event="request.more",
                **facts,
            )

    def _measure(self, event: Mapping[str, Any]) -> None:
        """Count one exchange, from the facts of its log line."""
        protocol = event["protocol"] or "none"
        self._metrics.request(
            protocol,
            event["operation"] or "none",
            event["status"],
            event["duration_ms"] / 1000.0,
        )
        for algorithm in event.get("legacy", "").split():
            self._metrics.legacy(protocol, algorithm)
        if event["decision"] == "issued":
            self._metrics.issued(event["profile"])
        elif "error" in event:
            self._metrics.refused(protocol, event["error"])

    async def refresh(
        self,
        store: IStore,
        in_force: InForce,
        server_not_after: datetime | None,
    ) -> None:
        """
        Bring the gauges up to date.

        :param server_not_after: the end of the server certificate, once
            known.
        """
        for tenant_id in sorted(in_force.config.tenants):
            counts = await store.count_certificates(tenant_id, self._now())
            self._metrics.set_inventory(tenant_id, counts)
        for name, authority in in_force.loaded.needed.items():
            self._metrics.set_authority_end(name, authority.not_after)
        if server_not_after is not None:
            self._metrics.set_tls_end("https", server_not_after)
