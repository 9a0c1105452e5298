//! `samepath-traffic`: the client/server pair of the end-to-end tests, as a program that can be started
//! inside a namespace.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use samepath_tests::traffic::client::{self, Demand};
use samepath_tests::traffic::server;

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
        }
    }
}

fn main() -> Result<()> {
    let tally = match Arguments::parse().what {
        What::Serve { addresses, port } => return server::serve(&addresses, port),
        What::Tcp(ask) => client::tcp(&ask.demand()),
        What::Udp(ask) => client::udp(&ask.demand()),
    };
    println!("{}", serde_json::to_string(&tally)?);
    Ok(())
}
