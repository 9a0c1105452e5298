"""Where packets come out: counted exactly and dropped before the host's own stack sees them."""

import json
import time
from pathlib import Path

from flows import SERVER_PORT
from refusal import Refusal, run

# RFC 2544, section 23: frames may be under way for two seconds.
QUIET_SECONDS = 2.0
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0


class Sinks:
    """Filters of tc that count and drop requests to the server and replies from it, on each device."""

    def __init__(self, devices, server):
        self.devices = devices
        self.server = server
        self.ours = []

    def __enter__(self):
        try:
            for device in self.devices:
                self.open(device)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        while self.ours:
            run(["tc", "qdisc", "delete", "dev", self.ours.pop(), "clsact"], "the sink's filters cannot be removed")

    def open(self, device):
        """Puts the filters on, on a device that has none."""
        there = run(["tc", "qdisc", "show", "dev", device], f"--sink {device}")
        if "clsact" in there or "ingress" in there:
            raise Refusal(
                f"--sink {device}: it has filters of somebody else; if they are of no use, "
                f"`tc qdisc delete dev {device} clsact`, or take another interface"
            )
        run(["tc", "qdisc", "add", "dev", device, "clsact"], f"--sink {device}")
        self.ours.append(device)
        request = ["dst_ip", self.server, "dst_port", SERVER_PORT]
        reply = ["src_ip", self.server, "src_port", SERVER_PORT]
        for preference, match in [(1, request), (2, reply)]:
            words = ["tc", "filter", "add", "dev", device, "ingress", "pref", preference, "protocol", "ip", "flower"]
            words += ["skip_hw", "ip_proto", "udp", *match, "action", "drop"]
            run([str(word) for word in words], f"--sink {device}")

    def received(self):
        """Packets counted since the start, by device."""
        return {device: counted(device) for device in self.devices}

    def wait_until_quiet(self):
        """Waits until nothing has come for two seconds; gives the counts."""
        end = time.monotonic() + PATIENCE_SECONDS
        last, since = self.received(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            if time.monotonic() > end:
                raise Refusal(f"packets still arrive {PATIENCE_SECONDS:.0f} s after the last was sent: is there a loop?")
            time.sleep(LOOK_SECONDS)
            now = self.received()
            if now != last:
                last, since = now, time.monotonic()
        return last


def counted(device):
    """What the filters of a device have counted."""
    text = run(["tc", "-s", "-j", "filter", "show", "dev", device, "ingress"], f"--sink {device}")
    filters = [one["options"] for one in json.loads(text) if "actions" in one.get("options", {})]
    return sum(action["stats"]["packets"] for one in filters for action in one["actions"])


def dropped_at_sender(device):
    """Packets the device, or on veth the ring at its other end, had no room for.

    Some drivers tell pktgen, which counts them as errors; others do not, and it counts them as sent.
    """
    return int(Path(f"/sys/class/net/{device}/statistics/tx_dropped").read_text())
