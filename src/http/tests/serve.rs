//! The accept loop on real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use poem::{Body, EndpointExt, Request, Response, Route, endpoint::make};
use poem_openapi::payload::ParsePayload;
use rkllama_http::{ApiJson, Intake, Limits, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};

/// A test that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    addresses: Vec<SocketAddr>,
    stop: oneshot::Sender<()>,
    cut: JoinHandle<usize>,
    /// Slow answers that have been begun and not dropped.
    running: Arc<AtomicUsize>,
    /// Lets slow answers end.
    release: Arc<Semaphore>,
}

/// Counts an answer while it lives.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers with a dot now and another when `release` is given a permit.
fn slow(running: &Arc<AtomicUsize>, release: Arc<Semaphore>) -> Response {
    running.fetch_add(1, Ordering::SeqCst);
    let guard = Running(Arc::clone(running));
    let dots = async_stream::stream! {
        let _guard = guard;
        yield Ok::<_, std::io::Error>(Bytes::from_static(b"."));
        release.acquire().await.expect("never closed").forget();
        yield Ok(Bytes::from_static(b"."));
    };
    Response::builder().body(Body::from_bytes_stream(dots.boxed()))
}

async fn start(listeners: usize, limits: Limits, drain: Duration) -> Server {
    let mut bound = Vec::new();
    for _ in 0..listeners {
        bound.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses = bound.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let (stop, stopped) = oneshot::channel();
    let running = Arc::<AtomicUsize>::default();
    let release = Arc::new(Semaphore::new(0));
    let (counted, gate) = (Arc::clone(&running), Arc::clone(&release));
    let endpoint = Route::new()
        .at("/hello", make(async |_| Ok::<_, poem::Error>("hello")))
        .at(
            "/slow",
            make(move |_| {
                let answer = slow(&counted, Arc::clone(&gate));
                async { Ok::<_, poem::Error>(answer) }
            }),
        )
        .at(
            "/json",
            make(async |request: Request| {
                let (request, mut body) = request.split();
                let json = ApiJson::<serde_json::Value>::from_request(&request, &mut body).await?;
                Ok::<_, poem::Error>(json.0.to_string())
            }),
        )
        .data(Intake::new(limits.clone()));
    let cut = tokio::spawn(async move {
        let stop = async move {
            stopped.await.ok();
            drain
        };
        serve(bound, endpoint, &limits, stop).await
    });
    Server { addresses, stop, cut, running, release }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addresses[0]).await.unwrap()
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

/// Reads until `end` has come.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(end) {
        let len = within(socket.read(&mut buffer)).await.unwrap();
        assert_ne!(len, 0, "closed after {text:?}");
        text += std::str::from_utf8(&buffer[..len]).unwrap();
    }
    text
}

async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    within(socket.read_to_string(&mut text)).await.unwrap();
    text
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let server = start(1, Limits::default(), PATIENCE).await;
    let mut socket = server.connect().await;
    for _ in 0..3 {
        socket.write_all(get("/hello").as_bytes()).await.unwrap();
        let answer = read_until(&mut socket, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn all_listeners_are_served() {
    let server = start(3, Limits::default(), PATIENCE).await;
    for address in &server.addresses {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(get("/hello").as_bytes()).await.unwrap();
        read_until(&mut socket, "hello").await;
    }
}

/// Neither silence nor a head that trickles holds a connection.
#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let header_read_timeout = Duration::from_millis(100);
    let server = start(1, Limits { header_read_timeout, ..Limits::default() }, PATIENCE).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    let trickle = async {
        for byte in get("/hello").bytes().cycle() {
            if slow.write_all(&[byte]).await.is_err() {
                break;
            }
            // Far slower than the timeout allows: the head has 30 bytes.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(trickle).await;
    assert_eq!(read_to_end(&mut silent).await, "");
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let body_read_timeout = Duration::from_millis(100);
    let server = start(1, Limits { body_read_timeout, ..Limits::default() }, PATIENCE).await;
    let mut socket = server.connect().await;
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut socket, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// A chunked body announces no length. The client sends all of it before it reads: the answer
/// must come and not a reset.
#[tokio::test]
async fn an_over_long_chunked_body_is_refused_and_the_refusal_arrives() {
    let body_bytes_max = 1 << 20;
    let server = start(1, Limits { body_bytes_max, ..Limits::default() }, PATIENCE).await;
    let mut socket = server.connect().await;
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend(std::iter::repeat_n(b' ', 0x10000));
    chunk.extend(b"\r\n");
    // 32 MiB: more than the sockets' buffers hold.
    for _ in 0..512 {
        within(socket.write_all(&chunk)).await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_until(&mut socket, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// What is announced beyond any patience is refused before it is sent.
#[tokio::test]
async fn an_absurd_length_is_refused_at_once() {
    let server = start(1, Limits::default(), PATIENCE).await;
    let mut socket = server.connect().await;
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut socket, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_within_the_bound_is_read_in_chunks_too() {
    let server = start(1, Limits::default(), PATIENCE).await;
    let mut socket = server.connect().await;
    let request = "POST /json HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
                   4\r\n{\"a\"\r\n5\r\n: 17}\r\n0\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(&mut socket, "}").await;
    assert!(answer.ends_with("{\"a\":17}"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = start(1, Limits { connections_max: 1, ..Limits::default() }, PATIENCE).await;
    let mut first = server.connect().await;
    first.write_all(get("/hello").as_bytes()).await.unwrap();
    read_until(&mut first, "hello").await;
    let mut second = server.connect().await;
    second.write_all(get("/hello").as_bytes()).await.unwrap();
    // The first holds the only place: the second gets nothing, however long this waits.
    let mut buffer = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(200), second.read(&mut buffer)).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    read_until(&mut second, "hello").await;
}

/// At a stop, idle connections close at once and running answers are finished; who comes meanwhile
/// is answered too, which is how it hears that the server is going.
#[tokio::test]
async fn a_drain_finishes_what_runs() {
    let server = start(1, Limits::default(), PATIENCE).await;
    let mut idle = server.connect().await;
    idle.write_all(get("/hello").as_bytes()).await.unwrap();
    read_until(&mut idle, "hello").await;
    let mut busy = server.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    read_until(&mut busy, ".").await;
    server.stop.send(()).unwrap();
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(server.running.load(Ordering::SeqCst), 1, "the busy one is still answered");
    let mut late = TcpStream::connect(server.addresses[0]).await.unwrap();
    late.write_all(get("/hello").as_bytes()).await.unwrap();
    read_until(&mut late, "hello").await;
    server.release.add_permits(1);
    assert!(read_to_end(&mut busy).await.ends_with("0\r\n\r\n"), "the answer is whole");
    assert_eq!(read_to_end(&mut late).await, "");
    assert_eq!(within(server.cut).await.unwrap(), 0);
    assert!(TcpStream::connect(server.addresses[0]).await.is_err(), "it still listens");
}

/// What outlives the drain is dropped, and counted.
#[tokio::test]
async fn a_drain_that_runs_out_of_time_cuts() {
    let server = start(1, Limits::default(), Duration::from_millis(100)).await;
    let mut busy = server.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    read_until(&mut busy, ".").await;
    server.stop.send(()).unwrap();
    assert_eq!(within(server.cut).await.unwrap(), 1);
    assert_eq!(server.running.load(Ordering::SeqCst), 0, "its body was dropped");
}
