#!/usr/bin/env python3
"""Searches the highest rate at which no packet is lost (RFC 2544, section 26.1), by frame size and number of flows."""

import json
import platform
import sys
from pathlib import Path

import arguments
import flows
import plot
import trial
from refusal import Refusal

EXAMPLE = """example, two nodes of which both get packets of every flow:
  search.py --requests eth1=02:00:00:00:01:01 --requests eth2=02:00:00:00:02:01 --sink eth3 --sink eth4 \\
      --max-rate 14880952 --sizes 64,128,256,512,1024,1280,1518 --flows 1,1000,1000000 \\
      --confirm-seconds 60 --plot rates.svg > rates.json

Progress goes to stderr, one JSON document to stdout. Exit code: 0 done, 1 it could not be done, 2 usage.
README.md in this folder has topology and fields."""

# Below this share of what was asked for, it is the generator that limits.
KEPT_UP = 0.97


def main():
    """Searches for every size and number of flows."""
    given = parsed()
    results = []
    with arguments.bench(given) as bench:
        for size in given.sizes:
            for count in given.flows:
                traffic = flows.flows(count, given.clients, given.server)
                one = result(bench, traffic, size, given)
                results.append(one)
                progress(f"{size} bytes, {count} flows: {one['pps']} packets/s, limited by {one['limit']}")
    document = {
        "schema": 1,
        "kind": "pktgen-search",
        "kernel": platform.release(),
        "resolution_percent": given.resolution,
        "trial_seconds": given.seconds,
        "confirm_seconds": given.confirm_seconds,
        "results": results,
    }
    print(json.dumps(document, indent=2))
    if given.plot:
        given.plot.write_text(plot.svg(results))
    return 0


def parsed():
    """The command line, checked."""
    parser = arguments.parser(__doc__, EXAMPLE)
    add = parser.add_argument
    add("--sizes", metavar="LIST", type=arguments.numbers, default="64,128,256,512,1024,1280,1518",
        help="frames with their checksum [default: %(default)s]")
    add("--flows", metavar="LIST", type=arguments.numbers, default="1,1000", help="UDP flows [default: %(default)s]")
    add("--max-rate", metavar="PPS", type=int, required=True,
        help="where the search begins, packets per second of all ways together: what the link carries, or pktgen makes")
    add("--min-rate", metavar="PPS", type=int, default=1000, help="the lowest rate tried [default: %(default)s]")
    add("--seconds", type=float, default=10, help="length of a trial [default: %(default)s]")
    add("--confirm-seconds", metavar="SECONDS", type=float, default=60,
        help="the rate that was found must hold this long as well, RFC 2544 wants 60; 0: no such trial "
             "[default: %(default)s]")
    add("--resolution", metavar="PERCENT", type=float, default=1,
        help="ends when the rate is known to this much [default: %(default)s]")
    add("--plot", metavar="FILE", type=Path, help="draw the rates as SVG")
    given = parser.parse_args()
    if not 0 < given.min_rate < given.max_rate:
        parser.error(f"--min-rate {given.min_rate}: must be above 0 and below --max-rate {given.max_rate}")
    if not 0.1 <= given.resolution <= 50:
        parser.error(f"--resolution {given.resolution}: must be 0.1 to 50")
    if given.seconds <= 0 or given.confirm_seconds < 0:
        parser.error("--seconds must be above 0, --confirm-seconds not below it")
    for size in given.sizes:
        flows.packet_size(size)
    for count in given.flows:
        flows.flows(count, given.clients, given.server)
    return given


def result(bench, traffic, size, given):
    """The search for one size and number of flows, as a part of the document."""
    trials = []

    def lossless(rate, seconds=given.seconds):
        document = bench.trial(traffic, size, max(round(rate * seconds), len(bench.ways)), rate)
        complain(document)
        trials.append({name: document[name] for name in ("offered_pps", "sent_pps", "sent", "received")})
        trials[-1]["seconds"] = seconds
        progress(f"  {rate} packets/s: {trial.lost(document)} of {document['sent']} lost")
        return trial.lost(document) == 0

    def confirmed(rate):
        return not given.confirm_seconds or lossless(rate, given.confirm_seconds)

    rate = highest(lossless, confirmed, given.min_rate, given.max_rate, given.resolution / 100)
    reached = max((one["sent_pps"] for one in trials if rate and one["offered_pps"] == rate), default=0)
    if rate and reached < KEPT_UP * rate:
        rate, limit = reached, "generator"
    else:
        limit = "max-rate" if rate == given.max_rate else "loss"
    mbit = round((rate or 0) * size * 8 / 1e6, 3)
    return {"size": size, "flows": traffic.count, "pps": rate, "mbit": mbit, "limit": limit, "trials": trials}


def highest(lossless, confirmed, low, high, resolution):
    """The highest rate that lost nothing, to within `resolution` of it; None if the lowest lost something."""
    if lossless(high) and confirmed(high):
        return high
    if not lossless(low):
        return None
    while high - low > max(resolution * high, 1):
        middle = (low + high) // 2
        low, high = (middle, high) if lossless(middle) else (low, middle)
    # A long trial finds what short ones miss: one step down after the other.
    lowest = low
    while not confirmed(low):
        low = int(low * (1 - max(resolution, 0.01)))
        if low < lowest / 2:
            return None
    return low


def complain(document):
    """A node whose books do not balance has a defect: no rate is worth anything then."""
    for name, node in document["nodes"].items():
        if node["imbalances"]:
            raise Refusal(f"node {name} does not account for every packet: {'; '.join(node['imbalances'])}; report it")


def progress(line):
    """For whoever waits."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    arguments.run(main)
