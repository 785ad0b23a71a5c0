//! Small text files.

use rkllama_hub::{HubError, RemoteFile};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use crate::{
    script::{Script, Turn, beginning},
    setup::{COMMIT, hub, repository, server, sha256, silent_server, small},
};

fn text(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(body)
}

#[tokio::test]
async fn a_text_is_read_at_the_commit() {
    let server = MockServer::start().await;
    Mock::given(path(format!("/org/name/resolve/{COMMIT}/sub/a%20b%231%3F.txt")))
        .respond_with(text("grüße"))
        .mount(&server)
        .await;
    let file = small("sub/a b#1?.txt", 7);
    assert_eq!(hub(&server.uri()).text(&repository(), &file, 7).await.unwrap(), "grüße");
}

#[tokio::test]
async fn a_text_announced_too_large_is_not_asked_for() {
    let server = silent_server().await;
    let error = hub(&server.uri()).text(&repository(), &small("a", 8), 7).await.unwrap_err();
    assert_eq!(error, HubError::TooLarge { file: "org/name/a".to_owned(), bytes_max: 7 });
}

#[tokio::test]
async fn a_text_that_turns_out_too_large_is_refused() {
    let server = server(text("12345678")).await;
    let error = hub(&server.uri()).text(&repository(), &small("a", 0), 7).await.unwrap_err();
    assert_eq!(error, HubError::TooLarge { file: "org/name/a".to_owned(), bytes_max: 7 });
}

#[tokio::test]
async fn a_text_of_another_length_or_checksum_is_refused() {
    let server = server(text("12345")).await;
    let hub = hub(&server.uri());
    let file = "org/name/a".to_owned();
    let error = hub.text(&repository(), &small("a", 6), 9).await.unwrap_err();
    assert_eq!(error, HubError::Size { file: file.clone(), expected: 6, got: 5 });
    let other = RemoteFile { sha256: Some(sha256(b"54321")), ..small("a", 5) };
    let error = hub.text(&repository(), &other, 9).await.unwrap_err();
    let (expected, got) = (sha256(b"54321"), sha256(b"12345"));
    assert_eq!(error, HubError::Mismatch { file, expected, got });
    let same = RemoteFile { sha256: Some(sha256(b"12345")), ..small("a", 5) };
    assert_eq!(hub.text(&repository(), &same, 9).await.unwrap(), "12345");
}

#[tokio::test]
async fn what_is_no_text_is_malformed() {
    let server = server(ResponseTemplate::new(200).set_body_bytes([b'a', 0xff])).await;
    let error = hub(&server.uri()).text(&repository(), &small("a", 2), 9).await.unwrap_err();
    assert!(matches!(error, HubError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_text_that_is_cut_is_asked_for_again() {
    let turns = [Turn::Cut(beginning(b"12345", 3)), Turn::Serve(b"12345".to_vec())];
    let script = Script::start(turns).await;
    let hub = hub(&script.endpoint);
    assert_eq!(hub.text(&repository(), &small("a", 5), 9).await.unwrap(), "12345");
    script.end().await;
}
