# SPDX-License-Identifier: MIT
"""
CMP over HTTP: paths and forms (RFC 9811).

``/cmp`` and ``/.well-known/cmp``, each with ``/p/<name>`` for a named
endpoint and ``/<operation>`` behind either; with and without TLS, as messages
protect themselves.  What becomes of a message is in
:mod:`trstctl.protocols.cmp.messages`.
"""

from __future__ import annotations

from collections.abc import Sequence

from trstctl.errors import Malformed, TrstctlError, UnsupportedMediaType
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import Endpoint
from trstctl.pkix.cmp import MAX_BYTES
from trstctl.protocols.cmp.labels import LABELS
from trstctl.protocols.cmp.messages import MEDIA_TYPE, PKIMessages
from trstctl.protocols.cmp.settings import CMPSettings, all_served
from trstctl.settings import ProtocolSettings
from trstctl.web import HTTPRequest, HTTPResponse, ProtocolResource

#: RFC 9811, section 3.3; the second is what older clients poll with.
_MEDIA_TYPES = frozenset({MEDIA_TYPE, f"{MEDIA_TYPE}-poll"})


class CMPResource(ProtocolResource):
    """Everything below ``/cmp`` and ``/.well-known/cmp``."""

    Settings = CMPSettings
    plain_http = True
    max_body = MAX_BYTES

    def __init__(
        self, name: str, ra: IRegistrationAuthority, settings: CMPSettings
    ) -> None:
        super().__init__(name, ra, settings)
        self._served = all_served(name, settings, trusting=True)
        self._messages = {
            label: PKIMessages(ra, served)
            for label, served in self._served.items()
        }

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return where clients look (RFC 9811, section 3.4)."""
        return ("/cmp", "/.well-known/cmp")

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the methods at a path; ``None`` for no such endpoint."""
        place = self._place(path)
        return None if place is None else self.methods

    def _place(self, path: tuple[str, ...]) -> tuple[str, str] | None:
        """Return name and operation of a path; ``None``: there is none."""
        name = ""
        if path[:1] == ("p",) and len(path) > 1:
            name, path = path[1], path[2:]
        operation = "".join(path)
        if len(path) > 1 or name not in self._served:
            return None
        if operation and operation not in LABELS:
            return None
        return name, operation

    def _known(self, request: HTTPRequest) -> tuple[str, str]:
        """Return name and operation of a path that allowed_methods passed."""
        return self._place(request.path) or ("", "")

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the endpoint; each tenant has its own places."""
        return self._served[self._known(request)[0]].endpoint

    def operation(self, request: HTTPRequest) -> str:
        """Return the operation's name; that of a message is in its facts."""
        return self._known(request)[1] or self.name

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Answer one PKIMessage."""
        media_type = request.headers.get("Content-Type")
        if media_type is not None and (
            media_type.partition(";")[0].strip().lower() not in _MEDIA_TYPES
        ):
            raise UnsupportedMediaType(f"send {MEDIA_TYPE}")
        name, operation = self._known(request)
        return await self._messages[name].answer(
            request, request.body, operation
        )

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return what HTTP says where no message can."""
        if isinstance(error, Malformed):
            text = f"{error.detail}\n"
            return HTTPResponse(400, "text/plain", text.encode("utf-8"))
        return super().explain(error, request)
