//! A hub of our own with a few files, so that fetching is tried without a network.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path, path_regex},
};

/// The repository whose files are what they say.
pub const WHOLE: &str = "rkllama-hil/whole";
/// The repository whose weights are not what their checksum says.
pub const CORRUPT: &str = "rkllama-hil/corrupt";

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// No chip stands in the name: every target takes them.
const WEIGHTS: &str = "weights.rkllm";
/// Makes weights large enough that they come in many pieces, in bytes.
const PADDING_LEN: usize = 4 << 20;

/// The hub; it ends when dropped.
#[derive(Debug)]
pub struct StubHub {
    server: MockServer,
}

impl StubHub {
    /// Serves the demo model of this folder.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub async fn start(demo: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            std::fs::read(demo.join(name))
                .with_context(|| format!("cannot read {}", demo.join(name).display()))
        };
        // Of a toolkit that every release takes.
        let demo = String::from_utf8(read("demo.rkllm")?).context("no model file of the mock")?;
        let toolkit = |version: &str| format!("toolkit_version = \"{version}\"");
        let mut weights = demo.replace(&toolkit("1.3.0"), &toolkit("1.2.1")).into_bytes();
        // A comment of the mock's model file.
        weights.extend(b"\n# ");
        weights.resize(weights.len() + PADDING_LEN, b'x');
        weights.push(b'\n');
        let small = [
            ("tokenizer.json", read("tokenizer.json")?),
            ("tokenizer_config.json", read("tokenizer_config.json")?),
        ];
        let server = MockServer::start().await;
        for repository in [WHOLE, CORRUPT] {
            let mut siblings = Vec::new();
            for (name, content) in &small {
                siblings.push(json!({"rfilename": name, "size": content.len()}));
                offer(&server, repository, name, content.clone()).await;
            }
            siblings.push(sibling(WEIGHTS, &weights));
            let mut content = weights.clone();
            if repository == CORRUPT {
                content[PADDING_LEN] ^= 1;
            }
            offer(&server, repository, WEIGHTS, content).await;
            let listing = json!({"sha": COMMIT, "siblings": siblings, "cardData": {}});
            Mock::given(method("GET"))
                .and(path_regex(format!("^/api/models/{repository}(/revision/.*)?$")))
                .respond_with(ResponseTemplate::new(200).set_body_json(listing))
                .mount(&server)
                .await;
        }
        Ok(Self { server })
    }

    /// Where it listens, on this machine.
    pub fn url(&self) -> String {
        self.server.uri()
    }

    /// The port of this machine at which it listens.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }
}

fn sibling(name: &str, content: &[u8]) -> Value {
    let sha256: String = Sha256::digest(content).iter().map(|it| format!("{it:02x}")).collect();
    json!({"rfilename": name, "size": content.len(),
           "lfs": {"sha256": sha256, "size": content.len()}})
}

async fn offer(server: &MockServer, repository: &str, name: &str, content: Vec<u8>) {
    Mock::given(method("GET"))
        .and(path(format!("/{repository}/resolve/{COMMIT}/{name}")))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(content))
        .mount(server)
        .await;
}
