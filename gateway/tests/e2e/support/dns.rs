//! A name server on the loopback whose records a test changes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The header of a DNS message (RFC 1035 §4.1.1).
const HEADER: usize = 12;

const A: u16 = 1;
const AAAA: u16 = 28;

/// What a response code says (RFC 1035 §4.1.1).
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

type Records = Arc<Mutex<HashMap<String, Vec<IpAddr>>>>;

/// Answers questions for A and AAAA with records that live for a second; ends with its value.
pub(crate) struct NameServer {
    address: String,
    records: Records,
    server: JoinHandle<()>,
}

impl NameServer {
    /// One that knows no name yet.
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let records = Records::default();
        let server = tokio::spawn(serve(socket, records.clone()));
        Self { address, records, server }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on the name has these addresses.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.records.lock().unwrap().insert(name.to_owned(), addresses);
    }

    /// From now on there is no such name.
    pub(crate) fn remove(&self, name: &str) {
        self.records.lock().unwrap().remove(name);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(socket: UdpSocket, records: Records) {
    let mut message = [0; 512];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut message).await else { continue };
        if let Some(answer) = answer(&message[..length], &records.lock().unwrap()) {
            // A client that has gone asks no more.
            let _ = socket.try_send_to(&answer, client);
        }
    }
}

/// The answer to a message with one question; what else it holds is left out.
fn answer(message: &[u8], records: &HashMap<String, Vec<IpAddr>>) -> Option<Vec<u8>> {
    let (name, length) = name(message.get(HEADER..)?)?;
    let question = message.get(HEADER..HEADER + length + 4)?;
    let kind = u16::from_be_bytes([question[length], question[length + 1]]);
    let known = records.get(&name);
    let found: Vec<Vec<u8>> =
        known.into_iter().flatten().filter_map(|address| data(kind, *address)).collect();
    let code = if known.is_some() { NO_ERROR } else { NO_SUCH_NAME };
    let mut answer = message[..2].to_vec();
    // A response, recursion desired and available; one question, the answers, and nothing more.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0]);
    answer.extend(question);
    for data in found {
        answer.extend([0xc0, HEADER as u8]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1, 0, data.len() as u8]);
        answer.extend(data);
    }
    Some(answer)
}

/// The name a question begins with, in lower case, and its length on the wire.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 0);
    loop {
        let length = usize::from(*question.get(at)?);
        let label = question.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
}

/// The data of a record of this type, when the address fits it.
fn data(kind: u16, address: IpAddr) -> Option<Vec<u8>> {
    match (kind, address) {
        (A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
        (AAAA, IpAddr::V6(address)) => Some(address.octets().to_vec()),
        _ => None,
    }
}
