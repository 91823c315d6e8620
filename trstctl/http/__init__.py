# SPDX-License-Identifier: MIT
"""
HTTP within limits: what stands between a transport and a protocol.

From the wire upwards: :mod:`~trstctl.http.head` and
:mod:`~trstctl.http.chunked` read octets, :mod:`~trstctl.http.channel` is one
connection, :mod:`~trstctl.http.exchange` one request on it,
:mod:`~trstctl.http.request` and :mod:`~trstctl.http.answer` what a protocol
sees of it,
:mod:`~trstctl.http.site` makes the connections within
:mod:`~trstctl.http.limits`, and
:mod:`~trstctl.http.adapter` lets Twisted's own resources take part.
"""
