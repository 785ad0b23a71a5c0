//! Instructions reach the model whatever its template thinks of system messages.

use std::time::{Duration, SystemTime};

use rkllama_core::{Chat, EngineError, Message, Role};
use rkllama_text::{RenderOptions, TextError};
use rstest::rstest;

use crate::support::{CHATML, Tiny};

const NO_SYSTEM: &str = "\
{% for m in messages %}
{%- if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{{- m.role + ': ' + m.content + '\n' }}
{%- endfor %}";

fn conversation(turns: &[(Role, &str)]) -> Chat {
    Chat::new(turns.iter().map(|(role, content)| Message::new(*role, *content)).collect())
}

fn render(template: &str, turns: &[(Role, &str)]) -> Result<String, TextError> {
    let codec = Tiny::chatml().template(template).codec();
    let options = RenderOptions { add_generation_prompt: false, ..RenderOptions::default() };
    codec.render(&conversation(turns), &options).map(|rendered| rendered.text().into_owned())
}

#[rstest]
#[case::first(&[(Role::System, "S"), (Role::User, "U")], "user: S\n\nU\n")]
#[case::several(&[(Role::System, "S"), (Role::Developer, "D"), (Role::User, "U")], "user: S\n\nD\n\nU\n")]
#[case::in_between(
    &[(Role::User, "U"), (Role::Assistant, "A"), (Role::System, "S"), (Role::User, "V")],
    "user: U\nassistant: A\nuser: S\n\nV\n"
)]
#[case::at_the_end(
    &[(Role::User, "U"), (Role::Assistant, "A"), (Role::System, "S")],
    "user: U\nassistant: A\nuser: S\n"
)]
#[case::alone(&[(Role::System, "S")], "user: S\n")]
fn refused_instructions_stand_before_the_users_words(
    #[case] turns: &[(Role, &str)],
    #[case] expected: &str,
) {
    assert_eq!(render(NO_SYSTEM, turns).unwrap(), expected);
}

#[test]
fn a_refusal_comes_in_the_templates_own_words() {
    let turns = [(Role::User, "U"), (Role::User, "V")];
    let reason = "Roles must alternate".to_owned();
    assert_eq!(render(NO_SYSTEM, &turns), Err(TextError::Template { reason: reason.clone() }));
    let with_system = [(Role::System, "S"), (Role::User, "U"), (Role::User, "V")];
    let err = render(NO_SYSTEM, &with_system).unwrap_err();
    assert_eq!(err.of_model("m"), EngineError::Template { reason }, "what is still wrong");
}

#[test]
fn a_refusal_inside_a_macro_keeps_its_words() {
    let template = "{% macro m(x) %}{{ raise_exception('No ' ~ x) }}{% endmacro %}{% for i in [1] %}{{ m('way') }}{% endfor %}";
    let reason = "No way".to_owned();
    assert_eq!(render(template, &[(Role::User, "U")]), Err(TextError::Template { reason }));
}

#[test]
fn developer_is_system_unless_the_template_knows_it() {
    let turns = [(Role::Developer, "D"), (Role::User, "U")];
    let rendered = render(CHATML, &turns).unwrap();
    assert!(rendered.starts_with("<|im_start|>system\nD<|im_end|>"), "{rendered}");
    let knowing = format!("{CHATML}{{# developer #}}");
    let rendered = render(&knowing, &turns).unwrap();
    assert!(rendered.starts_with("<|im_start|>developer\nD<|im_end|>"), "{rendered}");
}

#[test]
fn a_failing_template_says_where() {
    let err =
        render("{{ messages[0].content }}\n{{ messages[0].tool.name }}", &[(Role::User, "U")]);
    insta::assert_snapshot!(err.unwrap_err());
}

#[test]
fn without_a_template_chatml_is_used_where_the_vocabulary_has_it() {
    let codec = Tiny::chatml().codec();
    let turns = conversation(&[(Role::System, "S"), (Role::User, "U")]);
    let rendered = codec.render(&turns, &RenderOptions::default()).unwrap();
    insta::assert_snapshot!(rendered.text(), @r"
    <|im_start|>system
    S<|im_end|>
    <|im_start|>user
    U<|im_end|>
    <|im_start|>assistant
    ");
    assert_eq!(codec.eos_ids(), [257]);
}

#[test]
fn the_date_is_that_of_the_options() {
    let template = "{{ strftime_now('%d %b %Y %H:%M') }}";
    let codec = Tiny::chatml().template(template).codec();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_753_660_799);
    let options = RenderOptions { now, ..RenderOptions::default() };
    let rendered = codec.render(&conversation(&[(Role::User, "U")]), &options).unwrap();
    assert_eq!(rendered.text(), "27 Jul 2025 23:59");
}
