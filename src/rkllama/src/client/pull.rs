//! `pull`: has the server fetch a model, and shows how far it is.

use std::borrow::Cow;

use anyhow::{anyhow, bail};
use serde_json::{Map, Value};

use super::{
    Client, block_on,
    lines::{Line, Lines},
    progress::Progress,
};
use crate::cli::{self, PullArgs};

/// Ends with the model on the server, or with the reason why not.
pub(crate) fn pull(args: &PullArgs) -> anyhow::Result<()> {
    block_on(async {
        let client = Client::new(&args.server)?;
        let fetched = async {
            let response = client.send(client.post("/api/pull").json(&request(args))).await?;
            let lines = Lines::of(response);
            if args.json { pass_on(lines).await } else { show(lines).await }
        };
        tokio::select! {
            fetched = fetched => fetched.map_err(|error| with_choices(error, args))?,
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                bail!("stopped; the same command goes on where it was");
            }
        }
        if args.json {
            return Ok(());
        }
        let asked = args.alias.as_deref().unwrap_or(&args.name);
        let known = client.id_of(asked).await;
        cli::print(&format!("pulled '{}'", known.as_deref().unwrap_or(asked)))
    })
}

fn request(args: &PullArgs) -> Value {
    let fields = [
        ("model", Some(&args.name)),
        ("as", args.alias.as_ref()),
        ("tokenizer", args.tokenizer.as_ref()),
    ];
    let said = |(name, value): (&str, Option<&String>)| {
        Some((name.to_owned(), Value::from(value?.as_str())))
    };
    Value::Object(fields.into_iter().filter_map(said).collect::<Map<_, _>>())
}

async fn show(mut lines: Lines) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    hear_all(&mut lines, |line, _| progress.hear(line)).await
}

async fn pass_on(mut lines: Lines) -> anyhow::Result<()> {
    hear_all(&mut lines, |_, text| cli::print(text)).await
}

/// Listens until the end, which is a success or the server's reason.
pub(super) async fn hear_all(
    lines: &mut Lines,
    mut hear: impl FnMut(&Line, &str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while let Some((line, text)) = lines.next().await? {
        hear(&line, &text)?;
        if let Some(error) = line.error {
            bail!("{error}");
        }
        if line.status == "success" {
            return Ok(());
        }
    }
    bail!("the answer broke off: the server went away")
}

/// Where several files could be meant: each with the command that takes it.
fn with_choices(error: anyhow::Error, args: &PullArgs) -> anyhow::Error {
    let words = error.to_string();
    let Some((what, choices)) = words.split_once("; name one: ") else { return error };
    let mut text = format!("{what}:");
    for choice in choices.split(", ") {
        text.push_str(&format!("\n  rkllama pull {}", quoted(choice)));
        let more = [("as", &args.alias), ("tokenizer", &args.tokenizer)];
        for (flag, value) in more.into_iter().filter_map(|(f, v)| Some((f, v.as_ref()?))) {
            text.push_str(&format!(" --{flag} {}", quoted(value)));
        }
    }
    anyhow!(text)
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> PullArgs {
        PullArgs {
            server: crate::cli::ServerArgs::default(),
            name: "org/repo".to_owned(),
            alias: Some("mine".to_owned()),
            tokenizer: None,
            json: false,
        }
    }

    #[test]
    fn choices_become_commands() {
        let error = anyhow!(
            "org/repo holds several models; name one: org/repo/a.rkllm, org/repo/it's b.rkllm"
        );
        assert_eq!(
            with_choices(error, &args()).to_string(),
            "org/repo holds several models:\n  rkllama pull org/repo/a.rkllm --as mine\n  \
             rkllama pull 'org/repo/it'\\''s b.rkllm' --as mine"
        );
        assert_eq!(with_choices(anyhow!("no"), &args()).to_string(), "no");
    }

    #[test]
    fn what_is_not_said_is_not_sent() {
        assert_eq!(request(&args()), serde_json::json!({"model": "org/repo", "as": "mine"}));
    }
}
