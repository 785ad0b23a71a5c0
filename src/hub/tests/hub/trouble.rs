//! What the hub refuses, and what passes.

use std::{fs, time::Instant};

use rkllama_hub::HubError;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::{
    script::{Script, Turn, beginning},
    setup::{ATTEMPTS_MAX, Ranges, Target, content, hub, large, server},
};

const FILE: &str = "org/name/model.rkllm";

/// What becomes of a fetch, and how often the server was asked.
async fn fetch_from(server: &MockServer) -> (Result<Vec<u64>, HubError>, usize) {
    let result = Target::new().fetch(&hub(&server.uri()), &large(&content(1000))).await;
    (result, server.received_requests().await.unwrap().len())
}

/// A server that answers this so many times, and then the file.
async fn server_that_recovers(answer: ResponseTemplate, times: u64) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).up_to_n_times(times).mount(&server).await;
    Mock::given(any()).respond_with(Ranges(content(1000))).mount(&server).await;
    server
}

#[tokio::test]
async fn what_does_not_change_is_told_at_once() {
    let what = FILE.to_owned();
    for (status, expected) in [
        (401, HubError::Unauthorized { what: what.clone() }),
        (404, HubError::NotFound { what: what.clone() }),
        (410, HubError::Refused { what: what.clone(), status: 410 }),
        (451, HubError::Refused { what, status: 451 }),
    ] {
        let server = server(ResponseTemplate::new(status)).await;
        assert_eq!(fetch_from(&server).await, (Err(expected), 1));
    }
}

#[tokio::test]
async fn a_gated_repository_is_told_with_the_page_to_ask_at() {
    let answers = [
        ResponseTemplate::new(403),
        ResponseTemplate::new(401).insert_header("x-error-code", "GatedRepo"),
    ];
    for answer in answers {
        let server = server(answer).await;
        let page = format!("{}/org/name", server.uri());
        let expected = HubError::Gated { what: FILE.to_owned(), page: page.clone() };
        let (result, asked) = fetch_from(&server).await;
        assert_eq!((result.clone(), asked), (Err(expected), 1));
        assert!(result.unwrap_err().to_string().contains(&page));
    }
}

#[tokio::test]
async fn a_refusal_keeps_what_came_before() {
    let (target, content) = (Target::new(), content(1000));
    fs::write(target.part(&large(&content)), &content[..400]).unwrap();
    let server = server(ResponseTemplate::new(401)).await;
    target.fetch(&hub(&server.uri()), &large(&content)).await.unwrap_err();
    assert_eq!(fs::read(target.part(&large(&content))).unwrap(), &content[..400]);
}

#[tokio::test]
async fn the_wait_that_the_hub_asks_for_is_kept() {
    let answer = ResponseTemplate::new(429).insert_header("retry-after", "1");
    let server = server_that_recovers(answer, 1).await;
    let started = Instant::now();
    let (result, asked) = fetch_from(&server).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(asked, 2);
    assert!(started.elapsed().as_millis() >= 1000, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_wait_longer_than_allowed_is_an_error_at_once() {
    let limited = |header, value| ResponseTemplate::new(429).insert_header(header, value);
    for (answer, retry_after_s) in
        [(limited("retry-after", "2"), 2), (limited("ratelimit", "\"resolvers\";r=0;t=155"), 155)]
    {
        let server = server(answer).await;
        let expected = HubError::RateLimited { retry_after_s: Some(retry_after_s) };
        assert_eq!(fetch_from(&server).await, (Err(expected), 1));
    }
}

#[tokio::test]
async fn a_limit_without_a_time_is_tried_again_and_then_told() {
    let date = "Wed, 21 Oct 2026 07:28:00 GMT";
    for answer in
        [ResponseTemplate::new(429), ResponseTemplate::new(429).insert_header("retry-after", date)]
    {
        let server = server(answer).await;
        let expected = HubError::RateLimited { retry_after_s: None };
        assert_eq!(fetch_from(&server).await, (Err(expected), ATTEMPTS_MAX as usize));
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_tried_again() {
    for status in [500, 502, 503, 504, 408] {
        let times = u64::from(ATTEMPTS_MAX - 1);
        let server = server_that_recovers(ResponseTemplate::new(status), times).await;
        let (result, asked) = fetch_from(&server).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(asked, ATTEMPTS_MAX as usize);
    }
}

#[tokio::test]
async fn a_server_in_trouble_for_ever_is_given_up() {
    let server = server(ResponseTemplate::new(500)).await;
    let reason = "status 500".to_owned();
    let expected = HubError::Unreachable { what: FILE.to_owned(), reason };
    assert_eq!(fetch_from(&server).await, (Err(expected), ATTEMPTS_MAX as usize));
}

#[tokio::test]
async fn a_link_to_content_that_ran_out_is_got_anew() {
    let cdn = server_that_recovers(ResponseTemplate::new(403), 1).await;
    let location = format!("{}/blob", cdn.uri());
    let hub = server(ResponseTemplate::new(302).insert_header("location", location)).await;
    let (result, asked) = fetch_from(&hub).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn an_address_is_in_no_message_for_it_may_be_signed() {
    let cuts = (0..ATTEMPTS_MAX).map(|_| Turn::Cut(beginning(&content(1000), 0)));
    let cutting = Script::start(cuts.collect::<Vec<_>>()).await;
    // Nobody listens at port 1.
    for cdn in ["http://127.0.0.1:1", &cutting.endpoint] {
        let location = format!("{cdn}/blob?signature=secret");
        let server = server(ResponseTemplate::new(302).insert_header("location", location)).await;
        let (result, asked) = fetch_from(&server).await;
        let error = result.unwrap_err();
        assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
        let message = error.to_string();
        assert!(!message.contains("secret") && !message.contains("http:"), "{message}");
        assert_eq!(asked, ATTEMPTS_MAX as usize);
    }
}

#[tokio::test]
async fn a_ring_of_redirects_is_told_without_another_attempt() {
    let server = server(ResponseTemplate::new(302).insert_header("location", "/round")).await;
    let (result, asked) = fetch_from(&server).await;
    assert!(matches!(result, Err(HubError::Unreachable { .. })), "{result:?}");
    assert_eq!(asked, 11);
}

#[tokio::test]
async fn an_endpoint_that_is_no_address_is_told() {
    let error = hub("huggingface").repository("org/name", None).await.unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_listing_is_tried_again_as_a_file_is() {
    let server = MockServer::start().await;
    let body = r#"{"sha": "c0ffee"}"#;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_string(body))
        .mount(&server)
        .await;
    assert_eq!(hub(&server.uri()).repository("org/name", None).await.unwrap().revision, "c0ffee");
}
