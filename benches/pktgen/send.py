#!/usr/bin/env python3
"""Sends counted packets through nodes once and says where each of them went."""

import json

import arguments
import flows
import trial

EXAMPLE = """example, two nodes of which both get packets of every flow:
  send.py --requests eth1=02:00:00:00:01:01 --requests eth2=02:00:00:00:02:01 --sink eth3 --sink eth4 \\
      --node 'fw1=ssh fw1 samepath stats --json' --node 'fw2=ssh fw2 samepath stats --json' \\
      --size 64 --flows 1000 --count 1000000 --rate 500000

Prints one JSON document. Exit code: 0 nothing was lost and all books balance, 5 not so, 1 it could not be done,
2 usage. README.md in this folder has topology and fields."""


def main():
    """Runs one trial."""
    parser = arguments.parser(__doc__, EXAMPLE)
    add = parser.add_argument
    add("--size", metavar="BYTES", type=int, default=64,
        help="frame with its checksum, 64 to 1518 [default: %(default)s]")
    add("--flows", metavar="N", type=int, default=1,
        help="UDP flows, one packet of each in turn [default: %(default)s]")
    add("--count", metavar="N", type=int, required=True, help="packets, all ways together")
    add("--rate", metavar="PPS", type=int, default=0,
        help="packets per second, all ways together; 0: as fast as pktgen can [default: %(default)s]")
    given = parser.parse_args()
    traffic = flows.flows(given.flows, given.clients, given.server)
    flows.packet_size(given.size)
    if given.rate < 0:
        parser.error(f"--rate {given.rate}: must not be negative")
    with arguments.bench(given) as bench:
        document = bench.trial(traffic, given.size, given.count, given.rate)
    print(json.dumps({"schema": 1, "kind": "pktgen-send", "lost": trial.lost(document), **document}, indent=2))
    wrong = [one for node in document["nodes"].values() for one in node["imbalances"]]
    return 5 if wrong or trial.lost(document) else 0


if __name__ == "__main__":
    arguments.run(main)
