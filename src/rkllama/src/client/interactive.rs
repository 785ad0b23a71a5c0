//! A conversation at a terminal.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustyline::{Config, DefaultEditor, error::ReadlineError};
use serde_json::{Value, json};

use super::{
    Client,
    chat::{self, Conversation, Think},
    pictures,
    printer::{self, Printer},
    runtime,
};
use crate::{cli::RunArgs, config};

/// Lines of earlier conversations that can be called up again.
const HISTORY_LINES_MAX: usize = 1000;

const HELP: &str = "\
  /set system TEXT         what the model is told before everything else
  /set parameter NAME VAL  temperature, top_p, top_k, max_tokens, seed …; without VAL: the model's own
  /set format json|FILE    answers in JSON, or by the JSON Schema in a file
  /set noformat            answers in words
  /set think [LEVEL]       the model thinks first; LEVEL: low, medium or high
  /set nothink             it does not
  /set verbose | quiet     counts and times behind each answer, or not
  /show                    what is set
  /load MODEL              go on with another model, from the beginning
  /save MODEL              make a model that begins with this conversation and these settings
  /clear                   forget the conversation
  /bye                     leave
  /?                       this
  \"\"\"                      begins and ends a text of several lines
  FILE.png …               the path of a picture in a question sends the picture
  Ctrl-C                   stops an answer; Ctrl-D leaves";

/// Parameters that a number follows, as the API names them.
const NUMBERS: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "seed",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
];

struct Session<'a> {
    client: &'a Client,
    conversation: Conversation,
    hides_thoughts: bool,
    is_verbose: bool,
    runtime: tokio::runtime::Runtime,
}

/// What a line was.
enum Did {
    /// Something to go on after.
    Done,
    Leave,
}

/// Asks and answers until the person leaves.
pub(super) fn converse(
    client: &Client,
    conversation: Conversation,
    args: &RunArgs,
) -> anyhow::Result<()> {
    let config =
        Config::builder().max_history_size(HISTORY_LINES_MAX)?.history_ignore_space(true).build();
    let mut editor = DefaultEditor::with_config(config)?;
    let history = history_file();
    // There is none the first time.
    let _ = editor.load_history(&history);
    let mut session = Session {
        client,
        conversation,
        hides_thoughts: args.hide_thinking,
        is_verbose: args.verbose,
        runtime: runtime()?,
    };
    say(&format!("{}: /? for help, /bye to leave", session.conversation.model))?;
    loop {
        match read(&mut editor) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => {
                let _ = editor.add_history_entry(text.trim());
                match session.take(text.trim()) {
                    Ok(Did::Done) => {}
                    Ok(Did::Leave) => break,
                    // The next question may do better.
                    Err(error) => crate::cli::complain(&error),
                }
            }
            Err(ReadlineError::Interrupted) => say("Ctrl-D or /bye leaves.")?,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("cannot read from the terminal"),
        }
    }
    // What was said is worth more than how it was asked.
    keep(&mut editor, &history).unwrap_or_else(|error| crate::cli::complain(&error));
    Ok(())
}

/// One text: a line, or what stands between two `\"\"\"`.
fn read(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    const QUOTES: &str = "\"\"\"";
    let first = editor.readline(">>> ")?;
    let Some(begun) = first.trim_start().strip_prefix(QUOTES) else { return Ok(first) };
    let mut text = begun.to_owned();
    loop {
        if let Some(whole) = text.trim_end().strip_suffix(QUOTES) {
            return Ok(whole.to_owned());
        }
        text.push('\n');
        text.push_str(&editor.readline("... ")?);
    }
}

fn history_file() -> PathBuf {
    config::state_home().join("rkllama/history")
}

