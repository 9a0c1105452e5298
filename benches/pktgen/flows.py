"""Which packets are sent: frame size, and flows as cycles of client addresses and ports."""

import ipaddress
import math
from dataclasses import dataclass

from refusal import Refusal

# pktgen's own header (16 bytes) must fit behind Ethernet, IPv4 and UDP; 1,518 is a full frame without jumbo.
SMALLEST, LARGEST = 64, 1518
CHECKSUM = 4
FIRST_PORT = 20000
PORTS = 40000
# Discard (RFC 863): what a server does with these packets if they ever reach one.
SERVER_PORT = 9


@dataclass(frozen=True)
class Flows:
    """So many UDP flows of `addresses` clients with `ports` ports each, to one server.

    pktgen counts both up with every packet. Their cycles have no common divisor, so all pairs come once before
    any comes again: every packet is of the next flow.
    """

    addresses: int
    ports: int
    first_client: ipaddress.IPv4Address
    server: ipaddress.IPv4Address

    @property
    def count(self):
        return self.addresses * self.ports

    def settings(self, reply):
        """pktgen's settings for requests, or for the replies to them."""
        clients = (self.first_client, self.first_client + self.addresses - 1)
        # The upper end of a range of ports does not belong to it, that of a range of addresses does.
        ports = (FIRST_PORT, FIRST_PORT + self.ports)
        near, far = ("dst", "src") if reply else ("src", "dst")
        return [
            f"{near}_min {clients[0]}",
            f"{near}_max {clients[1]}",
            f"udp_{near}_min {ports[0]}",
            f"udp_{near}_max {ports[1]}",
            f"{far}_min {self.server}",
            f"{far}_max {self.server}",
            f"udp_{far}_min {SERVER_PORT}",
            f"udp_{far}_max {SERVER_PORT}",
        ]


def shape(count):
    """Addresses and ports for so many flows: as many addresses as possible, so that Directors share them."""
    for addresses in range(math.isqrt(count), 0, -1):
        ports, rest = divmod(count, addresses)
        if rest == 0 and ports <= PORTS and math.gcd(addresses, ports) == 1:
            return addresses, ports
    raise Refusal(
        f"--flows {count}: must be addresses times ports without a common divisor, at most {PORTS} ports; "
        "1, 1000, 10000, 100000 and 1000000 are"
    )


def flows(count, clients, server):
    """`count` flows from addresses of the network `clients` to `server`."""
    if count < 1:
        raise Refusal(f"--flows {count}: must be 1 or more")
    addresses, ports = shape(count)
    if server in clients:
        raise Refusal(f"--server {server}: must be outside --clients {clients}, as another network behind the nodes")
    if addresses > clients.num_addresses - 2:
        raise Refusal(
            f"--flows {count}: needs {addresses} client addresses and --clients {clients} has "
            f"{max(clients.num_addresses - 2, 0)}; give a larger network"
        )
    return Flows(addresses, ports, clients[1], server)


def packet_size(frame):
    """pktgen's `pkt_size` of a frame: it counts no checksum."""
    if not SMALLEST <= frame <= LARGEST:
        raise Refusal(f"--size {frame}: a frame with its checksum has {SMALLEST} to {LARGEST} bytes")
    return frame - CHECKSUM
