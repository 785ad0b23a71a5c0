//! What a repository holds.

use rkllama_hub::{Hub, HubConfig, HubError, RemoteFile};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path, query_param},
};

use crate::setup::{COMMIT, config, hub, server, silent_server};

fn json(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(text.replace("COMMIT", COMMIT), "application/json")
}

#[tokio::test]
async fn a_repository_is_read_as_the_hub_tells_it() {
    let server = MockServer::start().await;
    let body = r#"{
        "_id": "1", "id": "org/name", "sha": "COMMIT", "gated": "auto", "private": false,
        "cardData": { "base_model": ["Qwen/Qwen3-0.6B", "x/y"], "license": "apache-2.0" },
        "siblings": [
            { "rfilename": "model.rkllm", "size": 135, "blobId": "b",
              "lfs": { "sha256": "SUM", "size": 800000000, "pointerSize": 135 } },
            { "rfilename": "config.json", "size": 726 },
            { "rfilename": "empty" }
        ]
    }"#;
    let sum = "ab".repeat(32);
    Mock::given(method("GET"))
        .and(path("/api/models/org/name/revision/main"))
        .and(query_param("blobs", "true"))
        .respond_with(json(&body.replace("SUM", &sum.to_uppercase())))
        .mount(&server)
        .await;
    let repository = hub(&server.uri()).repository("org/name", None).await.unwrap();
    assert_eq!(repository.id, "org/name");
    assert_eq!(repository.revision, COMMIT);
    assert_eq!(repository.base_models, ["Qwen/Qwen3-0.6B", "x/y"]);
    assert_eq!(repository.license.as_deref(), Some("apache-2.0"));
    let file = |path: &str, bytes, sha256| RemoteFile { path: path.to_owned(), bytes, sha256 };
    assert_eq!(
        repository.files,
        [
            file("config.json", 726, None),
            file("empty", 0, None),
            file("model.rkllm", 800_000_000, Some(sum)),
        ]
    );
}

