//! Postfix and Dovecot in the server's namespace, with folders of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, bail};

use super::STARTED;
use crate::bed::{Bed, Service};
use crate::served::files::give;
use crate::{program, wait};

const FILES: [(&str, &str); 3] = [
    ("main.cf", include_str!("main.cf")),
    ("master.cf", include_str!("master.cf")),
    ("dovecot.conf", include_str!("dovecot.conf")),
];

/// Mailboxes, one for each transaction.
const MAILBOXES: usize = 2000;

/// Starts both and waits until they listen.
pub(super) fn start(bed: &Bed) -> Result<Vec<Service>> {
    let folder = bed.runtime().join("mail");
    lay_out(&folder)?;
    let mut check = bed.server().command("postfix");
    program::run(check.arg("-c").arg(&folder).arg("check"))?;
    let mut master = bed.server().command("/usr/lib/postfix/sbin/master");
    let postfix = bed.start_service("postfix", master.arg("-c").arg(&folder).arg("-d"))?;
    let mut dovecot = bed.server().command("dovecot");
    let dovecot =
        bed.start_service("dovecot", dovecot.args(["-F", "-c"]).arg(folder.join("dovecot.conf")))?;
    let mut programs = vec![postfix, dovecot];
    wait::until_true("Postfix and Dovecot listen", STARTED, || {
        for program in &mut programs {
            if program.ended()?.is_some() {
                bail!("a mail server ended: {}", program.log_tail());
            }
        }
        let mut ss = bed.server().command("ss");
        let listening = program::run(ss.args(["-Hltn", "sport = :25 or sport = :143"]))?;
        Ok(listening.lines().count() == 4)
    })?;
    Ok(programs)
}

fn lay_out(folder: &Path) -> Result<()> {
    for name in ["spool", "data", "mail"] {
        fs::create_dir_all(folder.join(name))?;
    }
    give(&folder.join("data"), "postfix")?;
    give(&folder.join("mail"), "mail")?;
    // Whose user id Postfix and Dovecot take for mailboxes: main.cf and dovecot.conf.
    fs::set_permissions(folder.join("mail"), fs::Permissions::from_mode(0o755))?;
    let here = folder.display().to_string();
    for (name, text) in FILES {
        fs::write(folder.join(name), text.replace("FOLDER", &here))?;
    }
    let mailboxes: String = (0..MAILBOXES).map(|turn| format!("t{turn}@example t{turn}/\n")).collect();
    Ok(fs::write(folder.join("mailboxes"), mailboxes)?)
}

/// A message has come to the mailbox of a turn.
pub(super) fn has_message(bed: &Bed, turn: usize) -> bool {
    let mailbox = bed.runtime().join(format!("mail/mail/t{turn}/new"));
    fs::read_dir(mailbox).is_ok_and(|mut messages| messages.next().is_some())
}
