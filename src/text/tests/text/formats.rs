//! Which formats a model writes is told by its template, and may be said instead.

use std::{env, fs};

use rkllama_text::{Codec, Formats, ReasoningFormat, ToolFormat};
use rstest::rstest;

use crate::support::{Tiny, real_codec};

/// A template that writes tools and calls down, with a family's marks in what it tells the model.
fn with_marks(marks: &str) -> String {
    format!(
        "{{% for t in tools or [] %}}{{{{ t | tojson }}}}{{% endfor %}}{{{{ '{}' }}}}\
         {{% for m in messages %}}{{{{ m.role }}}}: {{{{ m.content }}}}{{% for c in m.tool_calls or [] %}}\
         {{{{ c.function | tojson }}}}{{% endfor %}}\n{{% endfor %}}",
        marks.replace('\'', "\\'")
    )
}

#[rstest]
#[case::hermes("<tool_call>\\n{\"name\": <function-name>}\\n</tool_call>", "hermes")]
#[case::qwen_coder("<tool_call>\\n<function=f>\\n<parameter=p>", "qwen_xml")]
#[case::llama("Respond with {\"name\": f, \"parameters\": {}} <|start_header_id|>", "llama3")]
#[case::llama_tag("<|start_header_id|><|python_tag|>", "llama3")]
#[case::pythonic("[func_name1(params_name1=params_value1)]", "pythonic")]
#[case::mistral("[AVAILABLE_TOOLS][TOOL_CALLS]", "mistral")]
#[case::magistral("[TOOL_CALLS]f[ARGS]", "mistral_args")]
#[case::deepseek("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "deepseek")]
#[case::functiongemma("<start_function_call>call:", "functiongemma")]
#[case::gemma4("<|tool_call>call:f{}<tool_call|>", "gemma4")]
#[case::phi4("<|tool|><|/tool|>", "phi4")]
#[case::functools("functools[{}]", "functools")]
#[case::granite("<|start_of_role|><|tool_call|>", "granite")]
#[case::granite4("<|start_of_role|><tool_call>", "hermes")]
#[case::internlm("<|action_start|><|plugin|>", "internlm")]
#[case::minicpm("<|tool_call_start|>", "minicpm")]
#[case::minicpm5("<function name=\"f\"><param name=\"p\">", "minicpm5")]
#[case::glm4("<|observation|>", "glm4")]
#[case::glm45("<tool_call>f<arg_key>k</arg_key><|observation|>", "glm45")]
#[case::functionary("<|python_tag|><function=f>{}</function>", "functionary")]
#[case::functionary3(">>>all", "functionary3")]
#[case::xlam("You are developed by Salesforce xLAM team", "xlam")]
#[case::gpt_oss("<|channel|>commentary<|message|>", "gpt_oss")]
#[case::nobody_knows("Call like this: CALL f", "generic")]
fn a_familys_marks_tell_how_it_calls(#[case] marks: &str, #[case] expected: &str) {
    let capabilities = *Tiny::bare().template(&with_marks(marks)).codec().capabilities();
    assert!(capabilities.tools);
    assert_eq!(capabilities.tool_format.to_string(), expected);
}

#[rstest]
#[case::think("<think>", "think")]
#[case::only_its_end("{{ m.content.split('</think>')[-1] }}", "think")]
#[case::mistral("[THINK]", "mistral")]
#[case::kimi("◁think▷", "kimi")]
#[case::minicpm3("<|thought_start|>", "minicpm3")]
#[case::granite("Here is my thought process:", "granite")]
#[case::gemma4("<|channel>thought<channel|>", "gemma4")]
#[case::gpt_oss("<|channel|>analysis<|message|>", "harmony")]
#[case::none("nothing", "none")]
fn a_familys_marks_tell_how_it_thinks(#[case] marks: &str, #[case] expected: &str) {
    let capabilities = *Tiny::bare().template(&with_marks(marks)).codec().capabilities();
    assert_eq!(capabilities.reasoning_format.to_string(), expected);
}

#[test]
fn a_vocabulary_made_for_thinking_tells_it_too() {
    let tiny = Tiny::bare().token("<think>", false, false).token("</think>", false, false);
    let capabilities = *tiny.template("{{ messages[0].content }}").codec().capabilities();
    assert_eq!(capabilities.reasoning_format, ReasoningFormat::Think);
}

