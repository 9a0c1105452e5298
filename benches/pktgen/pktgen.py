"""The kernel's pktgen: takes it while nobody else uses it, sends counted packets, says what it says it sent."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from refusal import Refusal, run

ROOT = Path("/proc/net/pktgen")


@dataclass(frozen=True)
class Way:
    """Packets of one kind enter by one device, addressed to one node's interface."""

    device: str
    node: str
    reply: bool


@dataclass(frozen=True)
class Sent:
    """What pktgen says of one way."""

    packets: int
    errors: int
    seconds: float


class Pktgen:
    """pktgen in this network namespace, for as long as the `with` lasts; afterwards it is as it was found."""

    def __enter__(self):
        if os.geteuid() != 0:
            raise Refusal("pktgen is the kernel's and only root may use it: run this with sudo")
        self.loaded_here = not ROOT.exists()
        if self.loaded_here:
            run(["modprobe", "pktgen"], "pktgen is not loaded")
        self.threads = sorted(ROOT.glob("kpktgend_*"), key=lambda path: int(path.name.split("_")[1]))
        taken = [name for thread in self.threads for name in devices_of(thread)]
        if taken:
            raise Refusal(
                f"pktgen already has {', '.join(taken)}: somebody else uses it here; wait, or give them up with "
                f"`echo rem_device_all > {self.threads[0].parent}/kpktgend_N`"
            )
        return self

    def __exit__(self, *_):
        self.clear()
        if self.loaded_here:
            run(["modprobe", "-r", "pktgen"], "pktgen cannot be unloaded")

    def clear(self):
        """Takes all devices away again."""
        for thread in self.threads:
            order(thread, "rem_device_all")

    def send(self, ways, settings_of, rates_and_counts):
        """Sends by all ways at once, one thread after the other taking one; gives what each sent, in order.

        `settings_of` gives a way's settings beside link address, rate and count, `rates_and_counts` a pair for
        each way; a rate of 0 is as fast as possible. Ctrl-C and SIGTERM end it early.
        """
        self.clear()
        files = []
        for number, (way, (rate, count)) in enumerate(zip(ways, rates_and_counts, strict=True)):
            thread = self.threads[number % len(self.threads)]
            # The part behind @ is pktgen's way of giving one device to several threads.
            order(thread, f"add_device {way.device}@{number}")
            files.append(ROOT / f"{way.device}@{number}")
            queue = number % transmit_queues(way.device)
            pace = f"ratep {rate}" if rate else "delay 0"
            for setting in [
                f"count {count}",
                pace,
                f"dst_mac {way.node}",
                f"queue_map_min {queue}",
                f"queue_map_max {queue}",
                *settings_of(way),
            ]:
                order(files[-1], setting)
        order(ROOT / "pgctrl", "start")
        sent = [result(file) for file in files]
        self.clear()
        return sent


def order(file, line):
    """Writes one line at once, as pktgen wants it."""
    try:
        descriptor = os.open(file, os.O_WRONLY)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refusal(
            f"`{line}` for pktgen's {file.name}: refused ({error.strerror}); is the interface there, up and Ethernet?"
        ) from None


def devices_of(thread):
    """Names a thread of pktgen has, running or not."""
    lines = re.findall(r"^(?:Running|Stopped):(.*)$", thread.read_text(), re.MULTILINE)
    return [name for line in lines for name in line.split()]


def transmit_queues(device):
    """How many the device has."""
    return len(list(Path(f"/sys/class/net/{device}/queues").glob("tx-*"))) or 1


def result(file):
    """Reads what a device's file says after a run."""
    text = file.read_text()
    counts = re.search(r"pkts-sofar:\s*(\d+)\s+errors:\s*(\d+)", text)
    end = re.search(r"^Result: OK: (\d+)\(", text, re.MULTILINE)
    if not counts or not end:
        said = re.search(r"^Result: (.*)$", text, re.MULTILINE)
        raise Refusal(f"pktgen did not send by {file.name}: it says `{said[1] if said else 'nothing'}`")
    return Sent(int(counts[1]), int(counts[2]), int(end[1]) / 1e6)
