# SPDX-License-Identifier: MIT
"""What the rules of a profile judge, and what they have made of it so far."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import evolve

from trstctl.model import EnrollmentRequest, GeneralName, Name, Principal


class Case:
    """
    One request under judgement.

    The rules that judge subject, names and validity leave here what will be
    issued; until then it is what was requested.

    :ivar stated: the request as it is; for a renewal, subject and names are
        those of the certificate to be renewed.
    :ivar wanted: the request with the names that it wants: other ones, if it
        has ChangeSubjectName (RFC 6402, section 2.8).
    :ivar retry_after: seconds after which the same request would pass; 0:
        never, as things are.
    :ivar subject: the subject as it will be issued.
    :ivar names: the alternative names, canonical, each once.
    """

    __slots__ = (
        "ca_not_after",
        "names",
        "not_after",
        "not_before",
        "now",
        "principal",
        "request",
        "retry_after",
        "stated",
        "subject",
        "wanted",
    )

    def __init__(
        self,
        request: EnrollmentRequest,
        principal: Principal,
        now: datetime,
        ca_not_after: datetime,
    ) -> None:
        self.request = request
        self.stated = self.wanted = request.wanted
        change = request.wanted.change
        if change is not None:
            self.wanted = evolve(
                request.wanted, subject=change.subject, names=change.names
            )
        self.retry_after = 0
        self.principal = principal
        self.now = now
        self.ca_not_after = ca_not_after
        self.subject: Name = self.wanted.subject
        self.names: tuple[GeneralName, ...] = self.wanted.names
        self.not_before = self.not_after = now


#: Judges one rule: says why it refuses, or returns ``None``.
Judge = Callable[[Case], str | None]
