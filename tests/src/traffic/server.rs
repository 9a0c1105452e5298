//! Answers on TCP and UDP.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result};

use super::{REQUEST, answer_byte};

/// Serves TCP and UDP on `port` of every address until the process ends; prints `ready` when all are open.
/// Each address has sockets of its own, so that a UDP answer leaves from the address that was asked.
pub fn serve(addresses: &[IpAddr], port: u16) -> Result<()> {
    let mut threads = Vec::new();
    for &address in addresses {
        let listener = TcpListener::bind((address, port))
            .with_context(|| format!("cannot listen on {address} port {port}"))?;
        let datagrams = UdpSocket::bind((address, port))
            .with_context(|| format!("cannot receive on {address} port {port}"))?;
        threads.push(thread::spawn(move || accept(&listener)));
        threads.push(thread::spawn(move || echo(&datagrams)));
    }
    println!("ready");
    for thread in threads {
        thread.join().ok();
    }
    Ok(())
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("{error}");
            }
        });
    }
}

/// Reads a request, sends as many bytes as it asks for, closes its side, waits for the other's.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; REQUEST];
    stream.read_exact(&mut request)?;
    let length = u32::from_be_bytes([request[0], request[1], request[2], request[3]]) as usize;
    let body: Vec<u8> = (0..length).map(answer_byte).collect();
    stream.write_all(&body)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn echo(socket: &UdpSocket) {
    let mut datagram = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        if let Err(error) = socket.send_to(&datagram[..length], from) {
            eprintln!("{from}: {error}");
        }
    }
}
