//! The lines of a Modelfile in Ollama's dialect, as Ollama's client reads them.
//!
//! A value is the rest of its line. One that begins with `"` or `"""` goes on to the line that ends in the
//! same; there is no way to escape one. Comments stand at the beginning of a line.

/// All commands, in Ollama's order.
const NAMES: [&str; 11] = [
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
];
const BLANKS: [char; 2] = [' ', '\t'];

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    /// In lower case.
    pub(super) name: &'static str,
    /// The name of a parameter, the role of a message; else empty.
    pub(super) argument: String,
    pub(super) value: String,
    /// Where it stands, counted from 1.
    pub(super) line: usize,
}

/// The commands of a text.
pub(super) struct Commands<'a> {
    lines: std::str::Split<'a, char>,
    line: usize,
}

impl<'a> Commands<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { lines: text.split('\n'), line: 0 }
    }

    fn next_line(&mut self) -> Option<&'a str> {
        self.line += 1;
        self.lines.next()
    }

    /// The next command; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Command>, String> {
        let words = loop {
            match self.next_line().map(str::trim_start) {
                None => return Ok(None),
                Some(words) if words.is_empty() || words.starts_with('#') => {}
                Some(words) => break words,
            }
        };
        let line = self.line;
        let at = |reason: &str| format!("(line {line}): {reason}");
        let (word, rest) = words.split_at(words.find(BLANKS).unwrap_or(words.len()));
        let name = NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(word));
        let name = name.ok_or_else(|| at(&not_a_command()))?;
        let mut rest = rest.trim_start_matches(BLANKS);
        let mut argument = "";
        if matches!(name, "parameter" | "message") {
            (argument, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
            rest = rest.trim_start_matches(BLANKS);
        }
        if rest.trim().is_empty() {
            let words = format!("{} {argument}", name.to_uppercase());
            return Err(at(&format!("{} needs a value", words.trim_end())));
        }
        let value = self.value(rest)?;
        Ok(Some(Command { name, argument: argument.to_owned(), value, line }))
    }

    /// The value that begins in this line.
    fn value(&mut self, first: &str) -> Result<String, String> {
        let mut text = first.to_owned();
        loop {
            if let Some(value) = unquoted(text.trim()) {
                return Ok(value.to_owned());
            }
            let next = self.next_line().ok_or("unexpected EOF")?;
            text.push('\n');
            text.push_str(next);
        }
    }
}

/// A value that is whole.
fn unquoted(text: &str) -> Option<&str> {
    let quoted = |quote: &str| {
        let inner = text.strip_prefix(quote)?;
        Some(inner.strip_suffix(quote))
    };
    match quoted("\"\"\"").or_else(|| quoted("\"")) {
        Some(inner) => inner,
        None => Some(text),
    }
}

fn not_a_command() -> String {
    let names: Vec<String> = NAMES.iter().map(|name| format!("\"{name}\"")).collect();
    let (last, others) = names.split_last().map_or(("", &[][..]), |(last, all)| (last, all));
    format!("command must be one of {}, or {last}", others.join(", "))
}

/// How a value is written, if it can be.
pub(super) fn written(value: &str) -> Option<String> {
    let ways = [value.to_owned(), format!("\"{value}\""), format!("\"\"\"{value}\"\"\"")];
    ways.into_iter().find(|way| {
        let mut commands = Commands::of(way);
        let first = commands.next_line().unwrap_or_default();
        let is_value = !first.trim().is_empty() && !value.contains('\r');
        // A sign behind the first word would make it the other dialect.
        is_value
            && !first.starts_with(BLANKS)
            && !first.starts_with('=')
            && commands.value(first).is_ok_and(|read| read == value)
            && commands.next_line().is_none()
    })
}
