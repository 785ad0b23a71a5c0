//! What the tests of the command line share: running it, and a hub that is played here.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rkllama_tests::{Server, executable};
use serde_json::json;

/// The command line against a server.
pub(crate) fn client(server: &Server, args: &[&str]) -> Command {
    let mut command = alone(args);
    command.env("RKLLAMA_HOST", &server.url);
    command
}

/// The command line, with no settings of whoever runs the tests.
pub(crate) fn alone(args: &[&str]) -> Command {
    let mut command = Command::new(executable());
    command.env_clear().env("HOME", "/nonexistent").args(args).stdin(Stdio::null());
    command
}

pub(crate) fn run(server: &Server, args: &[&str]) -> Output {
    client(server, args).output().unwrap()
}

/// What it printed; it must have gone well and have been quiet.
pub(crate) fn printed(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    text(&output.stdout)
}

/// The one line that says what failed.
pub(crate) fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = text(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

pub(crate) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    text
}

/// A file of a repository.
#[derive(Clone)]
pub(crate) struct HubFile {
    repository: String,
    path: String,
    content: Vec<u8>,
}

/// A hub of a few files. It can be made to stop in the middle of weights until it is let go on.
pub(crate) struct Hub {
    pub(crate) url: String,
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct Shelf {
    files: Vec<HubFile>,
    /// Whether weights come whole.
    is_open: Mutex<bool>,
    opened: Condvar,
    /// Downloads of weights whose client left in the middle.
    left: AtomicUsize,
    /// The beginnings that were asked for, of each download of weights.
    starts: Mutex<Vec<usize>>,
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    /// One that has these files: repository, path, content.
    pub(crate) fn of(files: &[(&str, &str, &[u8])]) -> Self {
        let file = |(repository, path, content): &(&str, &str, &[u8])| HubFile {
            repository: (*repository).to_owned(),
            path: (*path).to_owned(),
            content: content.to_vec(),
        };
        let files = files.iter().map(file).collect();
        let shelf = Arc::new(Shelf { files, is_open: Mutex::new(true), ..Shelf::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known = Arc::clone(&shelf);
        thread::spawn(move || {
            for client in listener.incoming() {
                let shelf = Arc::clone(&known);
                // A client that goes away is none of its business.
                thread::spawn(move || drop(shelf.answer(client.unwrap())));
            }
        });
        Self { url, shelf }
    }

    /// Lines of a server's configuration that make it ask here.
    pub(crate) fn config(&self) -> String {
        format!("[hub]\nendpoint = \"{}\"\nchip = \"rk3588\"", self.url)
    }

    /// Weights stop in the middle from now on.
    pub(crate) fn hold(&self) {
        *self.shelf.is_open.lock().unwrap() = false;
    }

    pub(crate) fn let_go_on(&self) {
        *self.shelf.is_open.lock().unwrap() = true;
        self.shelf.opened.notify_all();
    }

    /// Downloads of weights whose client left in the middle.
    pub(crate) fn left(&self) -> usize {
        self.shelf.left.load(Ordering::SeqCst)
    }

    /// Where the downloads of weights began, in bytes.
    pub(crate) fn starts(&self) -> Vec<usize> {
        self.shelf.starts.lock().unwrap().clone()
    }
}

impl Shelf {
    fn answer(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(client.try_clone()?).lines();
        let asked = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let path = asked.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut start = None;
        for line in lines {
            let line = line?.to_lowercase();
            if line.is_empty() {
                break;
            }
            let range = line.strip_prefix("range: bytes=").and_then(|it| it.strip_suffix('-'));
            start = range.map(|from| from.parse::<usize>().unwrap()).or(start);
        }
        if let Some(id) = path.strip_prefix("/api/models/") {
            let id = id.split("/revision/").next().unwrap();
            return send(&mut client, self.listing(id).as_deref());
        }
        let file = self
            .files
            .iter()
            .find(|file| path == format!("/{}/resolve/{COMMIT}/{}", file.repository, file.path));
        let Some(file) = file else { return send(&mut client, None) };
        if file.path.ends_with(".rkllm") {
            return self.send_weights(&mut client, &file.content, start);
        }
        send(&mut client, Some(&file.content))
    }

    fn listing(&self, id: &str) -> Option<Vec<u8>> {
        let files = self.files.iter().filter(|file| file.repository == id);
        let siblings: Vec<_> = files
            .map(|file| json!({ "rfilename": file.path, "size": file.content.len() }))
            .collect();
        let listing = json!({ "sha": COMMIT, "siblings": siblings, "cardData": {} });
        (!siblings.is_empty()).then(|| listing.to_string().into_bytes())
    }

    fn send_weights(
        &self,
        client: &mut TcpStream,
        content: &[u8],
        start: Option<usize>,
    ) -> std::io::Result<()> {
        let (whole, from) = (content.len(), start.unwrap_or(0));
        self.starts.lock().unwrap().push(from);
        let (status, range) = match start {
            Some(_) => (
                "206 Partial Content",
                format!("content-range: bytes {from}-{}/{whole}\r\n", whole - 1),
            ),
            None => ("200 OK", String::new()),
        };
        let len = whole - from;
        write!(
            client,
            "HTTP/1.1 {status}\r\n{range}content-length: {len}\r\nconnection: close\r\n\r\n"
        )?;
        let middle = (whole / 2).max(from);
        client.write_all(&content[from..middle])?;
        let mut is_open = self.is_open.lock().unwrap();
        client.set_read_timeout(Some(Duration::from_millis(1)))?;
        while !*is_open {
            (is_open, _) = self.opened.wait_timeout(is_open, Duration::from_millis(10)).unwrap();
            if let Ok(0) = client.read(&mut [0]) {
                self.left.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
        }
        drop(is_open);
        client.write_all(&content[middle..])
    }
}

fn send(client: &mut TcpStream, body: Option<&[u8]>) -> std::io::Result<()> {
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    let len = body.len();
    write!(client, "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n")?;
    client.write_all(body)
}
