//! A server that breaks off where the test says so.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What becomes of one connection.
pub(crate) enum Turn {
    /// These bytes, then the end.
    Cut(Vec<u8>),
    /// These bytes, then silence until the client hangs up.
    Hang(Vec<u8>),
    /// What is asked for of this file, in whole.
    Serve(Vec<u8>),
}

/// One connection after another; when the turns are over, nobody listens.
pub(crate) struct Script {
    pub(crate) endpoint: String,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Script {
    pub(crate) async fn start(turns: impl IntoIterator<Item = Turn> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let turns: Vec<_> = turns.into_iter().collect();
        let task = tokio::spawn(play(listener, turns, Arc::clone(&heads)));
        Self { endpoint, heads, task }
    }

    /// The `Range` of each question in turn.
    pub(crate) fn ranges_asked(&self) -> Vec<Option<String>> {
        self.heads.lock().unwrap().iter().map(|head| range_of(head)).collect()
    }

    /// When the last turn is over.
    pub(crate) async fn end(self) {
        self.task.await.unwrap();
    }
}

async fn play(listener: TcpListener, turns: Vec<Turn>, heads: Arc<Mutex<Vec<String>>>) {
    for turn in turns {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        heads.lock().unwrap().push(head.clone());
        // The client may have hung up.
        match turn {
            Turn::Cut(bytes) => drop(stream.write_all(&bytes).await),
            Turn::Serve(content) => drop(stream.write_all(&served(&content, &head)).await),
            Turn::Hang(bytes) => {
                drop(stream.write_all(&bytes).await);
                drop(stream.read(&mut [0]).await);
            }
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn range_of(head: &str) -> Option<String> {
    head.lines().find_map(|line| line.strip_prefix("range: ")).map(str::to_owned)
}

fn served(content: &[u8], head: &str) -> Vec<u8> {
    let Some(range) = range_of(head) else { return whole(content) };
    let from = range.strip_prefix("bytes=").and_then(|rest| rest.strip_suffix('-')).unwrap();
    let from: usize = from.parse().unwrap();
    let (length, last, of) = (content.len() - from, content.len() - 1, content.len());
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {length}\r\n\
         content-range: bytes {from}-{last}/{of}\r\nconnection: close\r\n\r\n"
    );
    [head.as_bytes(), &content[from..]].concat()
}

/// The answer with all of a file.
pub(crate) fn whole(content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), content].concat()
}

/// The answer with all of a file, up to so many bytes of it.
pub(crate) fn beginning(content: &[u8], bytes: usize) -> Vec<u8> {
    let mut answer = whole(content);
    answer.truncate(answer.len() - content.len() + bytes);
    answer
}

/// The answer with all of a file, whose length is told nowhere.
pub(crate) fn unmeasured(content: &[u8]) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    [&head[..], content].concat()
}
