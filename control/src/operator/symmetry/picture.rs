//! `samepath symmetry --picture`: detours as ribbons, each as broad as its share of what they put on the cluster link.
//!
//! ```text
//! from          arrives at      Owner        to
//! ▐ prefix ═══╗                         ╔═══ prefix ▌
//!             ╠═══ ▐ node ▌ ═══ ▐ node ▌╣
//! ▐ prefix ═══╝                         ╚═══ prefix ▌
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{Symmetry, WaySum};

/// Where columns begin, and how broad their bars are, pixels.
const COLUMNS: [f64; 4] = [210.0, 420.0, 560.0, 770.0];
const BAR: f64 = 14.0;
const WIDTH: f64 = 994.0;
const TOP: f64 = 104.0;
/// Height of all ribbons together; no ribbon is thinner than `THIN`.
const RIBBONS: f64 = 420.0;
const THIN: f64 = 1.5;
/// Between bars of one column: room for a label.
const GAP: f64 = 16.0;
/// Of a ribbon, by the node packets arrive at.
const COLOURS: [&str; 6] = ["#1f6fb4", "#d37a1f", "#2e8b57", "#8e44ad", "#b03a2e", "#7f8c8d"];

/// The place of each way in one column, and the bars it has.
struct Column {
    /// Upper edge, by way.
    tops: Vec<f64>,
    /// Upper edge, height and name.
    bars: Vec<(f64, f64, String)>,
    bottom: f64,
}

impl Column {
    /// Ways of one name stand together, the broadest bar on top. `ways`: name and breadth.
    fn of(ways: &[(String, f64)]) -> Self {
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        ways.iter().for_each(|(name, breadth)| *sums.entry(name).or_default() += breadth);
        let mut order: Vec<(&str, f64)> = sums.into_iter().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (mut at, mut next, mut bars) = (TOP, BTreeMap::new(), Vec::new());
        for (name, height) in order {
            bars.push((at, height, name.to_owned()));
            next.insert(name, at);
            at += height + GAP;
        }
        let mut tops = Vec::new();
        for (name, breadth) in ways {
            let top = next.entry(name.as_str()).or_insert(TOP);
            tops.push(*top);
            *top += breadth;
        }
        Self { tops, bars, bottom: at }
    }
}

/// The picture, an SVG document.
pub(super) fn svg(symmetry: &Symmetry) -> String {
    let ways: Vec<&WaySum> = symmetry.pairs.iter().flat_map(|pair| &pair.ways).collect();
    let all = symmetry.total.link_bytes.max(1) as f64;
    let breadths: Vec<f64> =
        ways.iter().map(|way| (way.load.link_bytes as f64 / all * RIBBONS).max(THIN)).collect();
    let names: [fn(&WaySum) -> String; 4] = [
        |way| way.source.to_string(),
        |way| format!("node {}", way.ingress),
        |way| format!("node {}", way.owner),
        |way| way.destination.to_string(),
    ];
    let columns = names.map(|name| {
        let named: Vec<(String, f64)> = ways.iter().map(|way| name(way)).zip(breadths.clone()).collect();
        Column::of(&named)
    });
    let bottom = columns.iter().map(|column| column.bottom).fold(TOP, f64::max);
    let notes = notes(symmetry);
    let height = bottom + 24.0 + 18.0 * notes.len() as f64;
    let mut svg = String::new();
    // A string takes whatever is written to it.
    let _ = draw(&mut svg, (&ways, &breadths), &columns, symmetry, (bottom, height, &notes));
    svg
}

