//! A mail proxy: nginx before Postfix and Dovecot; messages are sent by swaks (SMTP, STARTTLS) and fetched over IMAP
//! (STARTTLS).

mod server;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::files::{self, Folder};
use super::held::Held;
use super::site::{Ends, Site};
use super::{Served, listens, origin};
use crate::bed::plan::Family;
use crate::bed::{Bed, Kind, Service};
use crate::netns::Namespace;
use crate::{program, wait};

const PROXY: &str = include_str!("../../../../docs/services/nginx-mail.conf");
const PACKETS: &str = include_str!("../../../../docs/services/mail.nft");

/// Every mailbox's.
const PASSWORD: &str = "secret";

/// See the module.
#[derive(Debug)]
pub struct Mail;

impl Served for Mail {
    fn name(&self) -> &'static str {
        "mail"
    }

    fn title(&self) -> &'static str {
        "mail proxy: nginx before Postfix and Dovecot; sent by SMTP and fetched by IMAP, both with STARTTLS"
    }

    fn kind(&self) -> Option<Kind> {
        Some(Kind::Proxy)
    }

    fn ports(&self) -> &'static [u16] {
        &[25, 143]
    }

    fn start_servers(&self, bed: &Bed) -> Result<Vec<Service>> {
        server::start(bed)
    }

    fn start(&self, bed: &Bed, number: u8, space: &Namespace) -> Result<Vec<Service>> {
        space.nft(PACKETS)?;
        let folder = Folder::make(bed, number)?;
        let pair = files::of_server(bed)?;
        fs::copy(&pair.certificate, folder.path("mail.crt"))?;
        fs::copy(&pair.key, folder.path("mail.key"))?;
        let mut nginx = space.command("nginx");
        nginx.args(["-g", "daemon off;", "-p"]).arg(folder.path(""));
        nginx.arg("-c").arg(folder.configure("nginx-mail.conf", PROXY)?);
        nginx.arg("-e").arg(folder.path("nginx-mail.log"));
        let mut service = bed.start_service(&format!("nginx-mail{number}"), &mut nginx)?;
        listens::wait_for(space, &mut service, 143, 2)?;
        Ok(vec![service])
    }

    /// The mailbox of this turn must have the message of this turn, which tells the client's address.
    fn transact(&self, site: &Site, ends: Ends, turn: usize) -> Result<(), String> {
        let began = Instant::now();
        let word = format!("word-{turn}-{}", std::process::id());
        send(site, ends, turn, &word)?;
        let rest = site.patience.saturating_sub(began.elapsed());
        wait::until_true("Postfix delivers", rest, || Ok(server::has_message(&site.bed, turn)))
            .map_err(|_| String::from("the message is not delivered"))?;
        let message = fetch(site, ends, turn)?;
        if !message.contains(&word) {
            return Err(String::from("another message"));
        }
        let client = ends.from.to_string();
        let told = message.to_lowercase().contains(&client);
        if told { Ok(()) } else { Err(String::from("the server was not told the client's address")) }
    }

    fn hold(&self, site: &Site, ends: Ends, _turn: usize) -> Result<Held> {
        Held::silent(Held::connect(site, ends, 25)?, "EHLO client.example\r\n", "STARTTLS")
    }
}

/// Sends a message to the mailbox of a turn.
fn send(site: &Site, ends: Ends, turn: usize, word: &str) -> Result<(), String> {
    let mut swaks = site.bed.client().command("swaks");
    swaks.args(["--server", &ends.to.to_string(), "--local-interface", &ends.from.to_string()]);
    if ends.family == Family::V6 {
        swaks.arg("-6");
    }
    swaks.args([
        "--helo",
        "client.example",
        "--tls",
        "--from",
        "tester@client.example",
        "--to",
        &format!("t{turn}@example"),
    ]);
    swaks.args(["--body", word, "--silent", "2", "--timeout", &site.patience.as_secs().to_string()]);
    let output = program::output(&mut swaks).map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(()),
        // swaks(1), EXIT CODES.
        Some(2) => Err(String::from("SMTP: no connection")),
        Some(6) => Err(String::from("SMTP: the connection is lost")),
        Some(21) => Err(String::from("SMTP: no banner")),
        Some(23) => Err(String::from("SMTP: no answer to MAIL")),
        Some(24) => Err(String::from("SMTP: no answer to RCPT")),
        Some(25 | 26) => Err(String::from("SMTP: no answer to the message")),
        Some(29) => Err(String::from("SMTP: no STARTTLS")),
        code => {
            let said = String::from_utf8_lossy(&output.stdout);
            Err(format!("swaks ended with {code:?}: {}", said.lines().last().unwrap_or_default()))
        }
    }
}

/// The first message of a turn's mailbox.
fn fetch(site: &Site, ends: Ends, turn: usize) -> Result<String, String> {
    let host = match ends.family {
        Family::V4 => ends.to.to_string(),
        Family::V6 => format!("[{}]", ends.to),
    };
    let mut curl = site.bed.client().command("curl");
    // The certificate is the proxy's for the server's names; whether clients trust it is not the question.
    curl.args(["-sS", "-g", "-k", "--ssl-reqd", "--interface", &ends.from.to_string()]);
    curl.args(["--max-time", &site.patience.as_secs().to_string(), "-u", &format!("t{turn}:{PASSWORD}")]);
    curl.arg(format!("imap://{host}/INBOX;MAILINDEX=1"));
    let output = program::output(&mut curl).map_err(|error| error.to_string())?;
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => Err(format!("IMAP: {}", origin::words(code, &String::from_utf8_lossy(&output.stderr)))),
    }
}

/// How long the servers may take to start.
const STARTED: Duration = Duration::from_secs(60);
