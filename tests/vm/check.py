"""Inside the machine, in the generator's namespace: sends with benches/pktgen and asks where every packet is."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

NODES = ("1", "2")
# Requests enter at both nodes, replies at the second: whichever node owns a flow, the other gets packets of it.
WAYS = [
    "--requests", "east1=02:00:00:01:01:02",
    "--requests", "east2=02:00:00:01:02:02",
    "--replies", "west2=02:00:00:02:02:02",
]
ENTERS = {"1": ("east1",), "2": ("east2", "west2")}
SINKS = ("east1", "east2", "west1", "west2")
COUNT, RATE = 12000, 3000
# A packet that found no room was in an overloaded place; any other reason means that something is wrong.
OVERLOAD = ("tx_ring_full", "handoff_full")
POLICED = 2000
PATIENCE_SECONDS = 30


class Checks:
    """Lines `ok` and `FAILED`."""

    def __init__(self):
        self.failed = 0

    def that(self, what, holds, found=""):
        """One line."""
        self.failed += not holds
        print(f"ok: {what}" if holds else f"FAILED: {what}: {found}", flush=True)

    def equal(self, what, left, right):
        """Two figures that must be the same one."""
        self.that(f"{what} ({left})", left == right, f"{left} is not {right}")


def tool(name, *words, codes=(0,)):
    """What a script of benches/pktgen prints, read as JSON; None if it ended with another code."""
    done = subprocess.run(["python3", f"/pktgen/{name}", *words], capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        print(f"{name} ended with {done.returncode}: {done.stderr.strip()}", flush=True)
        return None
    return json.loads(done.stdout)


def dropped_by(space, interfaces):
    """Packets that interfaces of a namespace had no room for, by the kernel's count."""
    text = subprocess.run(["ip", "-n", space, "-s", "-j", "link"], capture_output=True, text=True, check=True).stdout
    return sum(one["stats64"]["tx"]["dropped"] for one in json.loads(text) if one["ifname"] in interfaces)


def dropped_by_nodes():
    """On data interfaces, and on the cluster link."""
    return [sum(dropped_by(f"n{node}", names) for node in NODES) for names in (("inside", "outside"), ("cluster",))]


def case(checks, number, flows, size):
    """Sends one kind of traffic and checks the account of every packet."""
    before = dropped_by_nodes()
    nodes = [f"{node}=samepath stats --json --control-socket /run/node{node}.sock" for node in NODES]
    document = tool(
        "send.py", *WAYS, *(word for sink in SINKS for word in ("--sink", sink)),
        *(word for node in nodes for word in ("--node", node)),
        # Each case has clients of its own: its flows are new.
        "--clients", f"10.1.{number}.0/24", "--size", str(size), "--flows", str(flows), "--count", str(COUNT),
        "--rate", str(RATE), codes=(0, 5),
    )
    name = f"{flows} flow{'s' if flows > 1 else ''}, {size} bytes"
    checks.that(f"{name}: pktgen has sent", document is not None)
    if document is None:
        return
    egress, cluster = (after - was for after, was in zip(dropped_by_nodes(), before, strict=True))
    account(checks, name, document, egress, cluster)
    owners(checks, name, document, flows, (egress, cluster))


def account(checks, name, document, egress, cluster):
    """Every packet pktgen sent has come out, or is counted at one place as lost."""
    total = totals(document)
    drops = {key: count for key, count in total.items() if key.startswith("drops.")}
    rings = total["rings.rx_dropped"] + total["rings.rx_ring_full"]
    refused = sum(document["dropped_at_sender"].values())
    checks.equal(f"{name}: pktgen sent what it was told to", document["sent"], COUNT)
    for node in NODES:
        sent = sum(way["sent"] + way["errors"] for way in document["ways"] if way["device"] in ENTERS[node])
        lost = sum(document["dropped_at_sender"].get(device, 0) for device in ENTERS[node])
        steered = document["nodes"][node]["counted"].get("xdp.steered", 0)
        checks.equal(f"{name}: node {node} received what was sent to it", steered, sent - lost)
        wrong = document["nodes"][node]["imbalances"]
        checks.that(f"{name}: node {node}'s books balance", not wrong, "; ".join(wrong))
    ends = document["received"] + sum(drops.values()) + total["held"] + rings + refused + cluster + egress
    offered = document["sent"] + document["errors"]
    checks.equal(f"{name}: sent = came out + drops + held + rings + links", ends, offered)
    others = {key: count for key, count in drops.items() if key.removeprefix("drops.") not in OVERLOAD}
    checks.that(f"{name}: nothing was dropped for another reason than overload", not others, others)
    print(f"    {document['received']} of {document['sent']} came out; drops {drops or 0}, rings {rings}, "
          f"links in {refused}, cluster {cluster}, out {egress}", flush=True)


