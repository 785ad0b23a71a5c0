//! Texts as vectors, documents by relevance, pictures.

use serde_json::{Value, json};

use crate::{
    api::{Checked, check, count, failed},
    lab::Lab,
};

/// Squares of 2 by 2 points.
const RED: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGO4IyICRAwQCgAfngQRsu1RiQAAAABJRU5ErkJggg==";
const BLUE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGMQEbkDRAwQCgAZXgQRotiQLwAAAABJRU5ErkJggg==";

fn vectors(answer: &Value) -> Checked<Vec<Vec<f64>>> {
    let Some(data) = answer["data"].as_array() else { return failed(format!("{answer}")) };
    let vector = |entry: &Value| {
        let numbers = entry["embedding"].as_array().into_iter().flatten();
        numbers.filter_map(Value::as_f64).collect()
    };
    Ok(data.iter().map(vector).collect())
}

fn product(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// Vectors have one length of 1, and the same text has the same vector.
pub(super) async fn embeddings(lab: &Lab) -> Checked {
    let model = &lab.model("embedding")?.id;
    let body = json!({"model": model, "input": ["a dog", "the weather in Ulm", "a dog"]});
    let vectors = vectors(&lab.api.post("/v1/embeddings", &body).await?.good()?)?;
    let [dog, weather, again] = vectors.as_slice() else {
        return failed(format!("{} vectors for 3 texts", vectors.len()));
    };
    check(!dog.is_empty() && dog.len() == weather.len(), || "vectors of two widths".to_owned())?;
    for vector in &vectors {
        let length = product(vector, vector).sqrt();
        check((length - 1.0).abs() < 1e-3, || format!("a vector's length is {length}"))?;
    }
    check(product(dog, again) > 0.999, || "one text has two vectors".to_owned())?;
    check(product(dog, weather) < 0.999, || "two texts have one vector".to_owned())
}

/// The document that answers comes first.
pub(super) async fn rerank(lab: &Lab) -> Checked {
    let model = &lab.model("rerank")?.id;
    let documents = ["Bananas are yellow.", "The capital of France is Paris."];
    let body = json!({
        "model": model, "query": "What is the capital of France?", "documents": documents,
    });
    let answer = lab.api.post("/v1/rerank", &body).await?.good()?;
    let score = |place: usize| answer["results"][place]["relevance_score"].as_f64();
    let (Some(first), Some(second)) = (score(0), score(1)) else {
        return failed(format!("no scores: {answer}"));
    };
    check(answer["results"][0]["index"] == 1, || format!("the wrong one leads: {answer}"))?;
    check((0.0..=1.0).contains(&second) && (second..=1.0).contains(&first), || {
        format!("scores: {answer}")
    })
}

/// A question about pictures is answered, and they are part of its prompt; the mock's model has a word
/// for each, other words for others.
pub(super) async fn vision(lab: &Lab) -> Checked {
    let model = &lab.model("vision")?.id;
    let ask = async |pictures: &[&str]| -> Checked<(String, u64)> {
        let mut parts = vec![json!({"type": "text", "text": "Which colours are these?"})];
        for picture in pictures {
            parts.push(json!({"type": "image_url", "image_url": {"url": picture}}));
        }
        let body = json!({"model": model, "temperature": 0, "max_tokens": 32,
                          "messages": [{"role": "user", "content": parts}]});
        let answer = lab.api.post("/v1/chat/completions", &body).await?.good()?;
        let message = &answer["choices"][0]["message"];
        let words = ["content", "reasoning_content"].map(|it| message[it].as_str().unwrap_or(""));
        check(!words.concat().is_empty(), || format!("no words about a picture: {answer}"))?;
        Ok((words.concat(), count(&answer, "/usage/prompt_tokens")?))
    };
    let (_, blind) = ask(&[]).await?;
    let (red, seeing) = ask(&[RED]).await?;
    check(seeing > blind, || format!("{blind} tokens without a picture, {seeing} with one"))?;
    if !lab.scripted {
        return Ok(());
    }
    let (blue, _) = ask(&[BLUE]).await?;
    let (both, _) = ask(&[RED, BLUE]).await?;
    let word = |said: &str| said.trim_start_matches("I see ").trim_end_matches('.').to_owned();
    check(word(&red) != word(&blue), || format!("red and blue are both {red:?}"))?;
    let expected = format!("I see {} and {}.", word(&red), word(&blue));
    check(both == expected, || format!("{both:?} where {expected:?} is seen"))
}
