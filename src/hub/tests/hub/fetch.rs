//! Files that come in one go, or must not come at all.

use std::fs;

use rkllama_hub::{Hub, HubConfig, HubError, RemoteFile, Repository};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, header, path},
};

use crate::{
    script::{Script, Turn, unmeasured, whole},
    setup::{
        COMMIT, Ranges, Target, config, content, hub, large, names_in, ranges_asked, repository,
        server, sha256, silent_server, small,
    },
};

#[tokio::test]
async fn a_file_comes_whole_and_its_progress_is_told() {
    let content = content(600_000);
    let server = MockServer::start().await;
    Mock::given(path(format!("/org/name/resolve/{COMMIT}/model.rkllm")))
        .and(header("accept-encoding", "identity"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(content.clone()))
        .expect(1)
        .mount(&server)
        .await;
    let target = Target::new();
    let heard = target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!((heard[0], *heard.last().unwrap()), (0, 600_000));
    assert!(heard.is_sorted() && heard.len() > 2, "{heard:?}");
}

#[tokio::test]
async fn a_file_can_be_fetched_from_a_task() {
    let content = content(10);
    let server = server(Ranges(content.clone())).await;
    let target = Target::new();
    let (path, hub) = (target.path(), hub(&server.uri()));
    let task = tokio::spawn(async move {
        hub.fetch(&repository(), &large(&self::content(10)), &path, &mut |_| {}).await
    });
    task.await.unwrap().unwrap();
    target.assert_holds(&content);
}

#[tokio::test]
async fn the_token_does_not_follow_a_redirect_to_another_host() {
    let content = content(1000);
    let cdn = server(Ranges(content.clone())).await;
    let hub = MockServer::start().await;
    let location = format!("{}/blob?signature=s", cdn.uri());
    Mock::given(header("authorization", "Bearer hf_secret"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", location))
        .mount(&hub)
        .await;
    let token = Some("hf_secret".to_owned());
    let client = Hub::new(HubConfig { token, ..config(&hub.uri()) });
    let target = Target::new();
    fs::write(target.part(&large(&content)), &content[..400]).unwrap();
    target.fetch(&client, &large(&content)).await.unwrap();
    target.assert_holds(&content);
    let asked = &cdn.received_requests().await.unwrap()[0];
    assert_eq!(asked.headers.get("authorization"), None);
    assert_eq!(ranges_asked(&cdn).await, [Some("bytes=400-".to_owned())]);
}

#[tokio::test]
async fn a_name_with_signs_of_addresses_in_it_is_asked_for_as_it_is() {
    let content = content(10);
    let server = MockServer::start().await;
    Mock::given(path(format!("/org/name/resolve/{COMMIT}/w8a8/a%20b%231%25.rkllm")))
        .respond_with(Ranges(content.clone()))
        .mount(&server)
        .await;
    let file = RemoteFile { path: "w8a8/a b#1%.rkllm".to_owned(), ..large(&content) };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(&file.path);
    hub(&server.uri()).fetch(&repository(), &file, &path, &mut |_| {}).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(names_in(path.parent().unwrap()), ["a b#1%.rkllm"]);
}

#[tokio::test]
async fn a_file_that_is_there_and_right_asks_nothing() {
    let content = content(1000);
    let server = silent_server().await;
    let target = Target::new();
    fs::write(target.path(), &content).unwrap();
    for file in
        [large(&content), small("model.rkllm", 1000), RemoteFile { bytes: 0, ..large(&content) }]
    {
        assert_eq!(target.fetch(&hub(&server.uri()), &file).await, Ok(vec![1000]), "{file:?}");
    }
    target.assert_holds(&content);
}

#[tokio::test]
async fn a_file_that_is_there_and_wrong_is_replaced() {
    let content = content(1000);
    let server = server(Ranges(content.clone())).await;
    let (long, short) = (vec![0; 1000], vec![0; 999]);
    for (wrong, file) in [
        (&long, large(&content)),
        (&short, large(&content)),
        (&short, small("model.rkllm", 1000)),
        // Nothing tells that it is right.
        (&long, small("model.rkllm", 0)),
    ] {
        let target = Target::new();
        fs::write(target.path(), wrong).unwrap();
        target.fetch(&hub(&server.uri()), &file).await.unwrap();
        target.assert_holds(&content);
    }
}

#[tokio::test]
async fn a_wrong_file_stays_until_the_right_one_is_whole() {
    let server = server(ResponseTemplate::new(404)).await;
    let target = Target::new();
    fs::write(target.path(), "old").unwrap();
    target.fetch(&hub(&server.uri()), &large(b"newer")).await.unwrap_err();
    target.assert_holds(b"old");
}

#[tokio::test]
async fn a_wrong_checksum_leaves_nothing_and_the_next_call_starts_anew() {
    let content = content(1000);
    let mut damaged = content.clone();
    damaged[500] ^= 1;
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(Ranges(damaged.clone())).up_to_n_times(1).mount(&server).await;
    Mock::given(any()).respond_with(Ranges(content.clone())).mount(&server).await;
    let (target, hub) = (Target::new(), hub(&server.uri()));
    let error = target.fetch(&hub, &large(&content)).await.unwrap_err();
    let (expected, got) = (sha256(&content), sha256(&damaged));
    let file = "org/name/model.rkllm".to_owned();
    assert_eq!(error, HubError::Mismatch { file, expected, got });
    assert_eq!(target.names(), [""; 0]);
    target.fetch(&hub, &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!(ranges_asked(&server).await, [None, None]);
}

#[tokio::test]
async fn a_file_announced_with_another_length_is_refused_at_once() {
    let content = content(1000);
    for served in [999, 1001] {
        let server = server(Ranges(self::content(served))).await;
        let target = Target::new();
        let error = target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap_err();
        let file = "org/name/model.rkllm".to_owned();
        assert_eq!(error, HubError::Size { file, expected: 1000, got: served as u64 });
        assert_eq!(target.names(), [""; 0]);
        assert_eq!(ranges_asked(&server).await.len(), 1);
    }
}

#[tokio::test]
async fn a_page_that_is_served_instead_costs_nothing_of_a_part() {
    let content = content(1000);
    let page = ResponseTemplate::new(200).set_body_string("<html>Sign in</html>");
    let server = server(page).await;
    let target = Target::new();
    fs::write(target.part(&large(&content)), &content[..400]).unwrap();
    let error = target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap_err();
    assert!(matches!(error, HubError::Size { expected: 1000, got: 20, .. }), "{error}");
    assert_eq!(fs::read(target.part(&large(&content))).unwrap(), &content[..400]);
}

#[tokio::test]
async fn more_than_was_announced_is_refused_and_leaves_nothing() {
    let content = content(1_000_000);
    let longer = [&content[..], b"x"].concat();
    let script = Script::start([Turn::Cut(unmeasured(&longer))]).await;
    let target = Target::new();
    let error = target.fetch(&hub(&script.endpoint), &large(&content)).await.unwrap_err();
    assert!(matches!(error, HubError::Size { expected: 1_000_000, got: 1_000_001, .. }), "{error}");
    assert_eq!(target.names(), [""; 0]);
}

#[tokio::test]
async fn less_than_was_announced_is_asked_for_until_it_comes() {
    let content = content(1000);
    let turns = [Turn::Cut(unmeasured(&content[..600])), Turn::Serve(content.clone())];
    let script = Script::start(turns).await;
    let target = Target::new();
    target.fetch(&hub(&script.endpoint), &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!(script.ranges_asked(), [None, Some("bytes=600-".to_owned())]);
}

#[tokio::test]
async fn a_length_that_only_the_transfer_tells_is_believed() {
    let content = content(1000);
    let server = server(Ranges(content.clone())).await;
    let target = Target::new();
    target.fetch(&hub(&server.uri()), &small("model.rkllm", 0)).await.unwrap();
    target.assert_holds(&content);
}

#[tokio::test]
async fn a_length_that_nobody_tells_is_refused() {
    let script = Script::start([Turn::Cut(unmeasured(b"12345"))]).await;
    let target = Target::new();
    let error = target.fetch(&hub(&script.endpoint), &small("a", 0)).await.unwrap_err();
    assert!(matches!(error, HubError::Malformed { .. }), "{error}");
    assert_eq!(target.names(), [""; 0]);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let script = Script::start([Turn::Cut(whole(b""))]).await;
    let target = Target::new();
    let heard = target.fetch(&hub(&script.endpoint), &small("empty", 0)).await.unwrap();
    assert_eq!(heard, [0]);
    target.assert_holds(b"");
}

#[tokio::test]
async fn a_file_that_the_disk_cannot_hold_is_not_asked_for() {
    let server = silent_server().await;
    let target = Target::new();
    let file = RemoteFile { bytes: u64::MAX - 1, ..large(b"") };
    let error = target.fetch(&hub(&server.uri()), &file).await.unwrap_err();
    assert!(
        matches!(&error, HubError::Space { path, needed_bytes: u64::MAX, free_bytes }
            if *path == target.path() && *free_bytes > 0),
        "{error}"
    );
    assert_eq!(target.names(), [""; 0]);
}

#[tokio::test]
async fn a_file_that_turns_out_too_large_for_the_disk_is_not_begun() {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", i64::MAX);
    let script = Script::start([Turn::Cut(head.into_bytes())]).await;
    let target = Target::new();
    let error = target.fetch(&hub(&script.endpoint), &small("a", 0)).await.unwrap_err();
    assert!(matches!(error, HubError::Space { .. }), "{error}");
    assert_eq!(target.names(), [""; 0]);
}

#[tokio::test]
async fn a_folder_in_place_of_the_file_is_told_before_anything_comes() {
    let server = silent_server().await;
    let target = Target::new();
    fs::create_dir(target.path()).unwrap();
    let error = target.fetch(&hub(&server.uri()), &large(b"x")).await.unwrap_err();
    assert!(matches!(&error, HubError::Disk { path, .. } if *path == target.path()), "{error}");
}

#[tokio::test]
async fn a_file_that_no_listing_can_hold_is_not_asked_for() {
    let server = silent_server().await;
    let (target, hub) = (Target::new(), hub(&server.uri()));
    for path in ["../x", "/x", "a//b"] {
        let error = target.fetch(&hub, &small(path, 1)).await.unwrap_err();
        assert_eq!(error, HubError::NotFound { what: format!("org/name/{path}") });
    }
    let odd = RemoteFile { sha256: Some("../".repeat(21) + "x"), ..small("a", 1) };
    assert!(matches!(target.fetch(&hub, &odd).await, Err(HubError::NotFound { .. })));
    let odd = Repository { revision: "../x".to_owned(), ..repository() };
    let error = hub.text(&odd, &small("a", 1), 9).await;
    assert!(matches!(error, Err(HubError::NotFound { .. })), "{error:?}");
}
