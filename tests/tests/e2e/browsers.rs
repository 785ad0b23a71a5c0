//! Which web pages may ask the real executable: origins, names, and questions before questions.

use reqwest::{Client, Method, Response, StatusCode, header::HeaderMap};
use rkllama_tests::{ModelDir, Server, ServerSetup};

fn server(variables: &[(&str, &str)]) -> Server {
    let setup = ServerSetup::new().model(&ModelDir::demo("demo"));
    variables.iter().fold(setup, |setup, (name, value)| setup.env(name, *value)).start()
}

async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = Client::new().request(method, format!("{}{path}", server.url));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

async fn of(server: &Server, header: &str, value: &str) -> (StatusCode, HeaderMap, String) {
    let response = ask(server, Method::GET, "/v1/models", &[(header, value)]).await;
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.text().await.unwrap())
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";

#[tokio::test]
async fn a_strangers_page_gets_nothing_and_the_owners_gets_its_answer() {
    let server = server(&[("RKLLAMA_BROWSERS__ORIGINS", "https://my.site, http://*.example.com")]);
    for origin in [
        "http://localhost:3000",
        "chrome-extension://abc",
        "https://my.site",
        "http://a.example.com",
    ] {
        let (status, headers, body) = of(&server, "origin", origin).await;
        assert_eq!(
            (status, headers[ALLOW_ORIGIN].as_bytes()),
            (StatusCode::OK, origin.as_bytes()),
            "{body}"
        );
        assert_eq!(headers["vary"], "Origin");
    }
    for origin in ["http://evil.com", "null", "https://my.site.evil.com"] {
        let (status, headers, body) = of(&server, "origin", origin).await;
        assert_eq!((status, &*body), (StatusCode::FORBIDDEN, ""), "{origin}");
        assert!(!headers.contains_key(ALLOW_ORIGIN), "{origin}");
    }
    // The server's own pages, and programs that are no browsers.
    let (status, headers, _) = of(&server, "origin", &server.url).await;
    assert!(status.is_success() && !headers.contains_key(ALLOW_ORIGIN));
    let (status, headers, _) = of(&server, "accept", "*/*").await;
    assert!(status.is_success() && !headers.contains_key(ALLOW_ORIGIN));
}

#[tokio::test]
async fn extensions_can_be_kept_out_and_everybody_let_in() {
    let closed = server(&[("RKLLAMA_BROWSERS__EXTENSIONS", "false")]);
    assert_eq!(of(&closed, "origin", "moz-extension://abc").await.0, StatusCode::FORBIDDEN);
    let open = server(&[("OLLAMA_ORIGINS", "*")]);
    let (status, headers, _) = of(&open, "origin", "http://evil.com").await;
    assert_eq!((status, headers[ALLOW_ORIGIN].as_bytes()), (StatusCode::OK, b"*".as_slice()));
}

/// A browser asks first whether it may. A key is not sent with that question.
#[tokio::test]
async fn the_question_before_the_question_needs_no_key() {
    let server = server(&[("RKLLAMA_AUTH__KEYS", "ada:secret")]);
    for path in ["/v1/chat/completions", "/api/chat", "/v1/messages"] {
        let headers = [
            ("origin", "http://localhost:3000"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        let response = ask(&server, Method::OPTIONS, path, &headers).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{path}");
        let headers = response.headers();
        assert_eq!(headers[ALLOW_ORIGIN], "http://localhost:3000");
        let allowed = headers["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.contains("Authorization") && allowed.contains("X-Api-Key"), "{allowed}");
        assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
        // The question itself does.
        let origin = [("origin", "http://localhost:3000")];
        let refused = ask(&server, Method::POST, path, &origin).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.headers()[ALLOW_ORIGIN], "http://localhost:3000", "{path}");
    }
}

/// A page that gives its own name the address 127.0.0.1 is not the owner's.
#[tokio::test]
async fn a_server_of_this_machine_is_not_known_by_strangers_names() {
    let server = server(&[("RKLLAMA_BROWSERS__HOSTS", "board")]);
    for host in ["evil.com", "example.com:11434", "ollama"] {
        let (status, _, body) = of(&server, "host", host).await;
        assert_eq!((status, &*body), (StatusCode::FORBIDDEN, ""), "{host}");
    }
    for host in ["localhost", "board:8080", "foo.local", "host.docker.internal", "172.17.0.1"] {
        assert_eq!(of(&server, "host", host).await.0, StatusCode::OK, "{host}");
    }
}
