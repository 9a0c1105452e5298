"""What a node counts meanwhile, and whether its books balance (docs/operations.md, Counters)."""

import json
import shlex
import time
from dataclasses import dataclass

from refusal import Refusal, run

LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
# Now-values that say nothing as a difference.
NOW = ("frames.", "replication.", "sessions.owner", "sessions.backup", "sessions.claim", "sessions.at_risk")


@dataclass(frozen=True)
class Node:
    """A name and the command that prints `samepath stats --json` of it."""

    name: str
    command: str

    def counters(self):
        """All counters by their names in docs/operations.md."""
        reason = f"--node {self.name}"
        text = run(shlex.split(self.command), reason)
        try:
            document = json.loads(text)
        except json.JSONDecodeError:
            document = None
        if not isinstance(document, dict) or document.get("kind") != "stats":
            raise Refusal(f"{reason}: `{self.command}` must print one document of `samepath stats --json`; add --json?")
        return dict(numbers(document))

    def balanced(self):
        """Counters at a moment at which no packet is on its way, and what does not balance if none comes."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            counters = self.counters()
            wrong = imbalances(counters)
            if not wrong or time.monotonic() > end:
                return counters, wrong
            time.sleep(LOOK_SECONDS)


def numbers(value, path=""):
    """Leaves of a document with their paths; lists (single workers) are left out."""
    for key, field in value.items():
        place = f"{path}.{key}" if path else key
        if isinstance(field, dict):
            yield from numbers(field, place)
        elif isinstance(field, int):
            yield place, field


def sum_of(counters, prefix):
    """All counters below a name."""
    return sum(count for name, count in counters.items() if name.startswith(prefix))


def differences(before, after):
    """What has changed, by name."""
    kept = {name: count - before.get(name, 0) for name, count in after.items() if not name.startswith(NOW)}
    return {name: count for name, count in kept.items() if count}


def imbalances(now):
    """The equations that do not hold since the node's start, as sentences."""
    begins = now["rx"] + now["fragments_made"] + now["prompted"]
    ends = now["tx"] + sum_of(now, "drops.") + now["held"]
    steered = now["xdp.steered"] + now["xdp.steered_tunnel"]
    taken = now["rx"] + now["hello.rx"] + now["rings.rx_dropped"] + now["rings.rx_ring_full"]
    redirected = now["verdicts.redirect"] + now["xdp.redirected"]
    frames = now["frames.free"] + now["frames.kernel"] + now["frames.hand"]
    equations = [
        ("rx + fragments_made + prompted = tx + drops + held", begins, ends),
        ("xdp.steered + xdp.steered_tunnel = rx + hello.rx + rings", steered, taken),
        ("tunnel.redirect_tx = verdicts.redirect + xdp.redirected", now["tunnel.redirect_tx"], redirected),
        ("frames.free + frames.kernel + frames.hand = frames.total", frames, now["frames.total"]),
    ]
    return [f"{text}: {left} is not {right}" for text, left, right in equations if left != right]
