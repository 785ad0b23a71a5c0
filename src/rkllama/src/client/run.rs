//! `run`: one question, or a conversation.

use std::io::{self, IsTerminal, Read, Write};

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    Client,
    chat::{self, Conversation},
    interactive, pictures,
    printer::{self, Printer},
    runtime,
};
use crate::cli::RunArgs;

/// Questions come from arguments and a pipe, or one after the other from a terminal.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let conversation = Conversation {
        model: args.model.clone(),
        system: args.system.clone(),
        format: args.format.as_deref().map(chat::format).transpose()?,
        think: args.think.clone(),
        keep_alive: args.keep_alive.clone(),
        ..Conversation::default()
    };
    let piped = if io::stdin().is_terminal() { None } else { Some(read_pipe()?) };
    let words = (!args.prompt.is_empty()).then(|| args.prompt.join(" "));
    let question = match (piped.filter(|text| !text.trim().is_empty()), words) {
        (Some(text), Some(words)) => format!("{}\n\n{words}", text.trim_end()),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) if io::stdin().is_terminal() => {
            return interactive::converse(&client, conversation, args);
        }
        (None, None) => bail!("nothing to ask: give a prompt as an argument or on standard input"),
    };
    once(&client, conversation, question, args)
}

fn read_pipe() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("cannot read standard input as text")?;
    Ok(text)
}

fn once(
    client: &Client,
    mut conversation: Conversation,
    question: String,
    args: &RunArgs,
) -> anyhow::Result<()> {
    let content = pictures::content(&question)?;
    conversation.messages.push(json!({"role": "user", "content": content}));
    let mut printer = Printer::new(args.hide_thinking);
    let answer = runtime()?.block_on(client.ask(&conversation, &mut |heard| printer.hear(heard)));
    let finished = printer.finish();
    match answer.and_then(|done| finished.map(|_| done)) {
        Ok(done) if args.verbose => {
            write!(io::stderr(), "\n{}", printer::figures(&done))?;
            Ok(())
        }
        Ok(_) => Ok(()),
        // `rkllama run … | head` ends quietly, as other programs do.
        Err(error) if is_closed_pipe(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
