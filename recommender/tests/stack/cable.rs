//! A cable between the service and a server of its own, which can be cut or go dead: what a network does, without one.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It arrives.
    Whole,
    /// Connections are closed, new ones at once.
    Cut,
    /// Connections stay, nothing arrives: only a time limit tells.
    Dead,
}

/// Stands before a server.
pub struct Cable {
    pub address: SocketAddr,
    line: watch::Sender<Line>,
    task: JoinHandle<()>,
}

impl Cable {
    /// From a free port to `server` (`host:port`).
    pub async fn to(server: &str) -> Self {
        Self::between("127.0.0.1:0", server).await
    }

    /// From a port that clients are told to `server`.
    pub async fn between(address: &str, server: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, state) = watch::channel(Line::Whole);
        let task = tokio::spawn(listen(listener, server.to_owned(), state));
        Self { address, line, task }
    }

    /// From now on.
    pub fn is(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, server: String, line: watch::Receiver<Line>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        // While it is cut, what was accepted is closed here.
        if *line.borrow() != Line::Cut {
            connections.spawn(carry(client, server.clone(), line.clone()));
        }
    }
}

async fn carry(client: TcpStream, server: String, mut line: watch::Receiver<Line>) {
    let mut cut = line.clone();
    if line.wait_for(|line| *line != Line::Dead).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = async { let _ = cut.wait_for(|line| *line == Line::Cut).await; } => {}
        _ = async { tokio::join!(copy(from_client, to_server, line.clone()), copy(from_server, to_client, line)) } => {}
    }
}

/// One direction, until its end.
async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut line: watch::Receiver<Line>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if line.wait_for(|line| *line != Line::Dead).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
    let _ = to.shutdown().await;
}
