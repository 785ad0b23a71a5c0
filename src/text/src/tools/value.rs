//! A value that a model writes, as JSON: read character by character, written on as it comes.
//!
//! Models write JSON, Python, or something between the two. What is valid JSON passes unchanged, to
//! the blank; the rest becomes what it stands for: single quotes, `True` and `None`, tuples, names
//! without quotes, commas too many, line ends inside strings, half surrogates. So whatever has been
//! passed on is the beginning of valid JSON, at every moment.

/// Values inside values. Deeper ones are refused: others parse by recursion, and stop at 128.
const DEPTH_MAX: usize = 100;
/// Bytes of a number, a name or a literal.
const WORD_LEN_MAX: usize = 512;

/// Reads one value.
#[derive(Debug)]
pub(crate) struct ValueReader {
    /// What quotes text beside quotation marks; then text may also stand without any.
    quote: Option<&'static str>,
    /// Brackets to be closed: of an object or not.
    open: Vec<bool>,
    expected: Expected,
    token: Token,
    /// JSON that was not yet taken.
    out: String,
    /// A comma and blanks that are only JSON if something follows.
    comma: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

#[derive(Debug)]
enum Token {
    None,
    /// Inside quotation marks.
    Text {
        mark: char,
        escape: Escape,
    },
    /// A number, a literal, a name.
    Word(String),
    /// Inside the family's own quotes; what could be the beginning of the closing one.
    Quoted(String),
    /// The beginning of the family's own opening quote.
    Quote(String),
}

#[derive(Debug)]
enum Escape {
    None,
    /// Behind a backslash, after the first half of a character or not.
    Backslash(Option<u16>),
    /// Hexadecimal digits, so many of which are wanted.
    Hex {
        digits: String,
        len: usize,
        high: Option<u16>,
    },
    /// Behind the first half of a character.
    Half(u16),
}

/// What became of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// It belongs to the value, which goes on.
    More,
    /// It is the value's last.
    Last,
    /// It stands behind the value.
    Behind,
}

