//! A port of this machine that leads somewhere, until it is cut.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A port where nothing listens.
pub async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Forwards connections.
pub struct Proxy(JoinHandle<()>);

impl Proxy {
    /// From a port of this machine to `to`, `host:port`.
    pub async fn start(port: u16, to: &str) -> Self {
        Self::slow(port, to, Duration::ZERO).await
    }

    /// The same, where each connection is forwarded only after a while.
    pub async fn slow(port: u16, to: &str, after: Duration) -> Self {
        let (listener, to) = (
            TcpListener::bind(("127.0.0.1", port)).await.unwrap(),
            to.to_owned(),
        );
        Self(tokio::spawn(async move {
            // They end with it.
            let mut connections = JoinSet::new();
            while let Ok((mut inbound, _)) = listener.accept().await {
                let to = to.clone();
                connections.spawn(async move {
                    tokio::time::sleep(after).await;
                    if let Ok(mut outbound) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
                    }
                });
            }
        }))
    }

    /// Ends every connection, and refuses new ones.
    pub async fn cut(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}
