"""What the commands have in common: arguments, their checks, and how they end."""

import argparse
import ipaddress
import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from node import Node
from pktgen import Pktgen, Way
from refusal import Refusal
from sink import Sinks
from trial import Bench

HARDWARE_ADDRESS = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


def parser(description, epilog):
    """A parser with the arguments that all commands have."""
    made = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--requests", metavar="DEV=MAC", action="append", default=[],
        help="send requests by this interface to a node's interface with this link address; repeatable: with the "
             "ways of two nodes, packets of every flow enter at both. The same way twice is two threads")
    add("--replies", metavar="DEV=MAC", action="append", default=[],
        help="send the replies of the same flows by this way; repeatable")
    add("--sink", metavar="DEV", action="append", default=[],
        help="interface at which packets come out: counted there and dropped; repeatable")
    add("--node", metavar="NAME=COMMAND", action="append", default=[],
        help="a node's counters belong to the result: COMMAND prints them, like 'fw1=ssh fw1 samepath stats --json'; "
             "repeatable")
    add("--clients", metavar="NET", type=network, default="10.1.0.0/16",
        help="network the requests come from [default: %(default)s]")
    add("--server", metavar="IP", type=address, default="10.2.0.1",
        help="address they go to, UDP port 9 [default: %(default)s]")
    return made


def address(text):
    """An IPv4 address."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be an IPv4 address, like 10.2.0.1") from None


def network(text):
    """An IPv4 network."""
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be an IPv4 network, like 10.1.0.0/16") from None


def numbers(text):
    """Whole numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be whole numbers, like 64,1518") from None


def device(name, option):
    """The name of an interface that is there and up."""
    place = Path(f"/sys/class/net/{name}")
    if "/" in name or not name or not place.exists():
        raise Refusal(f"{option} {name}: there is no such interface in this network namespace; `ip link` lists them")
    # An Ethernet interface that is up says up; others, like a tunnel, say unknown.
    if (place / "operstate").read_text().strip() not in ("up", "unknown"):
        raise Refusal(f"{option} {name}: is down; `ip link set {name} up`, and look whether its cable has a light")
    return name


def way(text, option):
    """`DEV=MAC` of an option."""
    name, _, mac = text.rpartition("=")
    if not HARDWARE_ADDRESS.fullmatch(mac):
        raise Refusal(f"{option} {text}: must be DEV=MAC, like eth1=02:00:00:00:01:01; `ip link` on the node shows it")
    return Way(device(name, option), mac, option == "--replies")


def node(text):
    """`NAME=COMMAND`."""
    name, _, command = text.partition("=")
    if not name or not command.strip():
        raise Refusal(f"--node {text}: must be NAME=COMMAND, like 'fw1=ssh fw1 samepath stats --json'")
    return Node(name, command)


def ways(given):
    """All ways of the command line."""
    found = [way(text, "--requests") for text in given.requests] + [way(text, "--replies") for text in given.replies]
    if not found:
        raise Refusal("no way in: give --requests DEV=MAC at least once")
    if not given.sink:
        raise Refusal("no way out: give --sink DEV for every interface at which packets come out")
    return found


@contextmanager
def bench(given):
    """What the command line describes, with pktgen taken and sinks counting until the end."""
    found, nodes = ways(given), [node(text) for text in given.node]
    devices = list(dict.fromkeys(device(name, "--sink") for name in given.sink))
    with Pktgen() as pktgen, Sinks(devices, given.server) as sinks:
        yield Bench(pktgen, found, sinks, nodes)


def ended_by_signal(number, _):
    """Lets every `with` put back what it changed."""
    raise SystemExit(128 + number)


def run(command):
    """Runs a command; a refusal is one sentence and exit code 1, a signal ends it with all put back."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended_by_signal)
    try:
        sys.exit(command())
    except Refusal as refusal:
        print(f"{Path(sys.argv[0]).name}: {refusal}", file=sys.stderr)
        sys.exit(1)
