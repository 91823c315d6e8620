# SPDX-License-Identifier: MIT
"""``trstctl plugin``: which plugins are installed, and whether they work."""

from __future__ import annotations

import click
from attrs import evolve

from trstctl.cli.output import Row, output_option, print_listing
from trstctl.discovery import Discovery, PluginReport, discover

_COLUMNS = ("name", "kind", "version", "origin", "state", "reason")


@click.group("plugin")
def command() -> None:
    """List the installed protocols and backends."""


@command.command("list")
@output_option
@click.pass_context
def list_(ctx: click.Context, form: str) -> None:
    """List every plugin; status 1 if one of them does not work."""
    discovery = discover()
    reports = [_tried(discovery, report) for report in discovery.listing]
    rows: list[Row] = [
        {key: getattr(report, key) for key in _COLUMNS} for report in reports
    ]
    print_listing(_COLUMNS, rows, form)
    # A foreign drop-in is for somebody else to repair.
    if any(each.state != "ok" and each.kind != "foreign" for each in reports):
        ctx.exit(1)


def _tried(discovery: Discovery, report: PluginReport) -> PluginReport:
    """Import what a sound protocol names, too."""
    if report.kind != "protocol" or report.state != "ok":
        return report
    try:
        discovery.protocols[report.name].settings_schema()
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        text = " ".join(str(error).split())
        return evolve(
            report,
            state="broken",
            reason=f"cannot be used: {type(error).__name__}: {text}"[:300],
        )
    return report
