# SPDX-License-Identifier: MIT
"""
What the gateway counts, in Prometheus' exposition format.

Every label value comes from a list of this program's own (protocols,
operations, profiles, error classes), never from what a peer wrote.  Should a
plugin break this rule, values beyond the first thousand are counted together
as ``other``, so that the memory stays bounded.

On the way of one request: a look into a dictionary for each metric, whose
labelled child was made at the first use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from trstctl.model import StoredCRL

#: Upper bounds of the histogram's buckets, in seconds.
BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)

#: How many different label sets one metric may have.
LABEL_SETS = 1000

_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class _Children(dict[tuple[str, ...], _Metric]):
    """The labelled children of one metric, made when first asked for."""

    def __init__(self, metric: _Metric) -> None:
        super().__init__()
        self._metric: _Metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> _Metric:
        full = len(self) >= LABEL_SETS
        child: _Metric = self._metric.labels(
            *(("other",) * len(labels) if full else labels)
        )
        if not full:
            self[labels] = child
        return child


class Metrics:
    """
    All metrics of one process.

    :ivar registry: for what else the composition root wants to publish.
    :ivar content_type: the media type of :meth:`exposition`.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = _Children(
            Counter(
                "trstctl_requests",
                "Answered requests, by HTTP status.",
                ("protocol", "operation", "status"),
                registry=registry,
            )
        )
        self._seconds = _Children(
            Histogram(
                "trstctl_request_seconds",
                "Seconds from the request's first byte to its answer.",
                ("protocol",),
                buckets=BUCKETS,
                registry=registry,
            )
        )
        self._issued = _Children(
            Counter(
                "trstctl_certificates_issued",
                "Certificates signed and recorded.",
                ("profile",),
                registry=registry,
            )
        )
        self._refusals = _Children(
            Counter(
                "trstctl_refusals",
                "Refused requests, by error class.",
                ("protocol", "reason"),
                registry=registry,
            )
        )
        self._legacy = _Children(
            Counter(
                "trstctl_legacy",
                "Messages that use what only old devices need.",
                ("protocol", "algorithm"),
                registry=registry,
            )
        )
        self._calls = _Children(
            Counter(
                "trstctl_outbound_calls",
                "Calls of others, by what they were for.",
                ("service", "outcome"),
                registry=registry,
            )
        )
        self._certificates = Gauge(
            "trstctl_certificates",
            "Certificates in the inventory.",
            ("tenant", "state"),
            registry=registry,
        )
        self._held = Gauge(
            "trstctl_held_requests",
            "Requests that wait for a person to decide.",
            ("tenant",),
            registry=registry,
        )
        self._authority_not_after = Gauge(
            "trstctl_authority_not_after_timestamp_seconds",
            "End of the CA certificate's validity.",
            ("authority",),
            registry=registry,
        )
        self._crl_this_update = Gauge(
            "trstctl_crl_this_update_timestamp_seconds",
            "Beginning of the CRL that is in force.",
            ("authority", "scope"),
            registry=registry,
        )
        self._crl_next_update = Gauge(
            "trstctl_crl_next_update_timestamp_seconds",
            "End of the CRL that is in force.",
            ("authority", "scope"),
            registry=registry,
        )
        self._crl_entries = Gauge(
            "trstctl_crl_entries",
            "Revoked certificates on the CRL that is in force.",
            ("authority", "scope"),
            registry=registry,
        )
        # What is published of each authority: the labels of its CRLs.
        self._scopes: dict[str, set[tuple[str, str]]] = {}
        self._ends: set[str] = set()
        self._crl_failures = Counter(
            "trstctl_crl_failures",
            "Times that an authority's CRLs could not be brought up to date.",
            ("authority",),
            registry=registry,
        )
        self._tls_not_after = Gauge(
            "trstctl_tls_not_after_timestamp_seconds",
            "End of the server certificate's validity.",
            ("listener",),
            registry=registry,
        )

    # on the way of a request ------------------------------------------------

    def request(
        self, protocol: str, operation: str, status: int, seconds: float
    ) -> None:
        """
        Count an answer, or a request whose client went away.

        :param operation: a name of the protocol's own list.
        :param status: the HTTP status; 0 if nothing was answered.
        :param seconds: how long it took, on the monotonic clock.
        """
        self._requests[(protocol, operation, _STATUS[status])].inc()
        self._seconds[(protocol,)].observe(seconds)

    def issued(self, profile: str) -> None:
        """Count a certificate; a replayed answer is none."""
        self._issued[(profile,)].inc()

    def refused(self, protocol: str, error: str) -> None:
        """Count a refusal under the name of its error class."""
        self._refusals[(protocol, error)].inc()

    def legacy(self, protocol: str, algorithm: str) -> None:
        """Count a message that uses a weak algorithm."""
        self._legacy[(protocol, algorithm)].inc()

    def called(self, service: str, outcome: str) -> None:
        """
        Count a call of somebody else.

        :param service: a word of this program's own.
        :param outcome: ``answered``, ``failed`` or ``skipped``.
        """
        self._calls[(service, outcome)].inc()

    # set now and then -------------------------------------------------------

    def set_inventory(self, tenant_id: str, counts: Mapping[str, int]) -> None:
        """
        Publish what the store counts.

        :param counts: as ``IStore.count_certificates`` returns them.
        """
        for state, count in counts.items():
            if state == "held_requests":
                self._held.labels(tenant_id).set(count)
            else:
                self._certificates.labels(tenant_id, state).set(count)

    def set_authority_end(self, authority: str, not_after: datetime) -> None:
        """Publish when a CA certificate ends."""
        self._authority_not_after.labels(authority).set(not_after.timestamp())
        self._ends.add(authority)

    def set_crl(self, crl: StoredCRL) -> None:
        """Publish what a CRL that came into force says of itself."""
        labels = (crl.authority, crl.scope or "full")
        self._crl_this_update.labels(*labels).set(crl.this_update.timestamp())
        self._crl_next_update.labels(*labels).set(crl.next_update.timestamp())
        self._crl_entries.labels(*labels).set(crl.entries)
        self._scopes.setdefault(labels[0], set()).add(labels)

    def keep_authorities(self, names: Collection[str]) -> None:
        """
        Forget what was published of other authorities.

        Else the end of a CRL that nobody signs any more would be an alarm.
        """
        for authority in self._ends.difference(names):
            self._authority_not_after.remove(authority)
            self._ends.remove(authority)
        for authority in self._scopes.keys() - set(names):
            for labels in self._scopes.pop(authority):
                for gauge in (
                    self._crl_this_update,
                    self._crl_next_update,
                    self._crl_entries,
                ):
                    gauge.remove(*labels)

    def crl_failed(self, authority: str) -> None:
        """Count a failure to bring an authority's CRLs up to date."""
        self._crl_failures.labels(authority).inc()

    def set_tls_end(self, listener: str, not_after: datetime) -> None:
        """Publish when a listener's server certificate ends."""
        self._tls_not_after.labels(listener).set(not_after.timestamp())

    def observe(
        self, name: str, documentation: str, read: Callable[[], float]
    ) -> None:
        """
        Publish a gauge that is read at each scrape.

        :param read: called in the thread that scrapes; must not block.
        """
        gauge = Gauge(name, documentation, registry=self.registry)
        gauge.set_function(read)

    def exposition(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self.registry)


class _StatusText(dict[int, str]):
    """Texts of HTTP statuses; what is none is counted as 0."""

    def __missing__(self, status: int) -> str:
        return "0"


_STATUS = _StatusText({status: str(status) for status in range(100, 600)})
