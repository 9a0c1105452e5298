//! `samepath-traffic`: the client/server pair of the end-to-end tests, as a program that can be started
//! inside a namespace.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use samepath_tests::traffic::client::{self, Demand};
use samepath_tests::traffic::lasting::{self, Conversations, Lasting};
use samepath_tests::traffic::server;
use tokio::signal::unix::{SignalKind, signal};

/// Asks and answers over TCP and UDP, and counts exactly what failed.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Answer on TCP and UDP until stopped; prints `ready`.
    Serve {
        /// Addresses to serve, each with sockets of its own.
        #[arg(long = "address", required = true)]
        addresses: Vec<IpAddr>,
        /// Port of both protocols.
        #[arg(long)]
        port: u16,
    },
    /// Send back what comes over TCP and UDP until stopped; prints `ready`.
    Echo {
        /// Addresses to listen on.
        #[arg(long = "address", required = true)]
        addresses: Vec<IpAddr>,
        /// Port of both protocols.
        #[arg(long)]
        port: u16,
    },
    /// Keep conversations with `echo` until stopped; prints `ready` when all are open. SIGUSR1 begins the account
    /// anew and prints `marked`, SIGUSR2 prints it as JSON.
    Keep(Keep),
    /// Open one TCP connection per exchange; prints the tally as JSON.
    Tcp(Ask),
    /// Send one UDP datagram per exchange; prints the tally as JSON.
    Udp(Ask),
}

#[derive(Args)]
struct Ask {
    /// Server address and port; several are asked in turn.
    #[arg(long, required = true)]
    to: Vec<SocketAddr>,
    /// Own address; several are used in turn.
    #[arg(long, required = true)]
    from: Vec<IpAddr>,
    /// Exchanges in all.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Exchanges at a time.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
    /// Bytes of every answer.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
    /// Seconds without progress after which an exchange has failed.
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Exchanges begun per second, at most.
    #[arg(long)]
    per_second: Option<f64>,
}

#[derive(Args)]
struct Keep {
    /// Server address and port; several are talked to in turn.
    #[arg(long, required = true)]
    to: Vec<SocketAddr>,
    /// Own address; several are used in turn.
    #[arg(long, required = true)]
    from: Vec<IpAddr>,
    /// TCP connections.
    #[arg(long, default_value_t = 0)]
    tcp: usize,
    /// Milliseconds between an answer and the next message of a TCP connection.
    #[arg(long, default_value_t = 200)]
    tcp_pause_ms: u64,
    /// More TCP connections, which say something seldom.
    #[arg(long, default_value_t = 0)]
    quiet: usize,
    /// Milliseconds between an answer and the next message of one of those.
    #[arg(long, default_value_t = 3000)]
    quiet_pause_ms: u64,
    /// Count connections that cannot be opened instead of ending.
    #[arg(long)]
    lenient: bool,
    /// UDP flows.
    #[arg(long, default_value_t = 0)]
    udp: usize,
    /// Milliseconds between two datagrams of a UDP flow.
    #[arg(long, default_value_t = 10)]
    udp_interval_ms: u64,
}

impl Keep {
    fn conversations(self) -> Conversations {
        Conversations {
            to: self.to,
            from: self.from,
            tcp: self.tcp,
            tcp_pause: Duration::from_millis(self.tcp_pause_ms),
            quiet: self.quiet,
            quiet_pause: Duration::from_millis(self.quiet_pause_ms),
            lenient: self.lenient,
            udp: self.udp,
            udp_interval: Duration::from_millis(self.udp_interval_ms),
        }
    }

    async fn run(self) -> Result<()> {
        let mut mark = signal(SignalKind::user_defined1())?;
        let mut tell = signal(SignalKind::user_defined2())?;
        let lasting = Lasting::begin(self.conversations()).await?;
        println!("ready");
        loop {
            tokio::select! {
                _ = mark.recv() => {
                    lasting.mark();
                    println!("marked");
                }
                _ = tell.recv() => println!("{}", serde_json::to_string(&lasting.tell())?),
            }
        }
    }
}

impl Ask {
    fn demand(self) -> Demand {
        Demand {
            to: self.to,
            from: self.from,
            count: self.count,
            at_once: self.at_once,
            bytes: self.bytes,
            patience: Duration::from_secs_f64(self.patience),
            per_second: self.per_second,
        }
    }
}

/// More files than sockets: limits of a shell are for people.
fn allow_many_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

fn run<F: Future<Output = Result<()>>>(work: F) -> Result<()> {
    allow_many_files()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn main() -> Result<()> {
    let tally = match Arguments::parse().what {
        What::Echo { addresses, port } => {
            return run(async { Ok(lasting::echo(&addresses, port, || println!("ready")).await?) });
        }
        What::Keep(keep) => return run(keep.run()),
        What::Serve { addresses, port } => return server::serve(&addresses, port),
        What::Tcp(ask) => client::tcp(&ask.demand()),
        What::Udp(ask) => client::udp(&ask.demand()),
    };
    println!("{}", serde_json::to_string(&tally)?);
    Ok(())
}
