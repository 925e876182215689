//! A TCP proxy before a server, which can make the server unreachable.
//!
//! Before a database it cuts a connection at its COMMIT, on demand: on the way there, or on the way
//! back, when the server has committed and the client cannot know. The proxy can also fall silent,
//! like a server whose machine has failed: no byte arrives any more, not even the connection's end.
//! Or it holds everything for a while, like a network that loses every packet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fakes::lock;

/// A COMMIT as a whole packet of the protocol: length, sequence number, `COM_QUERY`, text.
const COMMIT: &[u8] = b"\x07\0\0\0\x03COMMIT";

/// Bytes read at a time.
const BUFFER_BYTES: usize = 16 * 1024;

/// The packet that is lost at a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The COMMIT itself: MySQL has committed nothing.
    Request,
    /// The server's answer: MySQL has committed.
    Answer,
}

#[derive(Debug, Default)]
struct State {
    server: String,
    accepted: usize,
    next: Option<Loss>,
    /// Whether the connection stays open without an answer, so that the client sees no end.
    silently: bool,
    lost: usize,
}

/// A running proxy. When dropped, it takes no more connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    away: watch::Sender<bool>,
    silenced: watch::Sender<usize>,
    flowing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before the server that `url` names.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let state = State { server: parts(url)?.1.to_owned(), ..State::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let (away, cut) = watch::channel(false);
        let (silenced, silence) = watch::channel(0);
        let (flowing, flow) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *cut.borrow() {
                    continue;
                }
                let server = {
                    let mut state = lock(&shared);
                    state.accepted += 1;
                    state.server.clone()
                };
                let (state, mut cut) = (Arc::clone(&shared), cut.clone());
                let mut silence = silence.clone();
                silence.mark_unchanged();
                let mut flow = flow.clone();
                tokio::spawn(async move {
                    // If either side ends, the connection ends. The client handles the rest.
                    if let Ok(server) = TcpStream::connect(server).await {
                        let (mut client, mut server) = (client, server);
                        let silent = tokio::select! {
                            ended = relay(&mut client, &mut server, &state, &mut flow) => {
                                ended.is_ok_and(|end| end == End::Silence)
                            }
                            _ = silence.changed() => true,
                            _ = cut.wait_for(|cut| *cut) => false,
                        };
                        if silent {
                            // A server that has failed holds no locks, so its connection ends. The
                            // client's end stays open until the proxy ends its connections.
                            drop(server);
                            let _ = cut.wait_for(|cut| *cut).await;
                        }
                    }
                });
            }
        });
        Ok(Self { address, state, away, silenced, flowing, accepting })
    }

    /// Returns `url` with the proxy's address.
    pub fn url(&self, url: &str) -> anyhow::Result<String> {
        let (before, _, after) = parts(url)?;
        Ok(format!("{before}{}{after}", self.address))
    }

    /// Ends all connections and takes no new ones until [`Self::back`].
    pub fn away(&self) {
        self.away.send_replace(true);
    }

    /// Takes connections again.
    pub fn back(&self) {
        self.away.send_replace(false);
    }

    /// Forwards nothing on the present connections, without ending them. New connections reach the
    /// server, as if another server had taken the address over.
    pub fn silence(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }

    /// Forwards nothing until [`Self::flow`], neither on present nor on new connections, and ends
    /// none. What was sent meanwhile arrives then.
    pub fn hold(&self) {
        self.flowing.send_replace(false);
    }

    /// Forwards again.
    pub fn flow(&self) {
        self.flowing.send_replace(true);
    }

    /// Connects new connections to the server that `url` names, as if a name now meant another
    /// server. Present connections stay.
    pub fn lead_to(&self, url: &str) -> anyhow::Result<()> {
        lock(&self.state).server = parts(url)?.1.to_owned();
        Ok(())
    }

    /// Returns the number of connections taken.
    pub fn accepted(&self) -> usize {
        lock(&self.state).accepted
    }

    /// Cuts the next connection that sends a COMMIT.
    pub fn lose(&self, what: Loss) {
        let mut state = lock(&self.state);
        (state.next, state.silently) = (Some(what), false);
    }

    /// Silences the next connection that sends a COMMIT.
    pub fn lose_silently(&self, what: Loss) {
        let mut state = lock(&self.state);
        (state.next, state.silently) = (Some(what), true);
    }

    /// Returns the number of connections cut.
    pub fn lost(&self) -> usize {
        lock(&self.state).lost
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Splits a URL into the text before its address, the address, and the rest.
fn parts(url: &str) -> anyhow::Result<(&str, &str, &str)> {
    let start = url.find("://").context("a server's URL has no scheme")? + 3;
    let end = url[start..].find('/').map_or(url.len(), |slash| start + slash);
    let start = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    Ok((&url[..start], &url[start..end], &url[end..]))
}

/// The way a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Cut,
    Silence,
}

async fn relay(
    client: &mut TcpStream,
    server: &mut TcpStream,
    state: &Mutex<State>,
    flow: &mut watch::Receiver<bool>,
) -> std::io::Result<End> {
    let (mut asked, mut answered) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let asked = &asked[..read?];
                // The end of a connection is held like its bytes.
                let _ = flow.wait_for(|flows| *flows).await;
                if asked.is_empty() {
                    return Ok(End::Cut);
                }
                // A client waits for the previous answer, so a COMMIT comes alone and whole.
                let loss = if asked == COMMIT { lock(state).next.take() } else { None };
                if loss != Some(Loss::Request) {
                    server.write_all(asked).await?;
                }
                if loss == Some(Loss::Answer) {
                    // The server answers once it has committed.
                    let _ = server.read(&mut answered).await?;
                }
                if loss.is_some() {
                    let mut state = lock(state);
                    state.lost += 1;
                    return Ok(if state.silently { End::Silence } else { End::Cut });
                }
            }
            read = server.read(&mut answered) => {
                let answered = &answered[..read?];
                let _ = flow.wait_for(|flows| *flows).await;
                if answered.is_empty() {
                    return Ok(End::Cut);
                }
                client.write_all(answered).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_url() {
        let parts = |url| parts(url).unwrap();
        assert_eq!(parts("mysql://u@h:1/d"), ("mysql://u@", "h:1", "/d"));
        assert_eq!(parts("mysql://u:p@x@h:1/d"), ("mysql://u:p@x@", "h:1", "/d"));
        assert_eq!(parts("mysql://h:1"), ("mysql://", "h:1", ""));
    }
}