def owners(checks, name, document, flows, links):
    """Every flow has one Owner, and what entered elsewhere crossed the cluster link."""
    total, counted = totals(document), {node: Counted(document["nodes"][node]["counted"]) for node in NODES}
    checks.equal(f"{name}: every flow has one Owner", total["sessions.created"], flows)
    verdicts = sum(total[f"verdicts.{one}"] for one in ("forward", "query", "first_packet", "redirect"))
    sent = total["tx"] + total["drops.tx_ring_full"]
    checks.equal(f"{name}: what was to be sent was sent or found no room", verdicts, sent)
    received = sum(total[f"tunnel.{kind}_rx"] for kind in ("query", "first_packet", "redirect"))
    # Which ring refused a packet is not known.
    if not total["rings.rx_dropped"] and not total["rings.rx_ring_full"]:
        left = document["received"] + sum(links)
        checks.equal(f"{name}: what one node tunnelled the other received", total["tx"] - received, left)
    checks.that(f"{name}: packets were redirected ({received} tunnelled)", received > COUNT // 10, received)
    if flows == 1 and total["sessions.created"] == 1:
        other = "2" if counted["1"]["sessions.created"] else "1"
        crossed = counted[other]["verdicts.query"] + counted[other]["verdicts.redirect"]
        refused = counted[other]["rings.rx_dropped"] + counted[other]["rings.rx_ring_full"]
        checks.that(f"{name}: all that node {other} took from its rings crossed to the Owner ({crossed})",
                    crossed + refused >= counted[other]["xdp.steered"] > 0, counted[other])


def totals(document):
    """Counters of both nodes together."""
    total = Counted()
    for node in NODES:
        for key, count in document["nodes"][node]["counted"].items():
            total[key] += count
    return total


class Counted(dict):
    """Counters; what did not change is not among them."""

    def __missing__(self, _):
        return 0


def search(checks):
    """The search finds what a policer lets through; the policer is no node, so what it does is known."""
    document = tool(
        "search.py", "--requests", "polica=02:00:00:03:00:02", "--sink", "policb", "--sizes", "64", "--flows", "1000",
        "--max-rate", "8000", "--min-rate", "500", "--seconds", "1", "--confirm-seconds", "0", "--resolution", "10",
        "--plot", "/run/plot.svg",
    )
    found = document["results"][0]["pps"] if document else None
    holds = found is not None and POLICED * 0.8 < found < POLICED * 1.2
    checks.that(f"the search finds a limit of {POLICED} packets/s ({found} found)", holds, document)
    plot = Path("/run/plot.svg")
    checks.that("and draws it", plot.exists() and f"{found} packets/s" in plot.read_text())


def interrupted(checks):
    """SIGTERM in the middle ends a script, and what it changed is as it was; so it is after all runs before."""
    restored(checks, "after all runs")
    words = ["--requests", "polica=02:00:00:03:00:02", "--sink", "policb", "--count", "1000000", "--rate", "1000"]
    sending = subprocess.Popen(["python3", "/pktgen/send.py", *words], stdout=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE_SECONDS
    while not under_way() and time.monotonic() < end:
        time.sleep(0.1)
    checks.that("a run is under way", under_way())
    sending.terminate()
    checks.equal("SIGTERM ends a run", sending.wait(PATIENCE_SECONDS), 128 + signal.SIGTERM)
    restored(checks, "after SIGTERM")


def under_way():
    """pktgen sends for the script."""
    file = Path("/proc/net/pktgen/polica@0")
    return file.exists() and not re.search("pkts-sofar: 0 ", file.read_text())


def restored(checks, when):
    """What the scripts changed is as it was."""
    checks.that(f"pktgen is unloaded again {when}", not Path("/proc/net/pktgen").exists())
    qdiscs = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
    checks.that(f"no filters are left {when}", "clsact" not in qdiscs, qdiscs)


def main():
    """All cases; the number of what failed."""
    checks = Checks()
    for number, (flows, size) in enumerate([(1, 64), (1000, 64), (1, 1518), (1000, 1518)], 1):
        case(checks, number, flows, size)
    search(checks)
    interrupted(checks)
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