#[tokio::test]
async fn a_revision_with_signs_of_addresses_in_it_is_asked_for_as_it_is() {
    let server = MockServer::start().await;
    Mock::given(path("/api/models/name/revision/refs%2Fa%231%25"))
        .respond_with(json(r#"{"sha": "COMMIT"}"#))
        .mount(&server)
        .await;
    let repository = hub(&server.uri()).repository("name", Some("refs/a#1%")).await.unwrap();
    assert_eq!(repository.revision, COMMIT);
    assert_eq!(repository.files, []);
}

#[tokio::test]
async fn a_base_model_is_one_id_or_several_and_nothing_else() {
    for (card, expected) in [
        (r#"{"base_model": "a/b"}"#, &["a/b"][..]),
        (r#"{"base_model": ["a/b", {"adapter": "c/d"}, "https://x/../y", 1]}"#, &["a/b"]),
        (r#"{"base_model": {"adapter": "c/d"}, "license": ["mit"]}"#, &[]),
        ("null", &[]),
        ("[]", &[]),
    ] {
        let body = format!(r#"{{"sha": "COMMIT", "cardData": {card}}}"#);
        let server = server(json(&body)).await;
        let repository = hub(&server.uri()).repository("org/name", None).await.unwrap();
        assert_eq!(repository.base_models, expected, "{card}");
        assert_eq!(repository.license, None, "{card}");
    }
}

#[tokio::test]
async fn files_whose_path_is_no_plain_path_are_left_out() {
    let body = r#"{"sha": "COMMIT", "siblings": [
        {"rfilename": "/etc/passwd"}, {"rfilename": "../x"}, {"rfilename": "a/../../x"},
        {"rfilename": "a\\b"}, {"rfilename": "a\u0000b"}, {"rfilename": "./a"},
        {"rfilename": "a//b"}, {"rfilename": "a/"}, {"rfilename": ""}, {"rfilename": ".."},
        {"rfilename": "a/b"}, {"rfilename": "a/b"}
    ]}"#;
    let server = server(json(body)).await;
    let repository = hub(&server.uri()).repository("org/name", None).await.unwrap();
    let paths: Vec<_> = repository.files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["a/b"]);
}

#[tokio::test]
async fn a_name_that_can_be_none_is_not_asked_for() {
    let server = silent_server().await;
    let hub = hub(&server.uri());
    for id in ["", "..", "a/b/c", "../api/x", "a b", "a?x", "a#x", "a%2e"] {
        let error = hub.repository(id, None).await.unwrap_err();
        assert_eq!(error, HubError::NotFound { what: id.to_owned() });
    }
    let error = hub.repository("org/name", Some("../../x")).await.unwrap_err();
    assert_eq!(error, HubError::NotFound { what: "org/name at ../../x".to_owned() });
}

#[tokio::test]
async fn an_answer_that_is_none_of_the_hubs_is_malformed() {
    for body in [
        "<html>Sign in to the network</html>",
        "{}",
        r#"{"sha": ""}"#,
        r#"{"sha": "../../x"}"#,
        r#"{"sha": "COMMIT", "siblings": [{"size": 1}]}"#,
        r#"{"sha": "COMMIT", "siblings": [{"rfilename": "a", "lfs": {"sha256": "x", "size": 1}}]}"#,
    ] {
        let server = server(json(body)).await;
        let error = hub(&server.uri()).repository("org/name", None).await.unwrap_err();
        assert!(
            matches!(&error, HubError::Malformed { what, .. } if what == "org/name"),
            "{error}"
        );
    }
    let server = server(ResponseTemplate::new(204)).await;
    let error = hub(&server.uri()).repository("org/name", None).await.unwrap_err();
    assert!(error.to_string().contains("status 204"), "{error}");
}

#[tokio::test]
async fn a_listing_has_a_limit() {
    let server = server(json(&" ".repeat((16 << 20) + 1))).await;
    let error = hub(&server.uri()).repository("org/name", None).await.unwrap_err();
    assert_eq!(error, HubError::TooLarge { file: "org/name".to_owned(), bytes_max: 16 << 20 });
}

#[tokio::test]
async fn a_mirror_may_stand_below_a_path() {
    let server = MockServer::start().await;
    Mock::given(path("/hf/api/models/org/name/revision/main"))
        .respond_with(json(r#"{"sha": "COMMIT"}"#))
        .mount(&server)
        .await;
    let endpoint = format!("{}/hf/", server.uri());
    assert!(hub(&endpoint).repository("org/name", None).await.is_ok());
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_into_no_output() {
    let server = MockServer::start().await;
    Mock::given(header("authorization", "Bearer hf_secret"))
        .respond_with(json(r#"{"sha": "COMMIT"}"#))
        .mount(&server)
        .await;
    let token = Some("hf_secret".to_owned());
    let hub = Hub::new(HubConfig { token, ..config(&server.uri()) });
    assert!(hub.repository("org/name", None).await.is_ok());
    assert!(!format!("{hub:?}").contains("hf_secret"));
    let without = self::hub(&server.uri()).repository("org/name", None).await;
    assert_eq!(without, Err(HubError::NotFound { what: "org/name".to_owned() }));
}

#[tokio::test]
async fn a_token_that_cannot_be_sent_is_told_without_showing_it() {
    let server = silent_server().await;
    let token = Some("hf\nsecret".to_owned());
    let hub = Hub::new(HubConfig { token, ..config(&server.uri()) });
    let error = hub.repository("org/name", None).await.unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn offline_asks_nothing() {
    let server = silent_server().await;
    let hub = Hub::new(HubConfig { is_offline: true, ..config(&server.uri()) });
    assert_eq!(hub.repository("org/name", None).await, Err(HubError::Offline));
    let (repository, file) = (crate::setup::repository(), crate::setup::small("a", 1));
    assert_eq!(hub.text(&repository, &file, 9).await, Err(HubError::Offline));
    let target = crate::setup::Target::new();
    assert_eq!(target.fetch(&hub, &file).await, Err(HubError::Offline));
}
