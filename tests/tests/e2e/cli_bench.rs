//! `bench`: speeds of a model by the length of its prompt.

use rkllama_tests::{ModelDir, Server, ServerSetup};
use serde_json::Value;

use crate::cli_support::{complaint, printed, run};

/// Prompts are made up anew each time, so the model says the same to each, and does not end it by itself.
const ENDLESS: &str = "[[rule]]\nsay = \"again and \"\nno_eos = true\n";

/// In real time: without it the mock is too fast for any clock.
fn server() -> Server {
    let model = ModelDir::demo("demo").script(ENDLESS);
    ServerSetup::new().mock("1.3.0").model(&model).in_real_time("").start()
}

#[test]
fn each_length_has_a_row() {
    let server = server();
    let args = ["bench", "demo", "--prompt", "16,300", "--tokens", "4", "--runs", "2"];
    let table = printed(&run(&server, &args));
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[0][0], "PROMPT");
    assert_eq!((rows[1][0], rows[2][0]), ("16", "300"));
    for row in &rows[1..] {
        // Three times a mean and its range.
        assert_eq!(row.len(), 7, "{table}");
        for mean in [row[1], row[3], row[5]] {
            assert!(mean.parse::<f64>().unwrap() > 0.0, "{table}");
        }
        for range in [row[2], row[4], row[6]] {
            assert!(range.starts_with('(') && range.contains(".."), "{table}");
        }
    }
    // Two lengths, two runs, and the one that loads the model.
    assert_eq!(server.trace().calls("rkllm_run"), 5);
    assert_eq!(server.trace().tokens(), 4 * 4 + 1);
}

#[test]
fn programs_get_figures_of_whole_prompts() {
    let server = server();
    let args = ["bench", "demo", "--prompt", "300", "--tokens", "4", "--runs", "3", "--json"];
    let rows: Value = serde_json::from_str(&printed(&run(&server, &args))).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["prompt_tokens"], &rows[0]["runs"]), (&300.into(), &3.into()));
    let figures = ["prefill_tokens_per_second", "decode_tokens_per_second", "first_token_ms"];
    for name in figures {
        let of = |key: &str| rows[0][name][key].as_f64().unwrap();
        assert!(0.0 < of("min") && of("min") <= of("mean") && of("mean") <= of("max"), "{rows:?}");
    }
    // The mock takes 20 ms and half a millisecond a token: a cached beginning would take less.
    assert!(rows[0]["first_token_ms"]["min"].as_f64().unwrap() >= 170.0, "{rows:?}");
}

#[test]
fn what_cannot_be_measured_is_one_line() {
    let server = server();
    let unknown = complaint(&run(&server, &["bench", "nobody"]));
    assert!(unknown.contains("nobody"), "{unknown}");
    let long = complaint(&run(&server, &["bench", "demo", "--prompt", "9000", "--json"]));
    assert!(long.contains("9000"), "{long}");
    let none = run(&server, &["bench", "demo", "--prompt", "0"]);
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}
