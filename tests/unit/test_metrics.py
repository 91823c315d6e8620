# SPDX-License-Identifier: MIT
"""The metrics, as Prometheus reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from trstctl.metrics import LABEL_SETS, Metrics
from trstctl.model import StoredCRL

_TENANT = "11111111-1111-1111-1111-111111111111"


def _samples(metrics: Metrics) -> dict[str, float]:
    """Return all samples of the exposition, as ``name{label=value}``."""
    text = metrics.exposition().decode("utf-8")
    return {
        sample.name
        + "".join(
            f"{{{name}={value}}}"
            for name, value in sorted(sample.labels.items())
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class RequestTests:
    """What is counted on the way of a request."""

    def test_answer_is_counted(self) -> None:
        """By protocol, operation and status, and into the right bucket."""
        metrics = Metrics()

        metrics.request("est", "simpleenroll", 200, 0.02)
        metrics.request("est", "simpleenroll", 200, 99.0)
        metrics.request("est", "cacerts", 405, 0.001)

        samples = _samples(metrics)
        prefix = "trstctl_requests_total"
        enroll = "{operation=simpleenroll}{protocol=est}{status=200}"
        wrong = "{operation=cacerts}{protocol=est}{status=405}"
        assert 2 == samples[prefix + enroll]
        assert 1 == samples[prefix + wrong]
        seconds = "trstctl_request_seconds"
        assert 1 == samples[seconds + "_bucket{le=0.005}{protocol=est}"]
        assert 2 == samples[seconds + "_bucket{le=0.025}{protocol=est}"]
        assert 3 == samples[seconds + "_count{protocol=est}"]

    def test_weak_algorithms_are_counted(self) -> None:
        """By protocol and algorithm."""
        metrics = Metrics()
        metrics.legacy("scep", "sha1")
        metrics.legacy("scep", "sha1")
        key = "trstctl_legacy_total{algorithm=sha1}{protocol=scep}"
        assert 2 == _samples(metrics)[key]

    def test_no_answer_is_status_0(self) -> None:
        """So is a status that HTTP does not have."""
        metrics = Metrics()

        for status in (0, -1, 99, 600, 10**9):
            metrics.request("est", "cacerts", status, 0.0)

        key = "{operation=cacerts}{protocol=est}{status=0}"
        assert 5 == _samples(metrics)["trstctl_requests_total" + key]

    def test_certificates_and_refusals_are_counted(self) -> None:
        """By profile, and by protocol and error class."""
        metrics = Metrics()

        metrics.issued("device")
        metrics.refused("est", "NotAuthenticated")

        samples = _samples(metrics)
        refusal = "{protocol=est}{reason=NotAuthenticated}"
        assert (
            1 == samples["trstctl_certificates_issued_total{profile=device}"]
        )
        assert 1 == samples["trstctl_refusals_total" + refusal]

    def test_calls_of_others_are_counted(self) -> None:
        """By what they were for, and what came of them."""
        metrics = Metrics()
        metrics.called("webhook.request", "failed")
        labels = "{outcome=failed}{service=webhook.request}"
        samples = _samples(metrics)
        assert 1 == samples["trstctl_outbound_calls_total" + labels]

    def test_label_sets_are_bounded(self) -> None:
        """A plugin that invents operations does not fill the memory."""
        metrics = Metrics()

        for number in range(LABEL_SETS + 50):
            metrics.request("bad", f"op-{number}", 200, 0.0)

        samples = _samples(metrics)
        other = "{operation=other}{protocol=other}{status=other}"
        assert 50 == samples["trstctl_requests_total" + other]


class GaugeTests:
    """What is set now and then."""

    def test_inventory_is_published(self) -> None:
        """Certificates by state; held requests apart."""
        metrics = Metrics()

        metrics.set_inventory(_TENANT, {"valid": 3, "held_requests": 2})
        metrics.set_inventory(_TENANT, {"valid": 4, "held_requests": 0})

        samples = _samples(metrics)
        tenant = f"{{tenant={_TENANT}}}"
        assert 4 == samples["trstctl_certificates{state=valid}" + tenant]
        assert 0 == samples["trstctl_held_requests" + tenant]
        assert not any("held_requests}" in name for name in samples)

    def test_expiries_are_timestamps(self) -> None:
        """An alert compares them with ``time()``."""
        metrics = Metrics()
        end = datetime(2030, 1, 1, tzinfo=UTC)

        metrics.set_authority_end("issuing", end)
        metrics.set_tls_end("https", end)

        samples = _samples(metrics)
        name = "trstctl_authority_not_after_timestamp_seconds"
        assert end.timestamp() == samples[name + "{authority=issuing}"]
        name = "trstctl_tls_not_after_timestamp_seconds"
        assert end.timestamp() == samples[name + "{listener=https}"]

    def test_crls(self) -> None:
        """Begin, end and entries of each, and failures by authority."""
        metrics = Metrics()
        begin = datetime(2029, 1, 1, tzinfo=UTC)
        end = datetime(2030, 1, 1, tzinfo=UTC)

        for scope in ("", "4/1"):
            metrics.set_crl(
                StoredCRL("issuing", scope, 1, 0, begin, end, 5, b"")
            )
        metrics.crl_failed("issuing")

        samples = _samples(metrics)
        for scope in ("full", "4/1"):
            labels = f"{{authority=issuing}}{{scope={scope}}}"
            name = "trstctl_crl_this_update_timestamp_seconds"
            assert begin.timestamp() == samples[name + labels]
            name = "trstctl_crl_next_update_timestamp_seconds"
            assert end.timestamp() == samples[name + labels]
            assert 5 == samples["trstctl_crl_entries" + labels]
        name = "trstctl_crl_failures_total{authority=issuing}"
        assert 1 == samples[name]

    def test_authority_that_is_gone_is_forgotten(self) -> None:
        """The end of a CRL that nobody signs any more is no alarm."""
        metrics = Metrics()
        end = datetime(2030, 1, 1, tzinfo=UTC)
        for authority in ("before", "issuing"):
            metrics.set_authority_end(authority, end)
            metrics.set_crl(StoredCRL(authority, "", 1, 0, end, end, 5, b""))
        metrics.set_crl(StoredCRL("unscraped", "", 1, 0, end, end, 5, b""))

        metrics.keep_authorities(["issuing"])

        named = [name for name in _samples(metrics) if "{authority=" in name]
        assert 4 == len([name for name in named if "issuing" in name])
        assert 4 == len(named)

    def test_gauge_is_read_at_each_scrape(self) -> None:
        """What only its owner knows, such as open connections."""
        metrics = Metrics()
        values = iter((5.0, 6.0))

        metrics.observe(
            "trstctl_connections", "Open now.", lambda: next(values)
        )

        assert 5 == _samples(metrics)["trstctl_connections"]
        assert 6 == _samples(metrics)["trstctl_connections"]

    def test_instances_share_nothing(self) -> None:
        """Two in one process, as in tests, do not collide."""
        one, other = Metrics(), Metrics()

        one.issued("device")

        key = "trstctl_certificates_issued_total{profile=device}"
        assert 1 == _samples(one)[key]
        assert key not in _samples(other)
