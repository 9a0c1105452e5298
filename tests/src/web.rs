//! A real web server and a real client: nginx in the server's namespace, curl in the client's.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::{Bed, Service};
use crate::{program, wait};

/// Bytes of the large file.
pub const LARGE: usize = 100_000_000;

/// Bytes of the small file.
pub const SMALL: usize = 2_000;

/// nginx with a large and a small file. Ends when dropped.
#[derive(Debug)]
pub struct Web {
    _service: Service,
    root: PathBuf,
}

/// One request that was answered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fetched {
    /// Bytes of the body.
    pub bytes: usize,
    /// Seconds from start to end.
    pub seconds: f64,
}

impl Bed {
    /// Starts nginx on port 80 of all the server's addresses and waits until it answers there.
    pub fn start_web(&self) -> Result<Web> {
        let folder = self.runtime().join("nginx");
        let root = folder.join("www");
        fs::create_dir_all(&root)?;
        write_file(&root.join("large.bin"), LARGE)?;
        write_file(&root.join("small.bin"), SMALL)?;
        let service = self.start_nginx("nginx", &folder, "", "small.bin")?;
        Ok(Web { _service: service, root })
    }

    /// Starts nginx with what is in `folder`/www and waits until it answers with `file`. `more`: further lines of its
    /// server block.
    pub(crate) fn start_nginx(&self, name: &str, folder: &Path, more: &str, file: &str) -> Result<Service> {
        let config = folder.join("nginx.conf");
        fs::write(&config, configuration(folder, more))?;
        let mut command = self.server().command("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&config).arg("-e").arg(folder.join("error"));
        let mut service = self.start_service(name, &mut command)?;
        wait::until_true("nginx answers", Duration::from_secs(10), || {
            if service.ended()?.is_some() {
                bail!("nginx ended: {}", service.log_tail());
            }
            let mut curl = self.server().command("curl");
            let url = format!("http://127.0.0.1/{file}");
            program::run(curl.args(["-sS", "-f", &url, "-o", "/dev/null"]))?;
            Ok(true)
        })?;
        Ok(service)
    }

    /// A curl in the client's namespace that asks from `from`; `seconds` bounds it in all.
    fn curl(&self, from: IpAddr, seconds: u32) -> Command {
        let mut command = self.client().command("curl");
        command.args(["-sS", "-f", "--connect-timeout", "4", "--max-time", &seconds.to_string()]);
        command.args(["--interface", &from.to_string()]);
        command.args(["-w", "%{http_code} %{size_download} %{time_total}\n"]);
        command
    }

    /// Gets the small file `count` times, each on a connection of its own; an error if any request fails.
    pub fn fetch_small(&self, (from, to): (IpAddr, IpAddr), count: usize) -> Result<Vec<Fetched>> {
        let mut curl = self.curl(from, 60);
        curl.args(["-H", "Connection: close", "-K", "-"]);
        let requests: String = (0..count)
            .map(|number| format!("url = \"{}?{number}\"\noutput = /dev/null\n", url(to, "small.bin")))
            .collect();
        let fetched = read_lines(&program::feed(&mut curl, &requests)?)?;
        ensure!(fetched.len() == count, "{} answers for {count} requests", fetched.len());
        ensure!(fetched.iter().all(|one| one.bytes == SMALL), "an answer is cut short");
        Ok(fetched)
    }

    /// Gets the large file and compares it byte for byte with what the server has; `progress` is told
    /// the bytes so far.
    pub fn fetch_large(
        &self,
        web: &Web,
        (from, to): (IpAddr, IpAddr),
        mut progress: impl FnMut(usize),
    ) -> Result<Fetched> {
        self.begin_large((from, to))?.finish(web, |bytes| {
            progress(bytes);
            Ok(())
        })
    }

    /// Begins to get the large file.
    pub fn begin_large(&self, ends: (IpAddr, IpAddr)) -> Result<Download> {
        self.begin_large_at(ends, "1G")
    }

    /// Begins to get the large file, at most `rate` bytes per second (curl's `--limit-rate`).
    pub fn begin_large_at(&self, (from, to): (IpAddr, IpAddr), rate: &str) -> Result<Download> {
        let file = self.runtime().join("large.bin");
        fs::remove_file(&file).ok();
        let mut curl = self.curl(from, 60);
        curl.args(["--limit-rate", rate]).arg("-o").arg(&file).arg(url(to, "large.bin"));
        let service = self.start_service("curl-large", &mut curl)?;
        Ok(Download { service, file })
    }
}

/// A large file on its way.
#[derive(Debug)]
pub struct Download {
    service: Service,
    file: PathBuf,
}

impl Download {
    /// An error if it ended otherwise than with the whole file.
    pub fn check_unbroken(&mut self) -> Result<()> {
        match self.service.ended()? {
            Some(status) if !status.success() => {
                bail!("curl ended with {status}: {}", self.service.log_tail())
            }
            _ => Ok(()),
        }
    }

    /// Waits for its end and compares it byte for byte with what the server has; `progress` is told the bytes so
    /// far.
    pub fn finish(&mut self, web: &Web, mut progress: impl FnMut(usize) -> Result<()>) -> Result<Fetched> {
        let mut failed = None;
        let (file, service) = (&self.file, &mut self.service);
        let status = wait::until("the download ends", Duration::from_secs(65), || {
            let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len() as usize);
            match progress(bytes) {
                Ok(()) => service.ended(),
                Err(error) => {
                    failed = Some(error);
                    service.kill()?;
                    service.ended()
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        ensure!(status.success(), "curl ended with {status}: {}", service.log_tail());
        let fetched = read_lines(&service.output())?;
        ensure!(same_bytes(file, &web.root.join("large.bin"))?, "the file arrived with other bytes");
        fs::remove_file(file)?;
        fetched.first().copied().context("curl said nothing")
    }
}

fn url(to: IpAddr, file: &str) -> String {
    format!("http://{}/{file}", SocketAddr::new(to, 80))
}

fn configuration(folder: &Path, more: &str) -> String {
    let temp = folder.display();
    format!(
        "daemon off;
        worker_processes 1;
        user root;
        pid {temp}/pid;
        error_log {temp}/error;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            client_body_temp_path {temp}/body;
            proxy_temp_path {temp}/proxy;
            fastcgi_temp_path {temp}/fastcgi;
            uwsgi_temp_path {temp}/uwsgi;
            scgi_temp_path {temp}/scgi;
            server {{
                listen 80;
                listen [::]:80;
                root {temp}/www;
                {more}
            }}
        }}\n"
    )
}

fn write_file(path: &Path, length: usize) -> Result<()> {
    File::create(path)?.write_all(&patternless(length))?;
    Ok(())
}

/// Bytes without pattern (xorshift64), so that a packet in the wrong place is seen.
pub fn patternless(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let mut contents = [Vec::new(), Vec::new()];
    for (path, content) in [one, other].into_iter().zip(&mut contents) {
        File::open(path)?.read_to_end(content)?;
    }
    Ok(contents[0] == contents[1])
}

fn read_lines(text: &str) -> Result<Vec<Fetched>> {
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [code, bytes, seconds] = words[..] else { bail!("curl said: {line}") };
            ensure!(code == "200", "the server answered {code}");
            Ok(Fetched { bytes: bytes.parse()?, seconds: seconds.parse()? })
        })
        .collect()
}