#[test]
fn what_is_said_wins_over_the_template() {
    let files = Tiny::bare().template(&with_marks("<tool_call> <think>")).files();
    let formats = Formats {
        tools: Some("mistral".parse().unwrap()),
        reasoning: Some("none".parse().unwrap()),
    };
    let capabilities = *Codec::with_formats(&files, formats).unwrap().capabilities();
    assert_eq!(capabilities.tool_format, ToolFormat::Mistral);
    assert_eq!(capabilities.reasoning_format, ReasoningFormat::None);
}

#[test]
fn what_a_manifest_names_wins_over_the_template() {
    let mut files = Tiny::bare().template(&with_marks("<tool_call> <think>")).files();
    files.tool_format = Some("LLAMA3".to_owned());
    files.reasoning_format = Some("none".to_owned());
    let capabilities = *Codec::new(&files).unwrap().capabilities();
    assert_eq!(capabilities.tool_format, ToolFormat::Llama3);
    assert_eq!(capabilities.reasoning_format, ReasoningFormat::None);
}

#[rstest]
#[case::tools("tool_format")]
#[case::reasoning("reasoning_format")]
fn a_format_nobody_knows_is_named_with_those_there_are(#[case] key: &str) {
    let mut files = Tiny::chatml().template("{{ messages[0].content }}").files();
    match key {
        "tool_format" => files.tool_format = Some("morse".to_owned()),
        _ => files.reasoning_format = Some("morse".to_owned()),
    }
    let error = Codec::new(&files).unwrap_err().to_string();
    for part in ["rkllama.toml", key, "morse", "mistral"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[rstest]
#[case("qwen3", true, "hermes", "think", true)]
#[case("llama3_1", false, "generic", "none", false)]
#[case("gemma3", false, "generic", "none", false)]
fn real_families_are_known(
    #[case] name: &'static str,
    #[case] tools: bool,
    #[case] tool_format: &str,
    #[case] reasoning: &str,
    #[case] switch: bool,
) {
    let Some(codec) = real_codec(name) else { return };
    let found = codec.capabilities();
    assert_eq!(found.tools, tools);
    assert_eq!(found.tool_format.to_string(), tool_format);
    assert_eq!(found.reasoning_format.to_string(), reasoning);
    assert_eq!(found.thinking_switch, switch);
    assert_eq!(found.reasoning(), reasoning != "none");
}

#[test]
fn special_tokens_are_needed_where_they_mark_calls() {
    let mistral = Tiny::bare().special("[TOOL_CALLS]").special("[INST]").special("</s>");
    let codec = mistral.template(&with_marks("[INST][TOOL_CALLS]")).codec();
    assert!(codec.needs_special_tokens());
    assert_eq!(codec.special_text(256), Some("[TOOL_CALLS]"));
    assert_eq!(codec.special_text(257), Some(""), "marks of the conversation are no text");
    assert_eq!(codec.special_text(258), Some(""), "neither is the end");
    assert_eq!(codec.special_text(65), None, "an ordinary token");

    let qwen = Tiny::chatml().token("<tool_call>", false, false);
    let codec = qwen.template(&with_marks("<tool_call>")).codec();
    assert!(!codec.needs_special_tokens());
    assert_eq!(codec.special_text(259), None, "not special: the runtime writes it");
}

/// A look at templates of other people: `TEMPLATES_DIR=… cargo test -p rkllama-text --test text
/// formats::other_templates -- --ignored --nocapture`.
#[test]
#[ignore = "a look at templates that are not here"]
fn other_templates() {
    let folder = env::var_os("TEMPLATES_DIR").unwrap();
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let template = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let tiny = Tiny::chatml().template(&template).config("bos_token", "<s>".into());
        match Codec::new(&tiny.config("eos_token", "</s>".into()).files()) {
            Ok(codec) => {
                let found = codec.capabilities();
                println!(
                    "{name}: tools {}, {}, {}, switch {} {:?}",
                    found.tools,
                    found.tool_format,
                    found.reasoning_format,
                    found.thinking_switch,
                    codec.warnings()
                );
            }
            Err(err) => println!("{name}: {err}"),
        }
    }
}