/// The text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl ValueReader {
    /// A reader of one value; `quote` is the family's own quotation mark.
    pub(crate) const fn new(quote: Option<&'static str>) -> Self {
        Self {
            quote,
            open: Vec::new(),
            expected: Expected::Value,
            token: Token::None,
            out: String::new(),
            comma: String::new(),
        }
    }

    /// The JSON since the last call.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Takes the next character.
    pub(crate) fn push(&mut self, c: char) -> Result<Read, Broken> {
        match &mut self.token {
            Token::None => self.between(c),
            Token::Text { .. } => Ok(self.in_text(c)),
            Token::Word(word) => {
                let goes_on = match self.quote {
                    // Text without quotes ends where the structure goes on.
                    Some(_) => !matches!(c, ',' | ':' | '}' | ']'),
                    None => c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'),
                };
                if goes_on {
                    word.push(c);
                    return if word.len() > WORD_LEN_MAX { Err(Broken) } else { Ok(Read::More) };
                }
                self.end_word()?;
                if self.open.is_empty() { Ok(Read::Behind) } else { self.between(c) }
            }
            Token::Quoted(held) => {
                held.push(c);
                let mark = self.quote.unwrap_or_default();
                let mut held = std::mem::take(held);
                while !mark.starts_with(held.as_str()) {
                    let first = held.remove(0);
                    escape(first, &mut self.out);
                }
                if held == mark {
                    return Ok(self.end_text());
                }
                self.token = Token::Quoted(held);
                Ok(Read::More)
            }
            Token::Quote(begun) => {
                begun.push(c);
                let mark = self.quote.unwrap_or_default();
                if !mark.starts_with(begun.as_str()) {
                    return Err(Broken);
                }
                if begun == mark {
                    self.out.push('"');
                    self.token = Token::Quoted(String::new());
                }
                Ok(Read::More)
            }
        }
    }

    /// Between tokens.
    fn between(&mut self, c: char) -> Result<Read, Broken> {
        if c.is_whitespace() {
            let out = if self.comma.is_empty() { &mut self.out } else { &mut self.comma };
            out.push(json_blank(c));
            return Ok(Read::More);
        }
        match (self.expected, c) {
            (Expected::CommaOrEnd, ',') => {
                self.comma.push(',');
                self.expected = match self.open.last() {
                    Some(true) => Expected::KeyOrEnd,
                    Some(false) | None => Expected::ValueOrEnd,
                };
                Ok(Read::More)
            }
            (Expected::Colon, ':' | '=') => {
                self.out.push(':');
                self.expected = Expected::Value;
                Ok(Read::More)
            }
            (Expected::Value | Expected::ValueOrEnd, '{') => self.open_group(true),
            (Expected::Value | Expected::ValueOrEnd, '[' | '(') => self.open_group(false),
            (Expected::CommaOrEnd | Expected::KeyOrEnd | Expected::ValueOrEnd, '}' | ']' | ')') => {
                self.close_group(c)
            }
            (Expected::Value | Expected::ValueOrEnd | Expected::KeyOrEnd, _) => self.begin(c),
            (Expected::Colon | Expected::CommaOrEnd, _) => Err(Broken),
        }
    }

    fn open_group(&mut self, object: bool) -> Result<Read, Broken> {
        if self.open.len() == DEPTH_MAX {
            return Err(Broken);
        }
        self.confirm_comma();
        self.out.push(if object { '{' } else { '[' });
        self.open.push(object);
        self.expected = if object { Expected::KeyOrEnd } else { Expected::ValueOrEnd };
        Ok(Read::More)
    }

    fn close_group(&mut self, c: char) -> Result<Read, Broken> {
        let object = self.open.pop();
        if object != Some(c == '}') {
            return Err(Broken);
        }
        // The comma was one too many, its blanks are not.
        let blanks = std::mem::take(&mut self.comma);
        self.out.push_str(blanks.trim_start_matches(','));
        self.out.push(if c == '}' { '}' } else { ']' });
        self.expected = Expected::Value;
        Ok(self.ended())
    }

    /// The first character of a text, a word or the family's own quote.
    fn begin(&mut self, c: char) -> Result<Read, Broken> {
        self.confirm_comma();
        self.token = match c {
            '"' | '\'' => {
                self.out.push('"');
                Token::Text { mark: c, escape: Escape::None }
            }
            _ if self.quote.is_some_and(|mark| mark.starts_with(c)) => Token::Quote(c.to_string()),
            _ if c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-') => {
                Token::Word(c.to_string())
            }
            _ => return Err(Broken),
        };
        Ok(Read::More)
    }

    fn confirm_comma(&mut self) {
        self.out.push_str(&std::mem::take(&mut self.comma));
    }

    /// A value or a key has ended.
    fn ended(&mut self) -> Read {
        self.token = Token::None;
        self.expected = match (self.open.last(), self.expected) {
            (Some(true), Expected::KeyOrEnd) => Expected::Colon,
            (Some(_), _) => Expected::CommaOrEnd,
            (None, _) => return Read::Last,
        };
        Read::More
    }

    fn end_text(&mut self) -> Read {
        self.out.push('"');
        self.ended()
    }

    fn end_word(&mut self) -> Result<(), Broken> {
        let Token::Word(word) = std::mem::replace(&mut self.token, Token::None) else {
            return Ok(());
        };
        let (word, blank) = word.split_at(word.trim_end().len());
        let key = self.expected == Expected::KeyOrEnd;
        let literal = if key { None } else { literal(word) };
        match literal {
            Some(json) => self.out.push_str(&json),
            None if key || self.quote.is_some() => {
                self.out.push('"');
                word.chars().for_each(|c| escape(c, &mut self.out));
                self.out.push('"');
            }
            None => return Err(Broken),
        }
        self.out.extend(blank.chars().map(json_blank));
        self.ended();
        Ok(())
    }

    fn in_text(&mut self, c: char) -> Read {
        let Token::Text { mark, escape: state } = &mut self.token else { return Read::More };
        let mark = *mark;
        let out = &mut self.out;
        match std::mem::replace(state, Escape::None) {
            Escape::None if c == mark => return self.end_text(),
            Escape::None if c == '\\' => *state = Escape::Backslash(None),
            Escape::None => escape(c, out),
            Escape::Half(high) if c == '\\' => *state = Escape::Backslash(Some(high)),
            Escape::Half(_) => {
                out.push('\u{fffd}');
                return self.in_text(c);
            }
            Escape::Backslash(high) if c == 'u' => {
                *state = Escape::Hex { digits: String::new(), len: 4, high };
            }
            Escape::Backslash(high) => {
                if high.is_some() {
                    out.push('\u{fffd}');
                }
                match c {
                    '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => out.extend(['\\', c]),
                    'x' => *state = Escape::Hex { digits: String::new(), len: 2, high: None },
                    '\'' | '`' => out.push(c),
                    '\n' => {}
                    // Python leaves such a backslash where it is.
                    _ => {
                        out.push_str("\\\\");
                        escape(c, out);
                    }
                }
            }
            Escape::Hex { mut digits, len, high } => {
                if !c.is_ascii_hexdigit() {
                    out.push('\u{fffd}');
                    return self.in_text(c);
                }
                digits.push(c);
                if digits.len() < len {
                    *state = Escape::Hex { digits, len, high };
                } else if let Some(high) = unicode(&digits, high, out) {
                    *state = Escape::Half(high);
                }
            }
        }
        Read::More
    }
}

