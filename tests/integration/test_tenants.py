# SPDX-License-Identifier: MIT
"""Two tenants on one gateway cannot meet (R-10)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import TENANT, Device, Gateway

from trstctl.protocols.est.resource import ESTResource
from trstctl.protocols.est.settings import ESTSettings

OTHER = "22222222-2222-2222-2222-222222222222"
TENANTS = {TENANT: "one", OTHER: "two"}

#: Labels of the first tenant, and of the second.
LABELS = {"": TENANT, "first": TENANT, "second": OTHER, "also": OTHER}

PROTOCOLS = (
    f'est: {{enabled: true, tenant_id: "{TENANT}", labels: {{'
    f'first: {{}}, second: {{tenant_id: "{OTHER}"}}, '
    f'also: {{tenant_id: "{OTHER}", profile: tls-client}}}}}}'
)


def routes() -> list[tuple[str, str, str]]:
    """Return label, tenant and operation of each route, as the server does."""
    settings = ESTSettings.model_validate(
        {
            "enabled": True,
            "tenant_id": TENANT,
            "labels": {
                label: {"tenant_id": tenant}
                for label, tenant in LABELS.items()
                if label
            },
        }
    )
    endpoints = ESTResource.endpoints_for("est", settings)
    found = [
        (endpoint.name, endpoint.tenant_id, operation)
        for endpoint in endpoints
        for operation in ("simpleenroll", "simplereenroll")
    ]
    assert len(found) == 2 * len(LABELS)
    return found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway with a credential of the same name in each tenant."""
    found = Gateway(tmp_path_factory.mktemp("tenants") / "state")
    found.configure(PROTOCOLS)
    found.start()
    for tenant, name in TENANTS.items():
        found.add_password(f"only-{name}", tenant)
    try:
        yield found
    finally:
        found.stop()


def path(label: str, operation: str) -> str:
    """Return the path of a route."""
    return "/.well-known/est/" + (f"{label}/" if label else "") + operation


def enrolled(gateway: Gateway, tenant: str, device: Device) -> bytes:
    """Enroll with the tenant's own credential at its own label."""
    label = "first" if tenant == TENANT else "second"
    answer = gateway.enroll(
        device.request(f"{device.name}.example"),
        f"only-{TENANTS[tenant]}",
        label=label,
    )
    assert answer.status == 200, answer
    return answer.certificate


def matrix() -> list[tuple[str, str, str, str]]:
    """Return each route with each tenant that it is not for."""
    return [
        (label, tenant, operation, foreign)
        for (label, tenant, operation), foreign in itertools.product(
            routes(), TENANTS
        )
        if foreign != tenant
    ]


class MatrixTests:
    """Every credential of one tenant at every route of the other."""

    @pytest.mark.parametrize(
        ("label", "tenant", "operation", "foreign"), matrix()
    )
    def test_password_has_no_effect(
        self,
        gateway: Gateway,
        label: str,
        tenant: str,
        operation: str,
        foreign: str,
    ) -> None:
        """A password of the other tenant is a wrong one: 401, no row."""
        before = gateway.serials(tenant), gateway.serials(foreign)
        user = f"only-{TENANTS[foreign]}"
        answer = gateway.ask(
            "POST",
            path(label, operation),
            Device("crossing").request("crossing.example"),
            user=user,
            password=f"{user}-password",
        )
        assert answer.status in {401, 429}
        assert answer.body == b"" or answer.status == 429
        assert before == (gateway.serials(tenant), gateway.serials(foreign))

    @pytest.mark.parametrize(
        ("label", "tenant", "operation", "foreign"), matrix()
    )
    def test_certificate_has_no_effect(
        self,
        gateway: Gateway,
        tmp_path: Path,
        label: str,
        tenant: str,
        operation: str,
        foreign: str,
    ) -> None:
        """A certificate of the other tenant proves nobody here."""
        device = Device(f"{TENANTS[foreign]}-{label or 'x'}-{operation}")
        certificate = enrolled(gateway, foreign, device)
        before = gateway.serials(tenant), gateway.serials(foreign)
        answer = gateway.ask(
            "POST",
            path(label, operation),
            device.request(f"{device.name}.example"),
            certificate=device.write(tmp_path, certificate),
        )
        assert answer.status == 401
        assert before == (gateway.serials(tenant), gateway.serials(foreign))


class SharedNameTests:
    """What has the same name in both tenants stays two things."""

    def test_idempotency_keys_do_not_meet(self, gateway: Gateway) -> None:
        """One key, one request, two tenants: two certificates."""
        body = Device("shared").request("shared.example")
        headers = {"Idempotency-Key": "the-same-in-both"}
        answers = [
            gateway.enroll(body, f"only-{name}", label=label, headers=headers)
            for name, label in (("one", "first"), ("two", "second"))
        ]
        assert [200, 200] == [answer.status for answer in answers]
        assert answers[0].certificate != answers[1].certificate

    def test_serial_is_unknown_to_the_other(self, gateway: Gateway) -> None:
        """Neither list shows a serial of the other tenant."""
        enrolled(gateway, TENANT, Device("listed-one"))
        enrolled(gateway, OTHER, Device("listed-two"))
        one, two = set(gateway.serials(TENANT)), set(gateway.serials(OTHER))
        assert one
        assert two
        assert not one & two

    def test_unknown_label_is_nobody_s(self, gateway: Gateway) -> None:
        """An unknown label is 404, with any credential."""
        answer = gateway.enroll(
            Device("nobody").request(), "only-one", label="third"
        )
        assert answer.status == 404
