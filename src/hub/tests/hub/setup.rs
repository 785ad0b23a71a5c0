//! What the tests ask with and for.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rkllama_hub::{Hub, HubConfig, HubError, Patience, RemoteFile, Repository};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const ATTEMPTS_MAX: u32 = 3;

pub(crate) fn config(endpoint: &str) -> HubConfig {
    HubConfig {
        endpoint: endpoint.to_owned(),
        patience: Patience {
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(5),
            attempts_max: ATTEMPTS_MAX,
            wait_min: Duration::from_millis(1),
            wait_max: Duration::from_secs(1),
        },
        ..HubConfig::default()
    }
}

pub(crate) fn hub(endpoint: &str) -> Hub {
    Hub::new(config(endpoint))
}

/// A client that soon gives up on a server that says nothing.
pub(crate) fn hasty_hub(endpoint: &str) -> Hub {
    let mut config = config(endpoint);
    config.patience.connect_timeout = Duration::from_millis(200);
    config.patience.stall_timeout = Duration::from_millis(200);
    Hub::new(config)
}

/// Bytes no two stretches of which are the same.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A large file, as the hub lists it.
pub(crate) fn large(content: &[u8]) -> RemoteFile {
    RemoteFile {
        path: "model.rkllm".to_owned(),
        bytes: content.len() as u64,
        sha256: Some(sha256(content)),
    }
}

/// A small file, as the hub lists it.
pub(crate) fn small(path: &str, bytes: u64) -> RemoteFile {
    RemoteFile { path: path.to_owned(), bytes, sha256: None }
}

pub(crate) fn repository() -> Repository {
    Repository {
        id: "org/name".to_owned(),
        revision: COMMIT.to_owned(),
        files: Vec::new(),
        base_models: Vec::new(),
        license: None,
    }
}

/// A folder to fetch to.
pub(crate) struct Target {
    folder: TempDir,
}

impl Target {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("model.rkllm")
    }

    /// Where the part of this file stands.
    pub(crate) fn part(&self, file: &RemoteFile) -> PathBuf {
        let version = file.sha256.as_deref().unwrap_or(COMMIT);
        self.folder.path().join(format!("model.rkllm.{}.part", &version[..16]))
    }

    /// The names in the folder.
    pub(crate) fn names(&self) -> Vec<String> {
        names_in(self.folder.path())
    }

    /// Fetches and tells what `progress` heard.
    pub(crate) async fn fetch(&self, hub: &Hub, file: &RemoteFile) -> Result<Vec<u64>, HubError> {
        let mut heard = Vec::new();
        hub.fetch(&repository(), file, &self.path(), &mut |bytes| heard.push(bytes)).await?;
        Ok(heard)
    }

    /// Says whether the file is whole and alone.
    #[track_caller]
    pub(crate) fn assert_holds(&self, content: &[u8]) {
        assert!(std::fs::read(self.path()).unwrap() == content, "another content");
        assert_eq!(self.names(), ["model.rkllm"]);
    }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server that answers everything alike.
pub(crate) async fn server(answer: impl Respond + 'static) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

/// A server that must not be asked.
pub(crate) async fn silent_server() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).expect(0).mount(&server).await;
    server
}

/// A server of one file, whole or in ranges.
pub(crate) struct Ranges(pub(crate) Vec<u8>);

impl Respond for Ranges {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let Some(range) = request.headers.get("range") else {
            return ResponseTemplate::new(200).set_body_bytes(self.0.clone());
        };
        let from = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        let from: usize = from.strip_suffix('-').unwrap().parse().unwrap();
        let (last, whole) = (self.0.len() - 1, self.0.len());
        ResponseTemplate::new(206)
            .insert_header("content-range", format!("bytes {from}-{last}/{whole}"))
            .set_body_bytes(&self.0[from..])
    }
}

/// The `Range` of each question in turn.
pub(crate) async fn ranges_asked(server: &MockServer) -> Vec<Option<String>> {
    let requests = server.received_requests().await.unwrap();
    let range = |request: &Request| {
        request.headers.get("range").map(|range| range.to_str().unwrap().to_owned())
    };
    requests.iter().map(range).collect()
}
