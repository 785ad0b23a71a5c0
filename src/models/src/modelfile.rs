//! `Modelfile`, in both dialects that carry this name, into one record per file.
//!
//! Servers for these boards write `KEY=VALUE` lines as in an environment file; Ollama writes
//! instructions (`FROM`, `PARAMETER temperature 0.7`). They are told apart line by line: a first
//! word followed by `=` is the first dialect. Keys that do not concern us are skipped, with their
//! values, which may run over several lines inside quotes.

use rkllama_core::{Message, Role};

use crate::{
    adapter::{AdapterSettings, ONE_ONLY, SCALE_DEFAULT},
    manifest::Kind,
    settings::{
        Knob, Settings, check_context, check_inside, check_side, check_tokens, nearest_context,
    },
    template::{Language, language},
};

/// The Modelfile's file name.
pub(crate) const MODELFILE: &str = "Modelfile";

/// Parses a Modelfile; the error names the line and the key.
pub(crate) fn parse(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while let Some(entry) = next_entry(&mut rest) {
        apply(&mut settings, &entry).map_err(|reason| entry.fault(text, &reason))?;
    }
    Ok(settings)
}

/// A key with its value, in the words of the `KEY=VALUE` dialect.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    /// Whether it stands behind `PARAMETER`.
    pub(crate) is_parameter: bool,
    /// Bytes from the entry's line to the end of the text.
    pub(crate) from_end: usize,
}

impl Entry {
    /// What is wrong with it, and where it stands in the text.
    pub(crate) fn fault(&self, text: &str, reason: &str) -> String {
        let before = &text.as_bytes()[..text.len() - self.from_end];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{MODELFILE} line {line}, {}: {reason}", self.key)
    }
}

/// The first word of a line, which is empty where none begins it, and what follows it.
fn split_key(line: &str) -> (&str, &str) {
    let words = line.trim_start();
    let words = words.strip_prefix("export ").unwrap_or(words);
    let key_len = words.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let (key, after) = words.split_at(key_len);
    (key, after.trim_start_matches([' ', '\t']))
}

/// Whether a text begins as the `KEY=VALUE` dialect does.
pub(crate) fn begins_with_assignment(text: &str) -> bool {
    let mut lines = text.lines().map(split_key).filter(|(key, _)| !key.is_empty());
    lines.next().is_some_and(|(_, after)| after.starts_with('='))
}

/// Takes lines off the text until one says something, and the lines its value runs over.
pub(crate) fn next_entry(rest: &mut &str) -> Option<Entry> {
    while !rest.is_empty() {
        let from_end = rest.len();
        let line = rest.split_inclusive('\n').next().unwrap_or_default();
        let (key, spaced) = split_key(line);
        if key.is_empty() {
            // Blank, a comment, or nothing we know: not worth refusing a model over.
            *rest = &rest[line.len()..];
            continue;
        }
        let value_at = |value: &str| line.len() - value.len();
        if let Some(value) = spaced.strip_prefix('=') {
            let value = value.trim_start_matches([' ', '\t']);
            *rest = &rest[value_at(value)..];
            let value = take_value(rest, true);
            let key = key.to_ascii_uppercase();
            return Some(Entry { key, value, is_parameter: false, from_end });
        }
        let is_parameter = key.eq_ignore_ascii_case("PARAMETER");
        let (key, value) = instruction(key, spaced);
        *rest = &rest[value_at(value)..];
        let value = take_value(rest, false);
        if let Some(key) = key {
            return Some(Entry { key, value, is_parameter, from_end });
        }
    }
    None
}

/// Ollama's instruction as a key; `PARAMETER` and `MESSAGE` have their names and roles in front of the
/// value.
fn instruction<'a>(word: &str, after: &'a str) -> (Option<String>, &'a str) {
    let first_word = || {
        let len = after.find(char::is_whitespace).unwrap_or(after.len());
        let (word, value) = after.split_at(len);
        (word, value.trim_start_matches([' ', '\t']))
    };
    match &*word.to_ascii_uppercase() {
        key @ ("FROM" | "SYSTEM" | "TEMPLATE" | "LICENSE" | "ADAPTER") => {
            (Some(key.to_owned()), after)
        }
        "PARAMETER" => {
            let (name, value) = first_word();
            (Some(name.to_ascii_uppercase()), value)
        }
        "MESSAGE" => {
            let (role, value) = first_word();
            (Some(format!("MESSAGE {role}")), value)
        }
        _ => (None, after),
    }
}

