//! A UDP relay between two nodes that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Carries packets from whoever sends to it to one node, and the answers back.
pub struct Relay {
    cut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on `listen`, sends on to `to` with the source address of `from`.
    pub async fn start(listen: SocketAddr, from: SocketAddr, to: SocketAddr) -> Self {
        let near = UdpSocket::bind(listen).await.unwrap();
        let far = UdpSocket::bind(from).await.unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        let task = tokio::spawn(async move {
            let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
            let mut dialler = None;
            loop {
                // A closed port on the far side shows as an error of the next call: a lost packet.
                tokio::select! {
                    Ok((length, source)) = near.recv_from(&mut there) => {
                        dialler = Some(source);
                        if !is_cut.load(Ordering::Relaxed) {
                            let _ = far.send_to(&there[..length], to).await;
                        }
                    }
                    Ok((length, _)) = far.recv_from(&mut back) => {
                        if let Some(dialler) = dialler.filter(|_| !is_cut.load(Ordering::Relaxed)) {
                            let _ = near.send_to(&back[..length], dialler).await;
                        }
                    }
                    else => {}
                }
            }
        });
        Self { cut, task }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
