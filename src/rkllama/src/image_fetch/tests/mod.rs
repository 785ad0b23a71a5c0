//! A fetcher against servers of this machine, which a test must permit.

use rstest::rstest;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use super::*;

fn limits() -> Images {
    Images { allow_urls: true, bytes_max: 1000, timeout_s: 30, ..Images::default() }
}

/// One that may reach this machine, and beside it the public network.
fn local() -> ImageFetcher {
    let permits = |address: IpAddr| address.is_loopback() || public::is_public(address);
    ImageFetcher::with_permits(limits(), permits).unwrap()
}

fn strict() -> ImageFetcher {
    ImageFetcher::new(limits()).unwrap()
}

async fn answering(place: &str, answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(path(place)).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn nothing_is_fetched_unless_the_operator_allows_it() {
    assert!(!Images::default().allow_urls);
    let fetcher = ImageFetcher::new(Images::default()).unwrap();
    assert_eq!(fetcher.fetch("http://8.8.8.8/").await, Err(FetchError::NotAllowed));
}

#[tokio::test]
async fn what_lies_at_an_address_comes_as_it_is() {
    let page = ResponseTemplate::new(200).set_body_raw("<html>no image</html>", "text/html");
    let server = answering("/page", page).await;
    let bytes = local().fetch(&format!("{}/page", server.uri())).await.unwrap();
    assert_eq!(&bytes[..], b"<html>no image</html>");
}

/// Four that take half a second each, two at a time: in two rounds and no sooner, and never more than two are
/// with the server. Who waits too long is told so.
#[tokio::test]
async fn only_so_many_are_fetched_at_once() {
    let slow = Duration::from_millis(500);
    let answer = ResponseTemplate::new(200).set_body_string("pixels").set_delay(slow);
    let server = answering("/slow", answer).await;
    let permits = |address: IpAddr| address.is_loopback();
    let of = |fetches_max: usize, timeout_s| {
        let fetches_max = fetches_max.try_into().unwrap();
        ImageFetcher::with_permits(Images { fetches_max, timeout_s, ..limits() }, permits).unwrap()
    };
    let url = format!("{}/slow", server.uri());
    let (fetcher, began) = (of(2, 30), std::time::Instant::now());
    let all = futures_util::future::join_all((0..4).map(|_| fetcher.fetch(&url))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert!(began.elapsed() >= 2 * slow, "{:?}", began.elapsed());
    let impatient = of(1, 1);
    let all = futures_util::future::join_all((0..4).map(|_| impatient.fetch(&url))).await;
    assert!(all[0].is_ok() && all[3] == Err(FetchError::TimedOut { seconds: 1 }), "{all:?}");
}

#[tokio::test]
async fn redirects_are_followed_as_often_as_allowed() {
    let server = answering("/image", ResponseTemplate::new(200).set_body_string("pixels")).await;
    for step in 0..5 {
        let there = if step == 0 { "/image".to_owned() } else { format!("/{}", step - 1) };
        let answer = ResponseTemplate::new(302).insert_header("location", there);
        Mock::given(path(format!("/{step}"))).respond_with(answer).mount(&server).await;
    }
    assert_eq!(&local().fetch(&format!("{}/2", server.uri())).await.unwrap()[..], b"pixels");
    assert_eq!(
        local().fetch(&format!("{}/3", server.uri())).await,
        Err(FetchError::TooManyRedirects { redirects_max: 3 })
    );
}

#[rstest]
#[case("http://10.0.0.1/", FetchError::NotPublic)]
#[case("http://169.254.169.254/latest/meta-data", FetchError::NotPublic)]
#[case("http://[::ffff:10.0.0.1]/", FetchError::NotPublic)]
#[case("file:///etc/passwd", FetchError::BadUrl { reason: "it is neither http nor https" })]
#[case("http://me@8.8.8.8/", FetchError::BadUrl { reason: "it holds a user's name or password" })]
#[tokio::test]
async fn redirects_lead_nowhere_that_an_address_could_not(
    #[case] there: &str,
    #[case] error: FetchError,
) {
    let answer = ResponseTemplate::new(307).insert_header("location", there);
    let server = answering("/", answer).await;
    assert_eq!(local().fetch(&server.uri()).await, Err(error));
}

/// Each form of this machine and of private networks. A server stands ready at the port, so that a
/// fetcher that asked would be answered.
#[rstest]
#[case("127.0.0.1")]
#[case("2130706433")]
#[case("0x7f000001")]
#[case("0x7f.1")]
#[case("0177.0.0.1")]
#[case("127.1")]
#[case("0")]
#[case("[::1]")]
#[case("[::ffff:127.0.0.1]")]
#[case("[::ffff:7f00:1]")]
#[case("localhost")]
#[case("LOCALHOST")]
#[case("127。0。0。1")]
#[tokio::test]
async fn this_machine_is_refused_in_every_spelling(#[case] host: &str) {
    let server = answering("/", ResponseTemplate::new(200).set_body_string("secret")).await;
    let url = format!("http://{host}:{}/", server.address().port());
    assert_eq!(strict().fetch(&url).await, Err(FetchError::NotPublic));
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_is_resolved_by_the_checked_resolver() {
    let server = answering("/", ResponseTemplate::new(200).set_body_string("pixels")).await;
    let permits = |address: IpAddr| address.is_loopback();
    let fetcher = ImageFetcher::with_permits(limits(), permits).unwrap();
    let url = format!("http://localhost:{}/", server.address().port());
    assert_eq!(&fetcher.fetch(&url).await.unwrap()[..], b"pixels");
}

#[rstest]
#[case("no url", "it is no URL")]
#[case("ftp://8.8.8.8/", "it is neither http nor https")]
#[case("http://user@8.8.8.8/", "it holds a user's name or password")]
#[case("http://:secret@8.8.8.8/", "it holds a user's name or password")]
#[tokio::test]
async fn other_addresses_are_told_what_is_wrong(#[case] url: &str, #[case] reason: &'static str) {
    assert_eq!(strict().fetch(url).await, Err(FetchError::BadUrl { reason }));
}

#[tokio::test]
async fn an_answer_that_is_no_success_is_named() {
    let server = answering("/gone", ResponseTemplate::new(404)).await;
    let error = local().fetch(&format!("{}/gone", server.uri())).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot be fetched: its server answers 404");
}

#[tokio::test]
async fn what_is_too_large_is_refused_whether_it_says_so_or_not() {
    let server = answering("/", ResponseTemplate::new(200).set_body_bytes([0; 1001])).await;
    let too_large = Err(FetchError::TooLarge { bytes_max: 1000 });
    assert_eq!(local().fetch(&server.uri()).await, too_large);
    let endless = endless_answer().await;
    assert_eq!(local().fetch(&endless).await, too_large);
    let server = answering("/", ResponseTemplate::new(200).set_body_bytes([7; 1000])).await;
    assert_eq!(local().fetch(&server.uri()).await.unwrap().len(), 1000);
}

/// The address of a server that sends chunk after chunk until it is left.
async fn endless_answer() -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head).await.unwrap();
        while socket.write_all(b"4\r\nmore\r\n").await.is_ok() {}
    });
    url
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let fetcher = ImageFetcher { limits: Images { timeout_s: 1, ..limits() }, ..local() };
    assert_eq!(fetcher.fetch(&url).await, Err(FetchError::TimedOut { seconds: 1 }));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = local().fetch(&url).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot be fetched: its server cannot be reached");
}
