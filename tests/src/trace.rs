//! The mock's trace: what was called, in which order.

use std::{fs, path::Path};

use serde_json::Value;

/// The lines of a trace, oldest first.
#[derive(Debug, Default)]
pub struct Trace(pub Vec<Value>);

impl Trace {
    /// Reads a trace; one that does not exist yet is empty. A line that is still being written is
    /// left for the next time.
    pub fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Self(whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn of<'a>(&'a self, event: &'a str, call: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |line| line["event"] == event && line["call"] == call)
    }

    /// How often a function was entered.
    pub fn calls(&self, function: &str) -> usize {
        self.of("call", function).count()
    }

    /// How often a function has returned.
    pub fn returns(&self, function: &str) -> usize {
        self.of("return", function).count()
    }

    /// How often the mock noted this: `hung`, `died`, `callback_reply`.
    pub fn notes(&self, what: &str) -> usize {
        self.of("note", what).count()
    }

    /// The arguments of each call of a function.
    pub fn args(&self, function: &str) -> Vec<Value> {
        self.of("call", function).map(|line| line["args"].clone()).collect()
    }

    /// The processes that ever initialised a runtime.
    pub fn workers(&self) -> Vec<u32> {
        let pid = |line: &Value| u32::try_from(line["pid"].as_u64().unwrap()).unwrap();
        self.of("call", "rkllm_init").map(pid).collect()
    }

    /// Tokens that were generated after the first line for which `condition` holds.
    pub fn tokens_after(&self, condition: impl Fn(&Value) -> bool) -> Option<usize> {
        let at = self.0.iter().position(condition)?;
        Some(self.0[at..].iter().filter(|line| is_token(line)).count())
    }

    /// Tokens that were generated in all.
    pub fn tokens(&self) -> usize {
        self.0.iter().filter(|line| is_token(line)).count()
    }

    /// The first call that was made on a handle whose run had not returned; aborts are allowed.
    pub fn call_during_run(&self) -> Option<&Value> {
        let mut running: Vec<(Value, Value)> = Vec::new();
        for line in &self.0 {
            let call = line["call"].as_str().unwrap_or_default();
            match (line["event"].as_str().unwrap_or_default(), call) {
                ("call", "rkllm_abort" | "rkllm_is_running") => {}
                ("call", _) => {
                    if running.iter().any(|(pid, _)| *pid == line["pid"]) {
                        return Some(line);
                    }
                    if call == "rkllm_run" {
                        running.push((line["pid"].clone(), line["id"].clone()));
                    }
                }
                ("return", "rkllm_run") => {
                    running.retain(|(pid, id)| *pid != line["pid"] || *id != line["id"]);
                }
                _ => {}
            }
        }
        None
    }
}

fn is_token(line: &Value) -> bool {
    line["event"] == "callback" && (line["state"] == "NORMAL" || line["state"] == "WAITING")
}