/// Takes the value at the beginning of the text and the rest of its last line.
///
/// A quote that is never closed is not one: the value is then its line alone.
pub(crate) fn take_value(rest: &mut &str, comments: bool) -> String {
    for quote in ["\"\"\"", "\"", "'"] {
        let Some(inner) = rest.strip_prefix(quote) else { continue };
        let Some(len) = closing(inner, quote) else { continue };
        let value = inner[..len].to_owned();
        let behind = &inner[len + quote.len()..];
        *rest = behind.split_once('\n').map_or("", |(_, next)| next);
        return value;
    }
    let (line, next) = rest.split_once('\n').unwrap_or((rest, ""));
    *rest = next;
    let value = if comments { line.split(" #").next().unwrap_or(line) } else { line };
    value.trim().to_owned()
}

/// Where the quote closes; a backslash keeps a quote from closing.
fn closing(inner: &str, quote: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + inner[from..].find(quote)?;
        let backslashes = inner[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Both dialects' names of one setting.
fn apply(settings: &mut Settings, entry: &Entry) -> Result<(), String> {
    let value = entry.value.as_str();
    if value.is_empty() {
        return Ok(());
    }
    match entry.key.as_str() {
        "FROM" => settings.file = Some(check_inside(value)?),
        "HUGGINGFACE_PATH" => settings.base_repository = Some(value.to_owned()),
        "SYSTEM" => settings.presets.system = Some(value.to_owned()),
        "LICENSE" => settings.presets.licenses.push(value.to_owned()),
        "TEMPLATE" => match language(value) {
            Language::Jinja => settings.template = Some(value.to_owned()),
            Language::Go => settings.presets.go_template = Some(value.to_owned()),
        },
        "MODEL_TYPE" => {
            settings.kind = Some(kind_of(value)?);
        }
        "VISION_ENCODER_PATH" | "IMAGE_EMB_PATH" => {
            settings.vision.encoder = Some(check_inside(value)?);
        }
        "POINTER_HEAD_PATH" => settings.vision.pointer_head = Some(check_inside(value)?),
        "IMG_START" => settings.vision.start = Some(value.to_owned()),
        "IMG_END" => settings.vision.end = Some(value.to_owned()),
        "IMG_CONTENT" => settings.vision.content = Some(value.to_owned()),
        "N_IMAGE_TOKENS" => settings.vision.image_tokens = Some(check_tokens(count(value)?)?),
        "IMAGE_WIDTH" => settings.vision.width = Some(check_side(count(value)?)?),
        "IMAGE_HEIGHT" => settings.vision.height = Some(check_side(count(value)?)?),
        "ADAPTER" if settings.adapter.is_some() => return Err(ONE_ONLY.to_owned()),
        "ADAPTER" => {
            settings.adapter =
                Some(AdapterSettings { file: check_inside(value)?, scale: SCALE_DEFAULT });
        }
        key => match key.strip_prefix("MESSAGE ") {
            Some(role) => settings.presets.messages.push(Message::new(role_of(role)?, value)),
            None => parameter(settings, key, value, entry.is_parameter)?,
        },
    }
    Ok(())
}

/// What a model is made for, by the other servers' words.
pub(crate) fn kind_of(value: &str) -> Result<Kind, String> {
    match &*value.to_ascii_lowercase() {
        "language" => Ok(Kind::Chat),
        "embed" => Ok(Kind::Embed),
        "reranker" => Ok(Kind::Rerank),
        _ => Err(format!("{value:?} is none of language, embed, reranker")),
    }
}

pub(crate) fn role_of(role: &str) -> Result<Role, String> {
    match &*role.to_ascii_lowercase() {
        "system" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        _ => Err("message role must be one of \"system\", \"user\", or \"assistant\"".to_owned()),
    }
}

/// A parameter by its name in capitals. `is_ollamas` keeps unknown ones to be shown.
pub(crate) fn parameter(
    settings: &mut Settings,
    name: &str,
    value: &str,
    is_ollamas: bool,
) -> Result<(), String> {
    let sampling = &mut settings.sampling;
    match name {
        // Written for other servers, whose contexts end elsewhere. 0 is theirs for "as you like".
        "NUM_CTX" => match count(value)? {
            0 => settings.context_tokens_max = None,
            tokens => {
                settings.context_tokens_max = Some(nearest_context(tokens));
                if let Err(reason) = check_context(tokens) {
                    settings.warnings.push(format!("{MODELFILE}, NUM_CTX: {reason}, used instead"));
                }
            }
        },
        // Ollama: -1 is no limit, -2 as much as the context holds; the same to us.
        "MAX_NEW_TOKENS" | "NUM_PREDICT" if value.starts_with('-') => {
            number(value)?;
            settings.tokens_max = None;
        }
        "MAX_NEW_TOKENS" | "NUM_PREDICT" => {
            settings.tokens_max = Some(check_tokens(count(value)?)?);
        }
        "TOP_K" => sampling.top_k = Some(count(value)?),
        "TEMPERATURE" => Knob::Temperature.set(sampling, number(value)?)?,
        "TOP_P" => Knob::TopP.set(sampling, number(value)?)?,
        "REPEAT_PENALTY" => Knob::RepeatPenalty.set(sampling, number(value)?)?,
        "FREQUENCY_PENALTY" => Knob::FrequencyPenalty.set(sampling, number(value)?)?,
        "PRESENCE_PENALTY" => Knob::PresencePenalty.set(sampling, number(value)?)?,
        "STOP" if is_ollamas => settings.presets.stop.push(value.to_owned()),
        _ if is_ollamas => {
            let value = json_of(value);
            let name = name.to_ascii_lowercase();
            settings.presets.parameters.retain(|(known, _)| *known != name);
            settings.presets.parameters.push((name, value));
        }
        _ => {}
    }
    Ok(())
}

/// A value as JSON text: a number or a switch as such, all else as a text.
pub(crate) fn json_of(value: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(json) if json.is_number() || json.is_boolean() => json.to_string(),
        _ => serde_json::Value::from(value).to_string(),
    }
}

pub(crate) fn number(value: &str) -> Result<f32, String> {
    value.parse().map_err(|_| format!("{value:?} is not a number"))
}

pub(crate) fn count(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{value:?} is not a whole number from 0"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rkllama_core::Sampling;
    use rstest::rstest;

    use super::*;

    fn sampling(text: &str) -> Sampling {
        parse(text).unwrap().sampling
    }

    const TEMPERATURE: Sampling = Sampling {
        temperature: Some(0.5),
        top_p: None,
        top_k: None,
        repeat_penalty: None,
        frequency_penalty: None,
        presence_penalty: None,
    };

    #[rstest]
    #[case::plain("TEMPERATURE=0.5")]
    #[case::quoted("TEMPERATURE=\"0.5\"")]
    #[case::single_quoted("TEMPERATURE='0.5'")]
    #[case::spaced("  TEMPERATURE = 0.5  ")]
    #[case::exported("export TEMPERATURE=0.5")]
    #[case::lower_case("temperature=0.5")]
    #[case::comments("# one\nTEMPERATURE=0.5 # two\n#TEMPERATURE=0.9")]
    #[case::quoted_with_comment("TEMPERATURE=\"0.5\" # \"0.7\"")]
    #[case::windows("\u{feff}SYSTEM=x\r\nTEMPERATURE=0.5\r\n")]
    #[case::last_wins("TEMPERATURE=0.1\nTEMPERATURE=0.5")]
    #[case::empty_says_nothing("TEMPERATURE=0.5\nTOP_K=\nTOP_P=\"\"")]
    #[case::value_over_lines("SYSTEM=\"a\nTEMPERATURE=0.9\nb\"\nTEMPERATURE=0.5")]
    #[case::open_quote("SYSTEM=\"it's\nTEMPERATURE=0.5\nX=don't")]
    #[case::escaped_quote("SYSTEM=\"a \\\" b\nTOP_K=3\n\"\nTEMPERATURE=0.5")]
    #[case::instruction("PARAMETER temperature 0.5")]
    #[case::instruction_quoted("parameter Temperature \"0.5\"")]
    #[case::tabs("PARAMETER\ttemperature\t0.5\t")]
    #[case::block(
        "TEMPLATE \"\"\"{{ if .System }}\nPARAMETER temperature 0.9\nTEMPERATURE=0.8\n\"\"\"\nPARAMETER temperature 0.5"
    )]
    #[case::block_with_quotes("SYSTEM \"\"\"He said \"no\".\n\"\"\"\nPARAMETER temperature 0.5")]
    #[case::other_instructions(
        "LICENSE MIT\nMESSAGE user Hi = there\nPARAMETER stop \"<|end|>\"\nPARAMETER temperature 0.5"
    )]
    #[case::noise("=== ?\n--\nPARAMETER\nPARAMETER temperature 0.5")]
    fn one_setting_is_read_however_it_is_written(#[case] text: &str) {
        assert_eq!(sampling(text), TEMPERATURE);
    }

    #[test]
    fn both_dialects_give_one_record() {
        let environment = "FROM=\"a b.rkllm\"\nHUGGINGFACE_PATH=\"org/repo\"\nTEMPERATURE=0.7\n\
            TOP_K=7\nTOP_P=0.5\nREPEAT_PENALTY=1.1\nFREQUENCY_PENALTY=0\nPRESENCE_PENALTY=-1\n\
            NUM_CTX=8192\nMAX_NEW_TOKENS=1024\nENABLE_THINKING=False\nMIROSTAT=0\n";
        let instructions = "# Modelfile\nFROM ./a b.rkllm\nPARAMETER temperature 0.7\n\
            PARAMETER top_k 7\nPARAMETER top_p 0.5\nPARAMETER repeat_penalty 1.1\n\
            PARAMETER frequency_penalty 0\nPARAMETER presence_penalty -1\n\
            PARAMETER num_ctx 8192\nPARAMETER num_predict 1024\n";
        let expected = Settings {
            file: Some("a b.rkllm".into()),
            context_tokens_max: Some(8192),
            tokens_max: Some(1024),
            sampling: Sampling {
                temperature: Some(0.7),
                top_p: Some(0.5),
                top_k: Some(7),
                repeat_penalty: Some(1.1),
                frequency_penalty: Some(0.0),
                presence_penalty: Some(-1.0),
            },
            ..Settings::default()
        };
        let with_base =
            Settings { base_repository: Some("org/repo".to_owned()), ..expected.clone() };
        assert_eq!(parse(environment).unwrap(), with_base);
        assert_eq!(parse(instructions).unwrap(), expected);
    }

    #[test]
    fn words_are_kept_as_well_as_numbers() {
        let text = "FROM x.rkllm\nSYSTEM \"\"\"Be\nbrief.\"\"\"\nTEMPLATE {{ .Prompt }}\nLICENSE MIT\n\
            LICENSE \"\"\"And\nmore\"\"\"\nMESSAGE user Hi = there\nMESSAGE assistant \"Yes?\"\n\
            PARAMETER stop \"<|end|>\"\nPARAMETER stop END\nPARAMETER mirostat 1\nPARAMETER mirostat 2\n\
            PARAMETER main_gpu x\n";
        let settings = parse(text).unwrap();
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let presets = settings.presets;
        assert_eq!(presets.system.as_deref(), Some("Be\nbrief."));
        assert_eq!(presets.go_template.as_deref(), Some("{{ .Prompt }}"));
        assert_eq!(presets.licenses, texts(&["MIT", "And\nmore"]));
        assert_eq!(presets.stop, texts(&["<|end|>", "END"]));
        let turns = [Message::new(Role::User, "Hi = there"), Message::new(Role::Assistant, "Yes?")];
        assert_eq!(presets.messages, turns);
        let kept = [("mirostat", "2"), ("main_gpu", "\"x\"")];
        assert_eq!(presets.parameters, kept.map(|(name, json)| (name.to_owned(), json.to_owned())));
        assert_eq!(parse("MODEL_TYPE=\"reranker\"").unwrap().kind, Some(Kind::Rerank));
        let jinja =
            parse("TEMPLATE=\"{% for m in messages %}{{ m.content }}{% endfor %}\"").unwrap();
        assert!(jinja.template.is_some() && jinja.presets.go_template.is_none());
    }

    #[rstest]
    #[case::other_step("FROM=x.rkllm\nNUM_CTX=5000", Some(4992), 1)]
    #[case::large("PARAMETER num_ctx 131072", Some(16_384), 1)]
    #[case::small("NUM_CTX=1", Some(32), 1)]
    #[case::as_you_like("NUM_CTX=0", None, 0)]
    #[case::fine("NUM_CTX=8192", Some(8192), 0)]
    fn a_context_of_other_servers_becomes_the_nearest(
        #[case] text: &str,
        #[case] context_tokens_max: Option<u32>,
        #[case] warnings: usize,
    ) {
        let settings = parse(text).unwrap();
        assert_eq!(settings.context_tokens_max, context_tokens_max);
        assert_eq!(settings.warnings.len(), warnings, "{:?}", settings.warnings);
    }

    #[rstest]
    #[case("MAX_NEW_TOKENS=-1")]
    #[case("PARAMETER num_predict -2")]
    fn a_negative_limit_is_none(#[case] text: &str) {
        assert_eq!(parse(text).unwrap(), Settings::default());
    }

    #[rstest]
    #[case::number("number", "\nTEMPERATURE=warm")]
    #[case::range("range", "# c\nPARAMETER top_p 1.5")]
    #[case::not_a_number("not_a_number", "TEMPERATURE=NaN")]
    #[case::whole("whole", "SYSTEM=\"\"\"a\nb\"\"\"\nTOP_K=1.5")]
    #[case::no_tokens("no_tokens", "MAX_NEW_TOKENS=0")]
    #[case::negative("negative", "MAX_NEW_TOKENS=-many")]
    #[case::parent("parent", "FROM=../other/x.rkllm")]
    #[case::hidden_parent("hidden_parent", "FROM ./a/../../x.rkllm")]
    #[case::absolute("absolute", "FROM /etc/passwd")]
    #[case::nul("nul", "FROM=\"x\0.rkllm\"")]
    #[case::folder("folder", "FROM .")]
    #[case::backslash("backslash", "FROM ..\\x.rkllm")]
    #[case::role("role", "MESSAGE boss Do it.")]
    #[case::kind("type", "MODEL_TYPE=image")]
    #[case::adapter("adapter", "ADAPTER ../lora.rkllm")]
    #[case::adapters("adapters", "ADAPTER ./a.rkllm\nADAPTER ./b.rkllm")]
    fn a_bad_value_is_named_with_its_line_and_key(#[case] name: &str, #[case] text: &str) {
        insta::assert_snapshot!(format!("modelfile_{name}"), parse(text).unwrap_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn any_likely_text_is_parsed_or_refused(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "FROM", "PARAMETER", "SYSTEM", " ", "\t", "=", "\"", "\"\"\"", "'", "\\", "\n",
                "\r\n", "#", "temperature", "NUM_CTX", "0.5", "4096", "export ", "é", "./x", "\0",
            ]), 0..30),
        ) {
            let _ = parse(&pieces.concat());
        }

        #[test]
        fn nothing_leaves_the_folder(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec!["..", ".", "a", "/", "/", "\\", "\0"]),
                1..8,
            ),
        ) {
            let path = pieces.concat();
            let parsed = parse(&format!("FROM={path}\nADAPTER={path}")).unwrap_or_default();
            for file in parsed.file.into_iter().chain(parsed.adapter.map(|it| it.file)) {
                let plain = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(file.components().all(plain), "{file:?}");
                prop_assert!(file.components().next().is_some());
            }
        }
    }
}
