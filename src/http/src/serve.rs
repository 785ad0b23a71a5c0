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

/// Serves `endpoint` on all `listeners` until `stop` resolves, then lets running requests finish
/// for at most `drain`.
///
/// Returns the number of connections still busy at the end of the drain. Their handlers and
/// bodies are dropped with them, which cancels what they generate.
pub async fn serve<E>(
    listeners: Vec<TcpListener>,
    endpoint: E,
    limits: &Limits,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> usize
where
    E: IntoEndpoint,
    E::Endpoint: 'static,
{
    let endpoint = Arc::new(endpoint.into_endpoint().map_to_response());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listeners), if connections.len() < limits.connections_max => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (socket, local) = prepare(stream, remote);
                let (socket, hangup) = watched(socket);
                let connection = connect(socket, local, remote, Arc::clone(&endpoint), limits);
                let connection = graceful.watch(connection);
                // Awaited once: when it ends, by either side, handler and body are dropped.
                connections.spawn(async move {
                    if let Some(Err(error)) = hangup.cuts(connection).await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::select! {
                    () = &mut stop => break,
                    () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                }
            }
        }
    }
    drop(listeners); // stop listening before the drain
    // A drain that runs out of time is counted below.
    let _ = tokio::time::timeout(drain, graceful.shutdown()).await;
    abort(connections).await
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
