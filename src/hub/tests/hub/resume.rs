//! Files that come in pieces.

use std::fs;

use rkllama_hub::HubError;
use tokio::sync::watch;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::{
    script::{Script, Turn, beginning},
    setup::{
        Ranges, Target, content, hasty_hub, hub, large, ranges_asked, repository, server,
        silent_server,
    },
};

fn bytes_from(from: usize) -> Option<String> {
    Some(format!("bytes={from}-"))
}

#[tokio::test]
async fn a_connection_that_is_cut_is_gone_on_with_where_it_broke() {
    let content = content(1000);
    let turns = [Turn::Cut(beginning(&content, 400)), Turn::Serve(content.clone())];
    let script = Script::start(turns).await;
    let target = Target::new();
    let heard = target.fetch(&hub(&script.endpoint), &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!(script.ranges_asked(), [None, bytes_from(400)]);
    assert!(heard.contains(&400) && heard.is_sorted(), "{heard:?}");
}

#[tokio::test]
async fn a_connection_that_stalls_is_given_up_and_gone_on_with() {
    let content = content(1000);
    let turns = [Turn::Hang(beginning(&content, 400)), Turn::Serve(content.clone())];
    let script = Script::start(turns).await;
    let target = Target::new();
    target.fetch(&hasty_hub(&script.endpoint), &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!(script.ranges_asked(), [None, bytes_from(400)]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let content = content(1000);
    let turns = [Turn::Hang(Vec::new()), Turn::Serve(content.clone())];
    let script = Script::start(turns).await;
    let target = Target::new();
    target.fetch(&hasty_hub(&script.endpoint), &large(&content)).await.unwrap();
    target.assert_holds(&content);
}

#[tokio::test]
async fn faults_are_forgiven_as_long_as_each_attempt_brings_something() {
    let content = content(1000);
    let server = MockServer::start().await;
    // Each answer breaks after 100 bytes more: ten attempts, where three in a row may fail.
    struct Slices(Vec<u8>);
    impl wiremock::Respond for Slices {
        fn respond(&self, request: &wiremock::Request) -> ResponseTemplate {
            let range = request.headers.get("range").map(|it| it.to_str().unwrap().to_owned());
            let from: usize = range.map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
            let range = format!("bytes {from}-{}/{}", from + 99, self.0.len());
            ResponseTemplate::new(206)
                .insert_header("content-range", range)
                .set_body_bytes(&self.0[from..from + 100])
        }
    }
    Mock::given(any()).respond_with(Slices(content.clone())).expect(10).mount(&server).await;
    let target = Target::new();
    target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap();
    target.assert_holds(&content);
}

#[tokio::test]
async fn starting_over_each_time_is_no_progress() {
    let content = content(1000);
    let turns = (0..4).map({
        let content = content.clone();
        move |_| Turn::Cut(beginning(&content, 400))
    });
    let script = Script::start(turns).await;
    let target = Target::new();
    let error = target.fetch(&hub(&script.endpoint), &large(&content)).await.unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    // The first attempt brought something, and is not one of the three.
    assert_eq!(script.ranges_asked(), [&[None][..], &vec![bytes_from(400); 3]].concat());
    script.end().await;
    assert_eq!(fs::read(target.part(&large(&content))).unwrap(), &content[..400]);
}

#[tokio::test]
async fn a_future_that_is_dropped_leaves_a_part_to_go_on_with() {
    let content = content(3 << 20);
    let turns = [Turn::Hang(beginning(&content, 2 << 20)), Turn::Serve(content.clone())];
    let script = Script::start(turns).await;
    let (target, file) = (Target::new(), large(&content));
    let (sender, mut bytes) = watch::channel(0);
    let task = tokio::spawn({
        let (hub, file, path) = (hub(&script.endpoint), file.clone(), target.path());
        async move { hub.fetch(&repository(), &file, &path, &mut |it| sender.send(it).unwrap()).await }
    });
    bytes.wait_for(|bytes| *bytes == 2 << 20).await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(!target.path().exists());

    let heard = target.fetch(&hub(&script.endpoint), &file).await.unwrap();
    target.assert_holds(&content);
    assert!(heard[0] >= 1 << 20, "{heard:?}");
    assert_eq!(script.ranges_asked(), [None, bytes_from(heard[0] as usize)]);
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_starts_over() {
    let content = content(1000);
    let whole = ResponseTemplate::new(200).set_body_bytes(content.clone());
    let server = server(whole).await;
    let target = Target::new();
    fs::write(target.part(&large(&content)), &content[..400]).unwrap();
    let heard = target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!(ranges_asked(&server).await, [bytes_from(400)]);
    assert_eq!(heard.first(), Some(&400));
}

#[tokio::test]
async fn a_part_that_the_server_cannot_go_on_with_is_thrown_away() {
    let content = content(1000);
    let other_range = ResponseTemplate::new(206)
        .insert_header("content-range", "bytes 0-999/1000")
        .set_body_bytes(content.clone());
    let no_range = ResponseTemplate::new(206).set_body_bytes(&content[400..]);
    for answer in [ResponseTemplate::new(416), other_range, no_range] {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).up_to_n_times(1).mount(&server).await;
        Mock::given(any()).respond_with(Ranges(content.clone())).mount(&server).await;
        let target = Target::new();
        fs::write(target.part(&large(&content)), &content[..400]).unwrap();
        target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap();
        target.assert_holds(&content);
        assert_eq!(ranges_asked(&server).await, [bytes_from(400), None]);
    }
}

#[tokio::test]
async fn a_server_that_refuses_every_range_is_not_asked_for_ever() {
    let content = content(1000);
    let server = server(ResponseTemplate::new(416)).await;
    let target = Target::new();
    fs::write(target.part(&large(&content)), &content[..400]).unwrap();
    let error = target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap_err();
    assert!(matches!(error, HubError::Refused { status: 416, .. }), "{error}");
    assert_eq!(ranges_asked(&server).await, [bytes_from(400), None]);
}

#[tokio::test]
async fn a_part_of_another_version_is_removed() {
    let content = content(1000);
    let server = server(Ranges(content.clone())).await;
    let target = Target::new();
    fs::write(target.part(&large(b"another version")), &content[..400]).unwrap();
    target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!(ranges_asked(&server).await, [None]);
}

#[tokio::test]
async fn parts_of_other_files_are_left_alone() {
    let content = content(1000);
    let server = server(Ranges(content.clone())).await;
    let target = Target::new();
    let others = ["model.rkllm.0.part", "model.rkllm.part", "other.0123456789abcdef.part"];
    for name in others {
        fs::write(target.path().with_file_name(name), "x").unwrap();
    }
    target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap();
    assert_eq!(target.names(), [&["model.rkllm"], &others[..]].concat());
}

#[tokio::test]
async fn a_part_that_is_whole_asks_nothing() {
    let content = content(1000);
    let server = silent_server().await;
    let target = Target::new();
    fs::write(target.part(&large(&content)), &content).unwrap();
    assert_eq!(target.fetch(&hub(&server.uri()), &large(&content)).await, Ok(vec![1000]));
    target.assert_holds(&content);
}

#[tokio::test]
async fn a_part_that_is_damaged_is_found_out() {
    let content = content(1000);
    let server = server(Ranges(content.clone())).await;
    let (target, hub) = (Target::new(), hub(&server.uri()));
    fs::write(target.part(&large(&content)), vec![0; 400]).unwrap();
    let error = target.fetch(&hub, &large(&content)).await.unwrap_err();
    assert!(matches!(error, HubError::Mismatch { .. }), "{error}");
    assert_eq!(target.names(), [""; 0]);
    target.fetch(&hub, &large(&content)).await.unwrap();
    target.assert_holds(&content);
}

#[tokio::test]
async fn a_part_longer_than_the_file_is_thrown_away() {
    let content = content(1000);
    let server = server(Ranges(content.clone())).await;
    let target = Target::new();
    fs::write(target.part(&large(&content)), vec![0; 1001]).unwrap();
    target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap();
    target.assert_holds(&content);
    assert_eq!(ranges_asked(&server).await, [None]);
}
