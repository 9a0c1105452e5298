"""One trial: counted packets at one rate by all ways, and where each of them went."""

from dataclasses import dataclass

import flows
import node
import sink
from pktgen import Pktgen
from refusal import Refusal


@dataclass(frozen=True)
class Bench:
    """Ways in, sinks and nodes: what stays the same from trial to trial."""

    pktgen: Pktgen
    ways: list
    sinks: sink.Sinks
    nodes: list

    def trial(self, traffic, size, count, rate):
        """Sends `count` packets at `rate` per second, both of all ways together; a document about it."""
        books = [one.balanced()[0] for one in self.nodes]
        dropped = self.dropped_at_sender()
        received = self.sinks.received()
        sent = self.pktgen.send(self.ways, lambda way: settings(way, traffic, size), shares(count, rate, self.ways))
        arrived = self.sinks.wait_until_quiet()
        return {
            "size": size,
            "flows": traffic.count,
            "offered_pps": rate,
            "sent": sum(one.packets for one in sent),
            "sent_pps": round(sum(one.packets / max(one.seconds, 1e-6) for one in sent)),
            "errors": sum(one.errors for one in sent),
            "dropped_at_sender": {name: now - dropped[name] for name, now in self.dropped_at_sender().items()},
            "received": sum(arrived.values()) - sum(received.values()),
            "ways": [described(way, one) for way, one in zip(self.ways, sent, strict=True)],
            "sinks": {device: count - received[device] for device, count in arrived.items()},
            "nodes": {one.name: account(one, before) for one, before in zip(self.nodes, books, strict=True)},
        }

    def dropped_at_sender(self):
        """Of every device that sends."""
        return {device: sink.dropped_at_sender(device) for device in {way.device for way in self.ways}}


def settings(way, traffic, size):
    """pktgen's settings for a way."""
    return [f"pkt_size {flows.packet_size(size)}", *traffic.settings(way.reply)]


def shares(count, rate, ways):
    """Rate and count of each way: equal parts; the first ways take what is left over of the count."""
    part, more = divmod(count, len(ways))
    if part == 0:
        raise Refusal(f"{count} packets by {len(ways)} ways: each must send one; raise --count, --rate or --seconds")
    pace = max(rate // len(ways), 1) if rate else 0
    return [(pace, part + (number < more)) for number in range(len(ways))]


def described(way, sent):
    """A way and what it sent."""
    kind = "replies" if way.reply else "requests"
    return {"device": way.device, "node": way.node, "kind": kind, "sent": sent.packets, "errors": sent.errors}


def account(one, before):
    """What a node counted since, and which of its equations do not hold."""
    after, wrong = one.balanced()
    return {"counted": node.differences(before, after), "imbalances": wrong}


def lost(document):
    """Packets sent, or refused by the driver (for which pktgen sent others), and not received."""
    return document["sent"] + document["errors"] - document["received"]
