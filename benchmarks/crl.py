# SPDX-License-Identifier: MIT
"""
What signing a large CRL costs, and whether the reactor waits for it.

Makes (or takes) a database of many certificates, every tenth revoked, and
publishes the full CRL, a delta and the partitions as a gateway does: the
reactor runs, the store reads in its threads, and a call every 5 ms notes how
late it comes.  The first line is the lateness with nothing else to do.

Usage: python benchmarks/crl.py [--certificates N] [--path FILE]
    [--partitions N] [--key-algorithm NAME]
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from inventory import fill
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from trstctl.backends.factories import make_sqlite
from trstctl.backends.signers import make_signer
from trstctl.ca.authority import Authority
from trstctl.ca.ceremony import (
    KEY_ALGORITHMS,
    generate_key,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.ca.edition import Edition, Issuer, Schedule
from trstctl.ca.pointers import Places
from trstctl.ca.publisher import Publisher
from trstctl.tap import run

#: When the certificates of the database were issued, more or less.
_NOW = datetime(2026, 11, 1, tzinfo=UTC)

_PLACES = {
    "crl": ("http://pki.example.com/crl/issuing.crl",),
    "partition": ("http://pki.example.com/crl/issuing/{partition}.crl",),
    "delta": ("http://pki.example.com/crl/issuing/delta.crl",),
}


class Lateness:
    """
    How late a call comes that is due every 5 ms.

    :ivar worst: in seconds.
    """

    def __init__(self, reactor: Any) -> None:
        self.worst = 0.0
        self._last = time.perf_counter()
        self._loop = LoopingCall(self._note)
        self._loop.clock = reactor
        self._loop.start(0.005)

    def _note(self) -> None:
        """Compare with the call before."""
        now = time.perf_counter()
        self.worst = max(self.worst, now - self._last - 0.005)
        self._last = now

    def reset(self) -> None:
        """Begin anew."""
        self.worst, self._last = 0.0, time.perf_counter()

    def stop(self) -> None:
        """Look no longer."""
        self._loop.stop()


class Bench:
    """A publisher over a store, and a stopwatch."""

    def __init__(
        self, reactor: Any, path: Path, algorithm: str, partitions: int
    ) -> None:
        self.reactor = reactor
        self.pool = ThreadPool(0, max(2, os.cpu_count() or 2), "signing")
        self.pool.start()
        self.store: Any = make_sqlite(f"sqlite:{path}", reactor=reactor)
        root_key, key = generate_key("p-256"), generate_key(algorithm)
        root = make_root(root_key, "Root", _NOW, os.urandom)
        issuing = make_issuing(
            root_key, root, public_octets(key), "Issuing", _NOW, os.urandom
        )
        places = Places(**_PLACES, partitions=partitions)
        authority: Any = Authority(
            "issuing",
            issuing,
            (issuing, root),
            make_signer(key, self.pool, reactor),
            places=places,
            elsewhere=self.elsewhere,
        )
        schedule = Schedule(delta_interval=timedelta(hours=1))
        self.publisher = Publisher(
            self.store,
            {"issuing": Issuer(authority, schedule, places)},
            now=lambda: _NOW,
            random_fraction=lambda: 0.0,
            elsewhere=self.elsewhere,
        )
        self.issuer = Issuer(authority, schedule, places)
        self.lateness = Lateness(reactor)

    def elsewhere(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call in a signing thread, as the gateway does."""
        return deferToThreadPool(self.reactor, self.pool, function, *args)

    async def time(self, what: str, act: Callable[[], Awaitable[Any]]) -> None:
        """Print duration, CPU and lateness."""
        self.lateness.reset()
        begin, used = time.perf_counter(), time.process_time()
        await act()
        seconds = time.perf_counter() - begin
        used = time.process_time() - used
        print(
            f"{what:32}{seconds * 1000:9.0f} ms{used * 1000:9.0f} ms of CPU"
            f"{self.lateness.worst * 1000:9.1f} ms late"
        )

    async def close(self) -> None:
        """End everything."""
        self.lateness.stop()
        await self.store.close()
        self.pool.stop()


async def measure(reactor: Any, options: argparse.Namespace) -> None:
    """Open everything, publish, and close everything."""
    bench = Bench(
        reactor, options.path, options.key_algorithm, options.partitions
    )
    try:
        await publish(bench)
    finally:
        await bench.close()


async def publish(bench: Bench) -> None:
    """Publish piece by piece."""
    press, issuer = bench.publisher._press, bench.issuer

    # As the gateway does: a full collection alone takes 50 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)

    async def idle() -> None:
        await deferLater(bench.reactor, 2.0)

    async def everything() -> None:
        await bench.publisher.publish("issuing")

    await bench.time("nothing", idle)
    await bench.time("the full CRL", lambda: press.complete(issuer, "", None))
    await bench.time("all CRLs", everything)
    full = Edition(await bench.publisher.crl("issuing", ""))
    await bench.time("a delta CRL", lambda: press.delta(issuer, full))
    await bench.time("a round with nothing due", bench.publisher.round)
    for scope in ("", "delta", *issuer.places.scopes[:1]):
        crl = await bench.publisher.crl("issuing", scope)
        print(
            f"{scope or 'full':12}{crl.entries:9} entries"
            f"{len(crl.der):10} octets"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory at most{peak:12.0f} MiB")


def main() -> None:
    """Make the database, unless it is there, and measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--certificates", type=int, default=1_000_000)
    options.add_argument("--path", type=Path)
    options.add_argument("--partitions", type=int, default=16)
    options.add_argument(
        "--key-algorithm", choices=KEY_ALGORITHMS, default="p-256"
    )
    wanted = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wanted.path = wanted.path or Path(folder) / "trstctl.db"
        if not wanted.path.exists():
            fill(wanted.path, wanted.certificates)
        run(lambda reactor: measure(reactor, wanted))


if __name__ == "__main__":
    main()
