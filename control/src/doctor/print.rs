//! Findings as a person or a program reads them.

use std::io::{self, Write};

use serde_json::json;

use super::{Finding, Severity};
use crate::host::Case;
use crate::operator::api::SCHEMA;
use crate::operator::client::{DEGRADED, FAILED, FINE};

/// Fine if there are hints at most, degraded with warnings, failed with errors.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.severity).min() {
        Some(Severity::Error) => FAILED,
        Some(Severity::Warning) => DEGRADED,
        Some(Severity::Hint) | None => FINE,
    }
}

/// Prints findings to `out`.
pub fn print(case: &Case, findings: &[Finding], as_json: bool, out: &mut impl Write) -> io::Result<()> {
    if as_json {
        let document = json!({
            "schema": SCHEMA,
            "kind": "doctor",
            "configuration": case.source,
            "node": case.node.as_ref().map(|node| node.status.node),
            "findings": findings,
        });
        return writeln!(out, "{document}");
    }
    writeln!(out, "configuration: {}", case.source)?;
    if case.config.is_none() && case.refused.is_none() {
        writeln!(
            out,
            "               so keys, interfaces and peers were not looked at: give it the flags of `samepath run`, or --config FILE"
        )?;
    }
    match &case.node {
        Some(node) => writeln!(out, "node:          {} runs (process {})", node.status.node, node.pid)?,
        None => writeln!(out, "node:          none runs here")?,
    }
    for finding in findings {
        writeln!(out, "\n{} {}: {}", finding.severity.name(), finding.id, finding.cause)?;
        writeln!(out, "    {}", finding.remedy)?;
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    writeln!(
        out,
        "\n{} errors, {} warnings, {} hints",
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Hint)
    )?;
    out.flush()
}
