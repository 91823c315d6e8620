# SPDX-License-Identifier: MIT
"""
Whether time tells what is wrong with an encrypted SCEP message.

Messages with one fault each (of the encrypted key, of the padding, of what is
encrypted) are answered by the whole protocol in one process, in an order
that is shuffled anew in each round, so that whatever the machine does
meanwhile happens to all of them.  What is compared is the time from the end
of the RSA decryption to the beginning of the answer's signature: both take
longer than all else together, in a time that does not depend on what was
decrypted, and would only hide a difference.  ``--whole`` times all of it.

As dudect does (Reparaz, Balasch, Verbauwhede, 2017), each class is compared
with the first one by Welch's t-test, on all samples and on those below each
of several percentiles; the largest |t| counts.  Above 4.5 two classes can be
told apart by somebody who measures inside of this process.  The first two
lines are the same fault twice: what they show is chance.

Usage: python benchmarks/scep_oracle.py [--samples N] [--quick] [--whole]
           [--key BITS]
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

from scep_bench import BAD_CHECK, Bench
from scep_samples import csr, issuer_and_serial, name, read_reply, rsa_key
from test_scep_oracle import FAULTS

from trstctl.web import Answered, HTTPRequest

#: Samples above these percentiles are left out, in turn.
CROPS = (100, 99, 95, 90, 80, 60, 40, 20)

#: One of each kind.
FEW = (
    "the first again",
    "whole_key, cbc_padding",
    "whole_key, cbc_garbage",
    "whole_key, cbc_block",
    "whole_key, cbc_truncated",
    "wrong_length, whole_content",
    "bad_padding, whole_content",
    "wrong_key, cbc_padding",
    "garbage_key, cbc_garbage",
    "wrong_recipient",
    "unproven",
    "other_type",
)


class Probe:
    """Sends messages straight to the protocol, and times what it does."""

    def __init__(self, bench: Bench, *, whole: bool) -> None:
        self._messages = bench.resource._messages[""]
        self._whole = whole
        self._opened = self._signing = 0
        credential = bench.credential()
        decrypt, sign = credential.decrypt, credential.sign

        def timed_decrypt(*arguments: Any) -> Any:
            decrypted = decrypt(*arguments)
            self._opened = time.perf_counter_ns()
            return decrypted

        def timed_sign(*arguments: Any) -> Any:
            self._signing = time.perf_counter_ns()
            return sign(*arguments)

        credential.decrypt, credential.sign = timed_decrypt, timed_sign

    def time(self, octets: bytes) -> int:
        """Return the nanoseconds that a message takes."""
        request = HTTPRequest("POST", request_id="0" * 16)
        began = time.perf_counter_ns()
        work = self._messages.answer(request, octets)
        try:
            work.send(None)
        except Answered:
            ended = time.perf_counter_ns()
        else:
            raise AssertionError("it was not refused at once")
        if self._whole:
            return ended - began
        return self._signing - self._opened


def welch(first: list[int], second: list[int]) -> float:
    """Return |t| of Welch's test."""
    spread = statistics.variance(first) / len(first)
    spread += statistics.variance(second) / len(second)
    difference = statistics.fmean(first) - statistics.fmean(second)
    return abs(difference) / math.sqrt(spread) if spread else 0.0


def largest(first: list[int], second: list[int]) -> float:
    """Return the largest |t| over all crops, at percentiles of both."""
    both = sorted(first + second)
    found = []
    for percent in CROPS:
        limit = both[len(both) * percent // 100 - 1]
        cropped = [
            [each for each in sample if each <= limit]
            for sample in (first, second)
        ]
        if min(map(len, cropped)) > 100:
            found.append(welch(*cropped))
    return max(found)


def measured(
    probe: Probe, messages: dict[str, bytes], samples: int
) -> dict[str, list[int]]:
    """Return the times of each class, interleaved."""
    times: dict[str, list[int]] = {label: [] for label in messages}
    order = list(messages)
    for label in order * 20:  # to warm up
        probe.time(messages[label])
    gc.collect()
    gc.freeze()
    for turn in range(samples):
        random.shuffle(order)
        # What the one before leaves in the caches is the same for all.
        probe.time(messages[order[-1]])
        for label in order:
            times[label].append(probe.time(messages[label]))
        if turn % 500 == 0:
            gc.collect()
    return times


def report(title: str, times: dict[str, list[int]]) -> float:
    """Print a table, and return the largest |t|."""
    print(f"\n{title}")
    print("   median us      |t|  fault")
    first = next(iter(times.values()))
    worst = 0.0
    for label, sample in times.items():
        t = largest(first, sample) if sample is not first else 0.0
        worst = max(worst, t)
        print(
            f"  {statistics.median(sample) / 1000:10.2f} {t:8.2f}  {label}",
            flush=True,
        )
    return worst


def main() -> None:
    """Run the benchmark and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--samples", type=int, default=20_000)
    options.add_argument("--whole", action="store_true")
    options.add_argument("--key", type=int, default=2048)
    options.add_argument(
        "--quick", action="store_true", help="one class of each kind"
    )
    chosen = options.parse_args()
    gc.disable()
    key = rsa_key(0, chosen.key)
    bench = Bench()
    probe = Probe(bench, whole=chosen.whole)
    faults: dict[str, Callable[[Any], Any]] = {
        "the first again": next(iter(FAULTS.values())),
        **FAULTS,
    }
    if chosen.quick:
        faults = {label: faults[label] for label in FEW}
    worst = 0.0
    for title, message in (
        (
            "PKCSReq",
            bench.message(content=csr(key, challenge="A" * 55), key=key),
        ),
        (
            "GetCRL",
            bench.message(
                content=issuer_and_serial(bench.issuer, 1 << 120),
                key=key,
                message_type="22",
            ),
        ),
    ):
        messages = {}
        for label, fault in faults.items():
            changed = fault(message)
            if title == "GetCRL" and label == "other_type":
                changed = message.but(
                    content=issuer_and_serial(name("other CA"), 1 << 120)
                )
            messages[label] = changed.der()
            reply = read_reply(bench.post(messages[label]).body)
            assert reply.status == BAD_CHECK, label
        times = measured(probe, messages, chosen.samples)
        worst = max(worst, report(title, times))
    print(f"\nlargest |t| of all: {worst:.2f} ({chosen.samples} samples each)")


if __name__ == "__main__":
    main()
