//! Bytes that no client means: whatever arrives, the process serves on and nothing in it panics.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::connection::{Duplex, tcp};
use crate::support::{Behaviour, Config, Gateway, ONE_ORIGIN, Origin};

/// Streams in each round; all rounds together take a few seconds.
const STREAMS: u64 = 150;

/// Enough for an answer; what waits for more bytes is left alone.
const LOOK: Duration = Duration::from_millis(20);

const LISTENERS: &str = r#"
client_ip: { trusted_proxies: [127.0.0.0/8] }
listeners:
  https:
    address: "{https}"
    tls: { certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ] }
  http: { address: "{http}", proxy_protocol: {proxied} }
"#;

const HTTP1: &[&str] = &[
    "GET /a/b?c=d HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhello",
    "POST /x HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n5;e=1\r\nhello\r\n0\r\na: b\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\u{1}\u{2}",
    "OPTIONS * HTTP/1.1\r\nHost: shop.example\r\nMax-Forwards: 0\r\nX-Forwarded-For: 1.2.3.4, ::1\r\nForwarded: for=\"[::1]:1\"\r\n\r\n",
    "HEAD http://shop.example/%41/../b HTTP/1.0\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nCookie: a=b\r\n\r\n",
];

/// The preface, SETTINGS, and HEADERS of a GET for `/`, in HPACK's static table with a literal authority.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x11\x01\x05\0\0\0\x01\x82\x84\x87\x41\x0cshop.example\
    \0\0\x04\x08\0\0\0\0\0\0\0\x10\0\0\0\x08\x06\0\0\0\0\0pingpong\0\0\x05\0\0\0\0\0\x01hello";

/// A source of choices that is the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }

    /// A good stream with a few things gone wrong.
    fn mutate(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        const PIECES: &[&[u8]] = &[
            b"\r\n",
            b"\n",
            b"\0",
            b"\xff\xff\xff\xff",
            b": ",
            b" ",
            b"%",
            b"..",
            b"\r\n\r\n",
            b"\x80",
            b",",
        ];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.below(256) as u8),
                2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                3 => drop(bytes.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied())),
                4 => bytes.extend_from_within(at..),
                _ => drop(bytes.drain(at..(at + self.below(16)).min(bytes.len()))),
            }
        }
        bytes
    }
}

/// Sends a stream in two pieces and looks what comes.
async fn throw(mut stream: impl Duplex, bytes: &[u8], cut: usize) {
    let (first, rest) = bytes.split_at(cut.min(bytes.len()));
    // The gateway may have turned away already, and it need not answer.
    let _ = stream.write_all(first).await;
    let _ = stream.flush().await;
    let _ = stream.write_all(rest).await;
    let _ = stream.flush().await;
    let _ = timeout(LOOK, stream.read(&mut [0; 4096])).await;
}

async fn gateway(proxied: bool) -> (Gateway, Origin) {
    let origin = Origin::script(Behaviour::echo()).named("api").start().await;
    let config = Config::new(format!("{LISTENERS}{ONE_ORIGIN}"))
        .value("proxied", if proxied { "true" } else { "false" })
        .value("origin", origin.address());
    (Gateway::run(config).await, origin)
}

/// That it serves as ever, and that nothing in it panicked.
async fn unharmed(gateway: &Gateway) {
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.get("/").http2().await.status, 200);
    assert!(!gateway.log().contains("panicked"), "a panic was provoked");
}

#[tokio::test]
async fn mutated_http1_disturbs_nobody() {
    let (gateway, _origin) = gateway(false).await;
    let mut dice = Dice(1);
    for number in 0..STREAMS {
        let good = HTTP1[dice.below(HTTP1.len())].as_bytes().to_vec();
        let bytes = dice.mutate(good);
        let cut = dice.below(bytes.len());
        if number % 2 == 0 {
            throw(tcp(&gateway.place().http(), None).await.unwrap(), &bytes, cut).await;
        } else {
            throw(gateway.tls().connect().await.unwrap(), &bytes, cut).await;
        }
    }
    unharmed(&gateway).await;
}

#[tokio::test]
async fn mutated_http2_disturbs_nobody() {
    let (gateway, _origin) = gateway(false).await;
    let mut dice = Dice(2);
    for _ in 0..STREAMS {
        let bytes = dice.mutate(HTTP2.to_vec());
        let cut = dice.below(bytes.len());
        throw(gateway.tls().alpn(&["h2"]).connect().await.unwrap(), &bytes, cut).await;
    }
    unharmed(&gateway).await;
}

#[tokio::test]
async fn mutated_tls_and_proxy_headers_disturb_nobody() {
    let (gateway, _origin) = gateway(true).await;
    let hello =
        b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x03abcdefghijklmnopqrstuvwxyz012345\0\0\x02\x13\x01\x01\0\0\0"
            .to_vec();
    let headers: [&[u8]; 2] = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    ];
    let mut dice = Dice(3);
    for number in 0..STREAMS as usize {
        let (good, to) = match number % 3 {
            2 => (hello.clone(), gateway.place().https()),
            form => (headers[form].to_vec(), gateway.place().http()),
        };
        let bytes = dice.mutate(good);
        let cut = dice.below(bytes.len());
        throw(tcp(&to, None).await.unwrap(), &bytes, cut).await;
    }
    unharmed(&gateway).await;
}