fn draw(
    svg: &mut String,
    (ways, breadths): (&[&WaySum], &[f64]),
    columns: &[Column; 4],
    symmetry: &Symmetry,
    (bottom, height, notes): (f64, f64, &[String]),
) -> fmt::Result {
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="30" font-size="18">Detours over the cluster link</text>
<text x="16" y="52" fill="#555">{}</text>"##,
        escaped(&summary(symmetry))
    )?;
    for (title, x) in ["from", "arrives at", "Owner", "to"].iter().zip(COLUMNS) {
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#555">{title}</text>"##,
            x + BAR / 2.0,
            TOP - 26.0
        )?;
    }
    for (at, (way, breadth)) in ways.iter().zip(breadths).enumerate() {
        let colour = COLOURS[usize::from(way.ingress) % COLOURS.len()];
        let told = escaped(&told(way, symmetry));
        writeln!(svg, r#"<g fill="{colour}" fill-opacity="0.45"><title>{told}</title>"#)?;
        for (left, x) in COLUMNS[..3].iter().enumerate() {
            let (from, to) = (columns[left].tops[at], columns[left + 1].tops[at]);
            ribbon(svg, (x + BAR, from), (COLUMNS[left + 1], to), *breadth)?;
        }
        writeln!(svg, "</g>")?;
    }
    for (at, (column, x)) in columns.iter().zip(COLUMNS).enumerate() {
        bars(svg, at, column, x)?;
    }
    for (line, note) in notes.iter().enumerate() {
        let y = bottom + 18.0 * (line + 1) as f64;
        writeln!(svg, r##"<text x="16" y="{y:.1}" fill="#555">{}</text>"##, escaped(note))?;
    }
    writeln!(svg, "</svg>")
}

/// From one column to the next.
fn ribbon(svg: &mut String, (x0, y0): (f64, f64), (x1, y1): (f64, f64), breadth: f64) -> fmt::Result {
    let middle = (x0 + x1) / 2.0;
    let (low0, low1) = (y0 + breadth, y1 + breadth);
    writeln!(
        svg,
        r#"<path d="M{x0:.1} {y0:.1}C{middle:.1} {y0:.1} {middle:.1} {y1:.1} {x1:.1} {y1:.1}V{low1:.1}C{middle:.1} {low1:.1} {middle:.1} {low0:.1} {x0:.1} {low0:.1}Z"/>"#
    )
}

/// The bars of a column with their names: outside of those at the sides, above those in the middle.
fn bars(svg: &mut String, at: usize, column: &Column, x: f64) -> fmt::Result {
    for (top, height, name) in &column.bars {
        let middle = top + height / 2.0 + 4.5;
        let (anchor, label_x, label_y) = match at {
            0 => ("end", x - 6.0, middle),
            3 => ("start", x + BAR + 6.0, middle),
            _ => ("middle", x + BAR / 2.0, top - 3.0),
        };
        writeln!(
            svg,
            r##"<rect x="{x:.1}" y="{top:.1}" width="{BAR}" height="{height:.1}" fill="#333"/><text x="{label_x:.1}" y="{label_y:.1}" text-anchor="{anchor}">{}</text>"##,
            escaped(name)
        )?;
    }
    Ok(())
}

fn summary(symmetry: &Symmetry) -> String {
    let Symmetry { since_s, total, .. } = symmetry;
    let per_second = total.link_bytes / (*since_s).max(1);
    format!(
        "in {since_s} s: {} packets, {} on the cluster link ({} a second), which symmetric routing would save",
        total.packets,
        bytes(total.link_bytes),
        bytes(per_second)
    )
}

/// What is shown of a ribbon on which a pointer rests.
fn told(way: &WaySum, symmetry: &Symmetry) -> String {
    let share = way.load.link_bytes as f64 * 100.0 / symmetry.total.link_bytes.max(1) as f64;
    format!(
        "{} to {}: arrives at node {}, Owner is node {}; {} packets, {} on the cluster link, {share:.1}% of all detours",
        way.source,
        way.destination,
        way.ingress,
        way.owner,
        way.load.packets,
        bytes(way.load.link_bytes)
    )
}

/// Each pair with its share, and what is not in the picture.
fn notes(symmetry: &Symmetry) -> Vec<String> {
    let pair = |pair: &super::Pair| {
        let [a, b] = pair.prefixes;
        format!("{}%  {a} and {b}: {}", pair.share_percent, bytes(pair.load.link_bytes))
    };
    let mut notes: Vec<String> = symmetry.pairs.iter().map(pair).collect();
    if notes.is_empty() {
        notes.push("No packet made a detour.".into());
    }
    if symmetry.unlisted.packets > 0 {
        notes.push(format!("pairs not shown: {} on the cluster link", bytes(symmetry.unlisted.link_bytes)));
    }
    for silent in &symmetry.silent {
        notes.push(format!("node {} did not answer: {}", silent.node, silent.reason));
    }
    notes
}

/// With three digits, in powers of ten.
fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "B");
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    match unit {
        "B" => format!("{count} B"),
        _ if value < 10.0 => format!("{value:.2} {unit}"),
        _ if value < 100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::{merge, tests::nodes};
    use super::*;
    use crate::operator::why::Silent;

    #[test]
    fn ribbons_are_as_broad_as_their_share_and_meet_in_their_bars() {
        let breadth = |name: &str, breadth| (name.to_owned(), breadth);
        let column = Column::of(&[breadth("a", 10.0), breadth("b", 30.0), breadth("a", 5.0)]);
        let bars: Vec<_> = column.bars.iter().map(|(top, height, name)| (*top, *height, &**name)).collect();
        assert_eq!(bars, [(TOP, 30.0, "b"), (TOP + 30.0 + GAP, 15.0, "a")]);
        assert_eq!(column.tops, [TOP + 46.0, TOP, TOP + 56.0]);
        assert_eq!(column.bottom, TOP + 45.0 + 2.0 * GAP);
    }

    #[test]
    fn the_picture_names_prefixes_nodes_and_shares_and_is_well_formed() {
        let silent = Silent { node: 3, reason: "no answer <yet> & so on".into() };
        let drawn = svg(&merge(nodes(), vec![silent], 10));
        for part in [
            "70%  10.1.5.0/24 and 10.2.0.0/24: 7.00 kB",
            ">node 3</text>",
            "10.2.0.0/24 to 10.1.5.0/24: arrives at node 3, Owner is node 1; 70 packets, 7.00 kB on the cluster link, 70.0% of all detours",
            "in 60 s: 100 packets, 10.0 kB on the cluster link (166 B a second)",
            "pairs not shown: 100 B",
            "no answer &lt;yet&gt; &amp; so on",
        ] {
            assert!(drawn.contains(part), "{part} is missing in {drawn}");
        }
        // Three ways, each from column to column.
        assert_eq!((drawn.matches("<path").count(), drawn.matches("<title>").count()), (9, 3));
        let opened = drawn.matches('<').count() - drawn.matches("</").count() - drawn.matches("/>").count();
        assert_eq!(opened, drawn.matches("</").count(), "{drawn}");
    }

    #[test]
    fn without_detours_it_says_so() {
        let drawn = svg(&merge(Vec::new(), Vec::new(), 10));
        assert!(drawn.contains("No packet made a detour.") && !drawn.contains("<path"), "{drawn}");
    }
}
