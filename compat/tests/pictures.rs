//! RKLLama's routes about pictures, without sockets.

#[macro_use]
mod common;

use std::sync::Arc;

use common::{World, app, errors, hello, post, shown};

const PATH: &str = "/api/gui_actor";

#[tokio::test]
async fn places_with_a_picture_and_without() {
    let world = Arc::new(World::playing(hello()));
    let client = app(&world);
    let mut all = Vec::new();
    for body in [
        r#"{"model": "tiny", "prompt": "refresh dir", "image": "YWJjZA=="}"#,
        r#"{"model": "tiny", "prompt": "refresh dir", "image": "data:image/png;base64,YWJjZA==", "label": true}"#,
        r#"{"model": "tiny", "prompt": "refresh dir", "image": "YWJjZA==", "label": false, "options": {"temperature": 1}}"#,
    ] {
        let answer = client.post(PATH).body(body).send().await;
        all.push(format!("POST {PATH} {body}\n{}", shown(answer).await));
    }
    all.push(world.pointed.lock().unwrap().join("\n"));
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_refused() {
    let mut all = Vec::new();
    for body in [
        "",
        "{}",
        r#"{"model": "nope", "prompt": "p", "image": "YWJjZA=="}"#,
        r#"{"model": "tiny", "image": "YWJjZA=="}"#,
        r#"{"model": "tiny", "prompt": " ", "image": "YWJjZA=="}"#,
        r#"{"model": "tiny", "prompt": "p"}"#,
        r#"{"model": "tiny", "prompt": "p", "image": "*"}"#,
        r#"{"model": "tiny", "prompt": "p", "image": "file:///etc/passwd"}"#,
        r#"{"model": "tiny", "prompt": "p", "image": 7}"#,
        r#"{"model": "tiny", "prompt": "p", "image": "YWJjZA==", "label": 1}"#,
    ] {
        let answer = post(World::playing(hello()), PATH, body).await;
        all.push(format!("POST {PATH} {body}\n{answer}"));
    }
    insta::assert_snapshot!(all.join("\n\n"));
}

/// Never a place where there is none: clients would click there.
#[tokio::test]
async fn errors_of_the_engine() {
    let mut all = Vec::new();
    for error in errors() {
        let world = World { point_error: Some(error), ..World::playing(hello()) };
        let body = r#"{"model": "tiny", "prompt": "p", "image": "YWJjZA=="}"#;
        all.push(post(world, PATH, body).await);
    }
    insta::assert_snapshot!(all.join("\n\n"));
}

#[tokio::test]
async fn what_stands_on_a_picture_whole_and_in_lines() {
    let world = Arc::new(World { sees: true, ..World::playing(hello()) });
    let client = app(&world);
    let mut all = Vec::new();
    for body in [
        r#"{"model": "tiny", "image": "YWJjZA==", "stream": false}"#,
        r#"{"model": "tiny", "image": "data:image/png;base64,YWJjZA==", "prompt": "Read the total.", "options": {"num_predict": 7}, "keep_alive": "5m"}"#,
    ] {
        let answer = client.post("/api/ocr").body(body).send().await;
        all.push(format!("POST /api/ocr {body}\n{}", shown(answer).await));
        let asked = world.last();
        all.push(format!("{:?}\n{:?} {:?}", asked.prompt, asked.tokens_max, asked.keep_alive));
    }
    assert_shown!(all.join("\n\n"));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let mut all = Vec::new();
    for (sees, body) in [
        (true, "{}"),
        (true, r#"{"model": "nope", "image": "YWJjZA=="}"#),
        (true, r#"{"model": "tiny"}"#),
        (true, r#"{"model": "tiny", "image": "*"}"#),
        (true, r#"{"model": "tiny", "image": "YWJjZA==", "stream": "no"}"#),
        (true, r#"{"model": "tiny", "image": "YWJjZA==", "options": {"temperature": "hot"}}"#),
        (true, r#"{"model": "tiny", "image": "YWJjZA==", "keep_alive": "soon"}"#),
        (false, r#"{"model": "tiny", "image": "YWJjZA=="}"#),
    ] {
        let world = World { sees, ..World::playing(hello()) };
        let answer = post(world, "/api/ocr", body).await;
        all.push(format!("POST /api/ocr {body}\n{answer}"));
    }
    insta::assert_snapshot!(all.join("\n\n"));
}
