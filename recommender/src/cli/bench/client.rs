//! A client that costs little: it writes prepared requests and reads no more of an answer than its length.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// How much to ask.
pub(super) struct Load {
    pub connections: u16,
    pub duration: Duration,
}

/// How fast to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// Each connection asks again when it has its answer.
    Full,
    /// So many a second over all connections, by the clock: an answer that is late makes the next one late too, and
    /// both are counted from when they were due.
    Rate(f64),
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    /// Bytes of an answer with its head, on average.
    pub bytes: f64,
    /// Answers that were not 200.
    pub failed: usize,
}

/// A request's bytes.
pub(super) fn request(address: SocketAddr, path: &str, token: Option<&str>) -> Vec<u8> {
    let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{token}\r\n").into_bytes()
}

#[derive(Default)]
struct Tally {
    micros: Vec<u32>,
    bytes: u64,
    failed: usize,
}

impl Load {
    /// Asks for as long as it is told, from a thread of its own.
    pub async fn run(
        &self,
        address: SocketAddr,
        requests: Arc<Vec<Vec<u8>>>,
        pace: Pace,
    ) -> anyhow::Result<Figures> {
        let (connections, duration) = (usize::from(self.connections), self.duration);
        let asking = move || -> anyhow::Result<(Tally, f64)> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async move {
                let begun = Instant::now();
                let until = begun + duration;
                let mut tasks = tokio::task::JoinSet::new();
                let mut clocks = Vec::new();
                for n in 0..connections {
                    let requests = Arc::clone(&requests);
                    let first = n * requests.len() / connections;
                    let due = matches!(pace, Pace::Rate(_)).then(|| {
                        let (clock, due) = mpsc::unbounded_channel();
                        clocks.push(clock);
                        due
                    });
                    tasks.spawn(connection(address, requests, first, until, due));
                }
                if let Pace::Rate(rate) = pace {
                    let clock = move || tick(&clocks, begun, until, rate);
                    std::thread::Builder::new()
                        .name("bench-clock".into())
                        .spawn(clock)?;
                }
                let mut total = Tally::default();
                while let Some(done) = tasks.join_next().await {
                    let one = done??;
                    total.micros.extend(one.micros);
                    total.bytes += one.bytes;
                    total.failed += one.failed;
                }
                Ok((total, begun.elapsed().as_secs_f64()))
            })
        };
        let (done, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("bench-load".into())
            .spawn(move || {
                // Nobody else waits for it.
                let _ = done.send(asking());
            })?;
        let (mut tally, seconds) = ended.await??;
        anyhow::ensure!(!tally.micros.is_empty(), "no request was answered");
        tally.micros.sort_unstable();
        let at =
            |share: f64| f64::from(tally.micros[((tally.micros.len() - 1) as f64 * share) as usize]) / 1000.0;
        Ok(Figures {
            per_second: tally.micros.len() as f64 / seconds,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            bytes: tally.bytes as f64 / tally.micros.len() as f64,
            failed: tally.failed,
        })
    }
}

/// Least rest of the clock: who rests for less is mostly busy with falling asleep, on a processor that the server could
/// use. What falls due meanwhile is late by as much, and counted so.
const REST: Duration = Duration::from_micros(400);

/// Tells the connections in turn when a request is due. The runtime's own clock goes by milliseconds, in which several
/// times as many would begin at once.
fn tick(connections: &[mpsc::UnboundedSender<Instant>], begun: Instant, until: Instant, rate: f64) {
    for (n, connection) in connections.iter().cycle().enumerate() {
        let due = begun + Duration::from_secs_f64(n as f64 / rate.max(1.0));
        if due >= until {
            break;
        }
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early.max(REST));
        }
        // One that failed says so itself.
        let _ = connection.send(due);
    }
}

/// Asks until the time is over; each time when it is due, or as soon as there is an answer.
async fn connection(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    first: usize,
    until: Instant,
    mut clock: Option<mpsc::UnboundedReceiver<Instant>>,
) -> anyhow::Result<Tally> {
    let connect = async || -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut stream = connect().await?;
    let mut tally = Tally::default();
    let mut buffer = vec![0; 256 * 1024];
    for at in first.. {
        if Instant::now() >= until {
            break;
        }
        let asked = match &mut clock {
            None => Instant::now(),
            Some(clock) => match clock.recv().await {
                Some(due) => due,
                None => break,
            },
        };
        stream.write_all(&requests[at % requests.len()]).await?;
        let answer = read(&mut stream, &mut buffer).await?;
        tally
            .micros
            .push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
        tally.bytes += answer.bytes as u64;
        tally.failed += usize::from(!answer.ok);
        if answer.closes {
            stream = connect().await?;
        }
    }
    Ok(tally)
}

struct Answer {
    bytes: usize,
    ok: bool,
    closes: bool,
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<Answer> {
    let mut have = 0;
    loop {
        let more = stream.read(&mut buffer[have..]).await?;
        anyhow::ensure!(
            more > 0,
            "the server closed a connection in the middle of an answer"
        );
        have += more;
        if let Some(head) = buffer[..have].windows(4).position(|end| end == b"\r\n\r\n") {
            let (length, closes) = parse(&buffer[..head]).context("an answer without content-length")?;
            let bytes = head + 4 + length;
            anyhow::ensure!(bytes <= buffer.len(), "an answer of {bytes} bytes");
            if have < bytes {
                stream.read_exact(&mut buffer[have..bytes]).await?;
            }
            return Ok(Answer {
                bytes,
                ok: buffer.starts_with(b"HTTP/1.1 200"),
                closes,
            });
        }
    }
}

/// Length of the body, and whether the connection ends with it.
pub(super) fn parse(head: &[u8]) -> Option<(usize, bool)> {
    let head = std::str::from_utf8(head).ok()?;
    let (mut length, mut closes) = (None, false);
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Some((length?, closes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nconnection: close";
        assert_eq!(parse(head), Some((12, true)));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nx: y"), None);
    }
}
