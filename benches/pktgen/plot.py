"""Rates by frame size, a bar for each number of flows, as SVG."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 360, 70, 50, 40
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2")


def svg(results):
    """The drawing; `results` as search.py has them."""
    sizes = sorted({one["size"] for one in results})
    flows = sorted({one["flows"] for one in results})
    peak = max((one["pps"] or 0 for one in results), default=0) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 20, "Highest rate without loss, packets per second", "start"),
        *axis(peak),
    ]
    room = (WIDTH - LEFT - 20) / len(sizes)
    for place, size in enumerate(sizes):
        parts.append(text(LEFT + room * (place + 0.5), HEIGHT - BOTTOM + 18, f"{size} bytes", "middle"))
    for one in results:
        left = LEFT + room * (sizes.index(one["size"]) + 0.1)
        width = room * 0.8 / len(flows)
        number = flows.index(one["flows"])
        parts.append(bar(left + width * number, width, one, peak, COLOURS[number % len(COLOURS)]))
    for number, count in enumerate(flows):
        left = LEFT + 120 * number
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{left}" y="{HEIGHT - 22}" width="10" height="10" fill="{colour}"/>')
        parts.append(text(left + 15, HEIGHT - 13, f"{count} flows", "start"))
    return "\n".join([*parts, "</svg>", ""])


def axis(peak):
    """Lines at quarters of the highest rate."""
    for quarter in range(5):
        y = height(peak * quarter / 4, peak)
        yield f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield text(LEFT - 6, y + 4, f"{peak * quarter / 4:,.0f}", "end")


def bar(left, width, one, peak, colour):
    """One rate; its title says the exact figure."""
    top = height(one["pps"] or 0, peak)
    title = f"{one['size']} bytes, {one['flows']} flows: {one['pps']} packets/s, limited by {one['limit']}"
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width * 0.92:.1f}" height="{HEIGHT - BOTTOM - top:.1f}" '
        f'fill="{colour}">'
        f"<title>{escape(title)}</title></rect>"
    )


def height(rate, peak):
    """The y of a rate."""
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * rate / peak


def text(x, y, words, anchor):
    """A word."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