/// Writes the character that a code stands for; the first half of one waits for the second.
fn unicode(digits: &str, high: Option<u16>, out: &mut String) -> Option<u16> {
    let code = u16::from_str_radix(digits, 16).unwrap_or_default();
    match (high, code) {
        (Some(high), 0xdc00..=0xdfff) => {
            out.push_str(&format!("\\u{high:04x}\\u{code:04x}"));
            None
        }
        (high, 0xd800..=0xdbff) => {
            out.extend(high.map(|_| '\u{fffd}'));
            Some(code)
        }
        (high, code) => {
            out.extend(high.map(|_| '\u{fffd}'));
            match (digits.len(), code) {
                (_, 0xdc00..=0xdfff) => out.push('\u{fffd}'),
                (4, _) => out.push_str(&format!("\\u{digits}")),
                (_, code) => out.push_str(&format!("\\u{code:04x}")),
            }
            None
        }
    }
}

/// A blank as JSON has it; what else Unicode takes for one is one too.
const fn json_blank(c: char) -> char {
    if matches!(c, '\n' | '\r' | '\t') { c } else { ' ' }
}

/// A literal of JSON or Python as JSON.
fn literal(word: &str) -> Option<String> {
    let json = match word {
        "true" | "True" => "true",
        "false" | "False" => "false",
        "null" | "None" | "nil" => "null",
        // JSON has no such numbers.
        "NaN" | "nan" | "Infinity" | "-Infinity" | "inf" | "-inf" => "null",
        word => return number(word),
    };
    Some(json.to_owned())
}

/// A number as JSON, unchanged where it is one already.
pub(crate) fn number(word: &str) -> Option<String> {
    if !word.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if word.parse::<serde_json::Number>().is_ok() {
        return Some(word.to_owned());
    }
    let plain = word.replace('_', "");
    if let Ok(integer) = plain.parse::<i128>() {
        return Some(integer.to_string());
    }
    let float = plain.parse::<f64>().ok().filter(|float| float.is_finite())?;
    serde_json::Number::from_f64(float).map(|number| number.to_string())
}

