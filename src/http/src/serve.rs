//! The accept loop: poem's endpoints on hyper's connections.
//!
//! `poem::Server` is not used, for three reasons found by test. It polls a connection again after
//! hyper has ended it, so that the handler of a whole answer runs on to its end after the client
//! closed its socket. It leaves Nagle's algorithm on, which delays single tokens. It sets no
//! timeout for a request's head.
//!
//! HTTP/1.1 only: the guess between it and HTTP/2 without TLS has no timeout in hyper-util, and no
//! client of these APIs speaks the latter.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use poem::{
    Endpoint, EndpointExt, IntoEndpoint, Request, Response,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    Limits,
    hangup::{WatchedSocket, watched},
};

/// Pause after a failed `accept`: out of descriptors, it would spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Time for the answers to clients that came during the drain. They are refusals and quick.
const LATE_ANSWERS: Duration = Duration::from_secs(1);

/// Serves `endpoint` on all `listeners` until `stop` resolves, then lets running requests finish
/// for at most as long as it says.
///
/// New connections are taken until that is over, so that who comes late hears why it is not
/// answered, and a load balancer that the server is going.
///
/// Returns the number of connections still busy at the end of the drain. Their handlers and
/// bodies are dropped with them, which cancels what they generate.
pub async fn serve<E>(
    listeners: Vec<TcpListener>,
    endpoint: E,
    limits: &Limits,
    stop: impl Future<Output = Duration>,
) -> usize
where
    E: IntoEndpoint,
    E::Endpoint: 'static,
{
    let endpoint = Arc::new(endpoint.into_endpoint().map_to_response());
    let connections = JoinSet::new();
    let mut door = Door { listeners, endpoint, limits, graceful: None, connections };
    let drain = door.open_until(stop).await;
    if let Some(running) = door.graceful.take() {
        // A drain that runs out of time is counted below.
        let drained = tokio::time::timeout(drain, running.shutdown());
        let _ = door.open_until(drained).await;
    }
    drop(door.listeners);
    if let Some(late) = door.graceful {
        let _ = tokio::time::timeout(LATE_ANSWERS, late.shutdown()).await;
    }
    abort(door.connections).await
}

/// The listening sockets and what came through them.
struct Door<'a, E> {
    listeners: Vec<TcpListener>,
    endpoint: Arc<E>,
    limits: &'a Limits,
    /// Those who are to be told that the end is near.
    graceful: Option<GracefulShutdown>,
    connections: JoinSet<()>,
}

impl<E: Endpoint<Output = Response> + 'static> Door<'_, E> {
    /// Takes connections until `end` resolves.
    async fn open_until<T>(&mut self, end: impl Future<Output = T>) -> T {
        let mut end = pin!(end);
        loop {
            let has_room = self.connections.len() < self.limits.connections_max;
            let accepted = tokio::select! {
                ended = &mut end => return ended,
                Some(_) = self.connections.join_next() => continue,
                accepted = accept(&self.listeners), if has_room => accepted,
            };
            match accepted {
                Ok((stream, remote)) => self.enter(stream, remote),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::select! {
                        ended = &mut end => return ended,
                        () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                    }
                }
            }
        }
    }

    fn enter(&mut self, stream: TcpStream, remote: SocketAddr) {
        let (socket, local) = prepare(stream, remote);
        let (socket, hangup) = watched(socket);
        let connection = connect(socket, local, remote, Arc::clone(&self.endpoint), self.limits);
        let graceful = self.graceful.get_or_insert_with(GracefulShutdown::new);
        let connection = graceful.watch(connection);
        // Awaited once: when it ends, by either side, handler and body are dropped.
        self.connections.spawn(async move {
            if let Some(Err(error)) = hangup.cuts(connection).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

/// The next connection of whichever listener has one.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// The socket as the server wants it, and its own address.
fn prepare(stream: TcpStream, remote: SocketAddr) -> (TcpStream, SocketAddr) {
    // Tokens are small and must not wait for each other. A socket that refuses still works.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let local = stream.local_addr().unwrap_or(remote);
    (stream, local)
}

/// Hyper's side of one connection.
fn connect<E: Endpoint<Output = Response> + 'static>(
    socket: WatchedSocket,
    local: SocketAddr,
    remote: SocketAddr,
    endpoint: Arc<E>,
    limits: &Limits,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send + 'static {
    let (local, remote) = (LocalAddr(local.into()), RemoteAddr(remote.into()));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let endpoint = Arc::clone(&endpoint);
        let request = Request::from((request, local.clone(), remote.clone(), Scheme::HTTP));
        async move {
            let response = endpoint.get_response(request).await;
            Ok::<hyper::Response<_>, Infallible>(response.into())
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(socket), service)
}

/// Drops what still runs and counts it.
async fn abort(mut connections: JoinSet<()>) -> usize {
    connections.abort_all();
    let mut cut = 0;
    while let Some(result) = connections.join_next().await {
        cut += usize::from(result.is_err_and(|error| error.is_cancelled()));
    }
    cut
}
