//! The situations as lines: read from text, written by hand.

use anyhow::{Context, Result, bail, ensure};
use samepath_tests::bed::plan::Family;

/// One situation, on a flow of its own.
#[derive(Debug)]
pub struct Situation {
    pub name: String,
    pub family: Family,
    pub lines: Vec<Line>,
}

/// A packet and what becomes of it, or the state of the flow.
#[derive(Debug)]
pub enum Line {
    Packet { packet: Packet, text: String, samepath: bool, kernel: bool },
    State { samepath: String, kernel: String },
}

/// Who sends what.
#[derive(Debug)]
pub struct Packet {
    pub from_client: bool,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Segment(Segment),
    Datagram,
    Error { kind: (u8, u8), word: u32, about: About },
}

#[derive(Clone, Debug)]
pub enum About {
    /// The last packet that the other end sent.
    Last,
    /// A segment of the other end that was not sent.
    Segment(Segment),
    /// A datagram of the other end that was not sent.
    Datagram,
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub flags: Vec<String>,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub length: usize,
}

impl Situation {
    /// Whether a line says that the kernel does otherwise.
    pub fn differs(&self) -> bool {
        self.lines.iter().any(|line| match line {
            Line::Packet { samepath, kernel, .. } => samepath != kernel,
            Line::State { samepath, kernel } => samepath != kernel,
        })
    }
}

/// Reads all situations.
pub fn read(text: &str) -> Result<Vec<Situation>> {
    let mut situations: Vec<Situation> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("= ") {
            situations.push(Situation { name: name.into(), family: Family::V4, lines: Vec::new() });
            continue;
        }
        let situation = situations.last_mut().context("a line before the first situation")?;
        if line == "family 6" {
            situation.family = Family::V6;
            continue;
        }
        situation.lines.push(read_line(line).with_context(|| format!("in {line:?}"))?);
    }
    Ok(situations)
}

fn read_line(line: &str) -> Result<Line> {
    if let Some(states) = line.strip_prefix("state ") {
        let (samepath, kernel) = states.split_once(", kernel ").unwrap_or((states, states));
        return Ok(Line::State { samepath: samepath.into(), kernel: kernel.into() });
    }
    let (text, outcome) = line.split_once(" -> ").context("no outcome")?;
    let (samepath, kernel) = outcome.split_once(", kernel ").unwrap_or((outcome, outcome));
    let packet = read_packet(text)?;
    Ok(Line::Packet { packet, text: text.into(), samepath: passes(samepath)?, kernel: passes(kernel)? })
}

fn passes(word: &str) -> Result<bool> {
    match word {
        "passes" => Ok(true),
        "drops" => Ok(false),
        _ => bail!("{word:?} is neither passes nor drops"),
    }
}

fn read_packet(text: &str) -> Result<Packet> {
    let (end, what) = text.split_once(' ').context("who sends what?")?;
    ensure!(end == "client" || end == "server", "{end:?} is neither client nor server");
    Ok(Packet { from_client: end == "client", what: read_what(what)? })
}

fn read_what(text: &str) -> Result<What> {
    if text == "datagram" {
        return Ok(What::Datagram);
    }
    let Some(error) = text.strip_prefix("error ") else { return Ok(What::Segment(read_segment(text)?)) };
    let (error, about) = error.split_once(" about ").context("about what?")?;
    let (kind, word) = error.split_once(' ').context("TYPE/CODE WORD")?;
    let (kind, code) = kind.split_once('/').context("TYPE/CODE")?;
    let about = match about {
        "last" => About::Last,
        "datagram" => About::Datagram,
        segment => About::Segment(read_segment(segment)?),
    };
    Ok(What::Error { kind: (kind.parse()?, code.parse()?), word: word.parse()?, about })
}

fn read_segment(text: &str) -> Result<Segment> {
    let mut words = text.split(' ');
    let flags = words.next().context("no flags")?.split('-').map(String::from).collect();
    let mut segment = Segment { flags, seq: 0, ack: 0, window: 64_240, length: 0 };
    while let Some(name) = words.next() {
        let value = words.next().with_context(|| format!("{name} without a number"))?;
        match name {
            "seq" => segment.seq = value.parse()?,
            "ack" => segment.ack = value.parse()?,
            "win" => segment.window = value.parse()?,
            "len" => segment.length = value.parse()?,
            _ => bail!("{name:?} is unknown"),
        }
    }
    Ok(segment)
}