/// Writes a character as a part of a JSON string.
pub(crate) fn escape(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::Value;

    use super::*;
    use crate::tools::testing;

    /// The JSON of a whole value and what stands behind it; `Err` with what was written before the
    /// value broke.
    fn read(text: &str, quote: Option<&'static str>) -> Result<(String, usize), String> {
        let mut reader = ValueReader::new(quote);
        for (at, c) in text.char_indices() {
            match reader.push(c) {
                Ok(Read::More) => {}
                Ok(Read::Last) => return Ok((reader.take(), at + c.len_utf8())),
                Ok(Read::Behind) => return Ok((reader.take(), at)),
                Err(Broken) => return Err(reader.take()),
            }
        }
        Err(reader.take())
    }

    #[rstest]
    #[case::quotes("{'a': 'b\"c', \"d\": \"e'f\"}", r#"{"a": "b\"c", "d": "e'f"}"#)]
    #[case::escaped_quote(r"{'a': 'L\'Aquila'}", r#"{"a": "L'Aquila"}"#)]
    #[case::python("[True, False, None, (1, 2)]", "[true, false, null, [1, 2]]")]
    #[case::commas("{\"a\": [1, 2, ], }", "{\"a\": [1, 2 ] }")]
    #[case::bare_keys("{a: 1, b_c: 2}", r#"{"a": 1, "b_c": 2}"#)]
    #[case::line_ends("[\"a\nb\tc\"]", r#"["a\nb\tc"]"#)]
    #[case::numbers("[1_000, .5, 1., +3, 1e400x]", "")]
    #[case::odd_numbers("[1_000, .5, 1., +3, 007]", "[1000, 0.5, 1.0, 3, 7]")]
    #[case::no_numbers("[NaN, -inf]", "[null, null]")]
    #[case::hex(r"['\x41\é\/']", r#"["\u0041\\é\/"]"#)]
    #[case::half_characters(
        r#"["\ud83d", "\ude00", "\ud83d\ude00", "\ud83dx", "\ud83d\n"]"#,
        r#"["�", "�", "\ud83d\ude00", "�x", "�\n"]"#
    )]
    fn what_is_nearly_json_becomes_json(#[case] text: &str, #[case] json: &str) {
        let Ok((written, _)) = read(text, None) else {
            assert_eq!(json, "", "{text}");
            return;
        };
        assert_eq!(written, json);
        assert!(serde_json::from_str::<Value>(&written).is_ok(), "{written}");
    }

    #[rstest]
    #[case(
        "{k:<escape>a, \"b\" <es<escape>,n:{x:-1.5,y:[true,<escape><escape>]}}",
        r#"{"k":"a, \"b\" <es","n":{"x":-1.5,"y":[true,""]}}"#
    )]
    #[case("{unit:celsius, place:New York,n:5}", r#"{"unit":"celsius", "place":"New York","n":5}"#)]
    #[case("{}", "{}")]
    #[case(r#"{"a": "b"}"#, r#"{"a": "b"}"#)]
    fn the_familys_own_quotes_are_read(#[case] text: &str, #[case] json: &str) {
        assert_eq!(read(text, Some("<escape>")).unwrap().0, json);
    }

    #[rstest]
    #[case("]")]
    #[case("{\"a\" 1}")]
    #[case("{1: }")]
    #[case("[1 2]")]
    #[case("[1}")]
    #[case("[hello]")]
    #[case("{,}")]
    fn what_is_no_value_is_refused(#[case] text: &str) {
        assert!(read(text, None).is_err());
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&deep(DEPTH_MAX), None).is_ok());
        assert!(read(&deep(DEPTH_MAX + 1), None).is_err());
    }

    proptest! {
        #[test]
        fn json_passes_unchanged(value in testing::json(), pretty: bool) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            let (written, len) = read(&format!("{text} rest"), None).unwrap();
            prop_assert_eq!(&written, &text);
            prop_assert_eq!(len, text.len());
        }

        #[test]
        fn whatever_was_written_can_be_ended_as_json(text in "[\\[\\]{}(),:'\"\\\\a1.u \n<es>TruNoé-]{0,40}", own: bool) {
            let quote = own.then_some("<e>");
            if let Ok((written, _)) = read(&text, quote) {
                let value = serde_json::from_str::<Value>(&written);
                prop_assert!(value.is_ok(), "{} -> {}: {:?}", text, written, value);
            }
        }
    }
}
