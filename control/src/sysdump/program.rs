//! Output of programs, within bounds of time and memory.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Both outputs of a program, the first `most` bytes of each; a program that ends badly or not at all has what it said with
/// a line about that.
///
/// Errors: it cannot be started, or said nothing before it ended badly or had to be ended.
pub fn output(command: &mut Command, most: usize) -> io::Result<Vec<u8>> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (ended, mut said, complaint) = thread::scope(|scope| {
        let [out, err] = [scope.spawn(move || all(out, most)), scope.spawn(move || all(err, most))];
        let ended = wait(&mut child);
        (ended, out.join().unwrap_or_default(), err.join().unwrap_or_default())
    });
    let trouble = ended?;
    match trouble {
        Some(trouble) if said.is_empty() => {
            let complaint = String::from_utf8_lossy(&complaint);
            let first = complaint.lines().next().unwrap_or_default();
            Err(io::Error::other(format!("{trouble}: {first}")))
        }
        trouble => {
            said.extend_from_slice(&complaint);
            said.extend(trouble.into_iter().flat_map(|trouble| format!("\n[{trouble}]\n").into_bytes()));
            Ok(said)
        }
    }
}

/// Reads to the end, so that the program can end, and keeps `most` bytes and one.
fn all(stream: Option<impl Read>, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return bytes };
    // What came before an error is worth having.
    let _ = stream.by_ref().take(most as u64 + 1).read_to_end(&mut bytes);
    let _ = io::copy(&mut stream, &mut io::sink());
    bytes
}

/// Waits for its end; what is wrong with it, if anything.
fn wait(child: &mut Child) -> io::Result<Option<String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(None),
            Some(status) => return Ok(Some(status.to_string())),
            None if Instant::now() > deadline => {
                child.kill()?;
                child.wait()?;
                return Ok(Some(format!("ended after {} s", PATIENCE.as_secs())));
            }
            None => thread::sleep(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> io::Result<String> {
        let bytes = output(Command::new("/bin/sh").args(["-c", script]), 10)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_a_program_says_is_kept_within_bounds_whatever_its_end() {
        assert_eq!(shell("echo yes").unwrap(), "yes\n");
        assert_eq!(shell("head -c 100000 /dev/zero | tr '\\0' x").unwrap(), "x".repeat(11));
        assert_eq!(shell("echo yes; echo why >&2; exit 3").unwrap(), "yes\nwhy\n\n[exit status: 3]\n");
        let refused = shell("echo why >&2; exit 3").unwrap_err();
        assert_eq!(refused.to_string(), "exit status: 3: why");
        assert!(output(&mut Command::new("/nowhere/program"), 10).is_err());
    }
}