fn keep(editor: &mut DefaultEditor, file: &Path) -> anyhow::Result<()> {
    let kept = || format!("cannot keep the history in {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(kept)?;
    }
    editor.save_history(file).with_context(kept)
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

impl Session<'_> {
    fn take(&mut self, text: &str) -> anyhow::Result<Did> {
        let Some(command) = text.strip_prefix('/') else {
            return self.ask(text).map(|()| Did::Done);
        };
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match word {
            "bye" | "exit" => return Ok(Did::Leave),
            "?" | "help" => say(HELP)?,
            "clear" => {
                self.conversation.messages.clear();
                say("The conversation is forgotten.")?;
            }
            "show" => say(&self.shown())?,
            "load" if rest.is_empty() => say("Which model? /load MODEL")?,
            "load" => {
                rest.clone_into(&mut self.conversation.model);
                self.conversation.messages.clear();
                say(&format!("Talking with {rest}."))?;
            }
            "save" if rest.is_empty() => say("As what? /save MODEL")?,
            "save" => {
                self.save(rest)?;
                say(&format!("There is a model {rest} now."))?;
            }
            "set" => say(&self.set(rest)?)?,
            _ => say(&format!("There is no /{word}: /? shows what there is."))?,
        }
        Ok(Did::Done)
    }

    /// Puts a question; Ctrl-C stops the answer, and what was said of it stays in the conversation.
    fn ask(&mut self, question: &str) -> anyhow::Result<()> {
        let content = pictures::content(question)?;
        self.conversation.messages.push(json!({"role": "user", "content": content}));
        let mut printer = Printer::new(self.hides_thoughts);
        let (client, conversation) = (self.client, &self.conversation);
        let answer = self.runtime.block_on(async {
            let mut hear = |heard| printer.hear(heard);
            let answer = client.ask(conversation, &mut hear);
            tokio::select! {
                answer = answer => answer.map(Some),
                stopped = tokio::signal::ctrl_c() => Ok(stopped.map(|()| None)?),
            }
        });
        let said = printer.finish()?;
        if said.is_empty() && !matches!(answer, Ok(Some(_))) {
            // As if it had not been asked.
            self.conversation.messages.pop();
        } else {
            self.conversation.messages.push(json!({"role": "assistant", "content": said}));
        }
        match answer? {
            Some(done) if self.is_verbose => say(&format!("\n{}", printer::figures(&done)))?,
            Some(_) => {}
            None => say("(stopped)")?,
        }
        Ok(())
    }

    /// Makes a model of what is set and of what was said.
    fn save(&self, name: &str) -> anyhow::Result<()> {
        let Conversation { model, system, messages, parameters, .. } = &self.conversation;
        let parameters = parameters.iter().map(|(name, value)| {
            // The one name that Ollama's API has otherwise.
            let name = if name == "max_tokens" { "num_predict" } else { name };
            (name.to_owned(), value.clone())
        });
        let messages = messages.iter().map(|message| {
            json!({"role": message["role"], "content": pictures::text_of(&message["content"])})
        });
        let request = json!({
            "model": name,
            "from": model,
            "system": system,
            "parameters": parameters.collect::<serde_json::Map<_, _>>(),
            "messages": messages.collect::<Vec<_>>(),
            "stream": false,
        });
        let request = self.client.post("/api/create").json(&request);
        self.runtime.block_on(self.client.send(request)).map(drop)
    }

    /// Sets something; the answer says what is so now.
    fn set(&mut self, what: &str) -> anyhow::Result<String> {
        let (word, rest) = what.split_once(char::is_whitespace).unwrap_or((what, ""));
        let rest = rest.trim().trim_matches('"');
        Ok(match (word, rest) {
            ("system", "") => {
                self.conversation.system = None;
                "The model is told nothing before the conversation.".to_owned()
            }
            ("system", text) => {
                self.conversation.system = Some(text.to_owned());
                "The model is told this from the next question on.".to_owned()
            }
            ("parameter", rest) => self.set_parameter(rest),
            ("format", "") => "Which? /set format json, or a file with a JSON Schema".to_owned(),
            ("format", text) => {
                self.conversation.format = Some(chat::format(text)?);
                "Answers have this form.".to_owned()
            }
            ("noformat", _) => {
                self.conversation.format = None;
                "Answers have any form.".to_owned()
            }
            ("think", level) => {
                match if level.is_empty() { "true" } else { level }.parse::<Think>() {
                    Ok(think) => {
                        self.conversation.think = Some(think);
                        "The model thinks first, if it can.".to_owned()
                    }
                    Err(words) => words,
                }
            }
            ("nothink", _) => {
                self.conversation.think = Some(Think::Switch(false));
                "The model does not think first, if it has the choice.".to_owned()
            }
            ("verbose", _) => {
                self.is_verbose = true;
                "Counts and times come behind each answer.".to_owned()
            }
            ("quiet", _) => {
                self.is_verbose = false;
                "Answers come alone.".to_owned()
            }
            _ => format!("There is no /set {word}: /? shows what there is."),
        })
    }

    fn set_parameter(&mut self, text: &str) -> String {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if !NUMBERS.contains(&name) {
            return format!("There is no parameter {name:?}: {}", NUMBERS.join(", "));
        }
        let parameters = &mut self.conversation.parameters;
        match value.trim() {
            "" => {
                parameters.remove(name);
                format!("{name} is the model's own.")
            }
            value => match serde_json::from_str::<Value>(value) {
                Ok(number @ Value::Number(_)) => {
                    parameters.insert(name.to_owned(), number);
                    format!("{name} is {value}.")
                }
                _ => format!("{value:?} is no number."),
            },
        }
    }

    fn shown(&self) -> String {
        let Conversation { model, system, messages, parameters, format, think, .. } =
            &self.conversation;
        let mut lines = vec![format!("model      {model}")];
        lines.extend(system.iter().map(|text| format!("system     {text}")));
        lines.extend(parameters.iter().map(|(name, value)| format!("{name} {value}")));
        lines.extend(format.iter().map(|format| format!("format     {format}")));
        lines.extend(think.iter().map(|think| match think {
            Think::Switch(on) => format!("think      {on}"),
            Think::Level(level) => format!("think      {level}"),
        }));
        lines.push(format!("messages   {}", messages.len()));
        lines.join("\n")
    }
}
