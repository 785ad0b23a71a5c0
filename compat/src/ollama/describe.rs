//! Lists and descriptions of models.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use rkllama_core::{Adapter, LoadState, Model, ModelTraits, Resident};
use rkllama_http::{ApiError, JsonObject};
use serde_json::{Map, Value};

use super::{
    failure::bad,
    settings::settings,
    store_wire::PresetMessage,
    wire::{Capability, Details, ProcessModel, Processes, Show, Tags, TagsModel},
};
use crate::{
    State,
    card::{Card, Config, digest, moment, moment_in, moment_of_s},
    names::listed,
};

/// What clients read as "for ever": no date of theirs goes beyond it.
const FOREVER: Duration = Duration::from_secs(292 * 365 * 86_400);
/// What is said of a model that answers at the moment: when it leaves is not known yet.
const WHILE_BUSY: Duration = Duration::from_secs(300);
/// The name of a family for models that are made for vectors, by which clients know them.
const EMBEDDING_FAMILY: &str = "bert";

fn details(model: &Model, card: &Card, with_context: bool) -> Details {
    let mut families = vec![card.family.clone()];
    if model.pooling.is_some() && card.family != EMBEDDING_FAMILY {
        families.push(EMBEDDING_FAMILY.to_owned());
    }
    Details {
        parent_model: model.presets.parent.clone().unwrap_or_default(),
        format: "rkllm".to_owned(),
        family: card.family.clone(),
        families,
        parameter_size: card.parameter_size(),
        quantization_level: card.quantization.clone(),
        context_length: with_context.then_some(model.context_tokens_max),
    }
}

/// What the model is made for.
fn made_for(model: &Model) -> Capability {
    if model.pooling.is_some() { Capability::Embedding } else { Capability::Completion }
}

fn capabilities(model: &Model, traits: &ModelTraits) -> Vec<Capability> {
    let mut all = vec![made_for(model)];
    if model.pooling.is_none() {
        let has = [
            (traits.tools, Capability::Tools),
            (traits.infill, Capability::Insert),
            (traits.vision, Capability::Vision),
            (traits.pointing, Capability::GuiActor),
            (traits.thinking, Capability::Thinking),
        ];
        all.extend(has.into_iter().filter_map(|(has, what)| has.then_some(what)));
    }
    all
}

/// The models, the latest first. Touches no disk.
pub(super) fn tags(state: &State) -> Tags {
    let mut models = state.models.list();
    models.sort_by_key(|model| Reverse(model.created_s));
    let entry = |model: &Model| TagsModel {
        name: listed(model),
        model: listed(model),
        modified_at: moment_of_s(model.created_s),
        size: model.weights_bytes,
        digest: digest(model),
        details: details(model, &Card::of(model), true),
        capabilities: vec![made_for(model)],
    };
    Tags { models: models.iter().map(|model| entry(model)).collect() }
}

/// The models that are loaded, the one that stays longest first.
pub(crate) fn processes(state: &State) -> Processes {
    let models = state.models.list();
    let loaded = state.engine.residents();
    let loaded = loaded.into_iter().filter(|it| !matches!(it.state, LoadState::Loading(_)));
    let entry = |resident: Resident| {
        let model = models.iter().find(|model| model.id == resident.model)?;
        Some(ProcessModel {
            name: listed(model),
            model: listed(model),
            size: resident.memory_bytes,
            digest: digest(model),
            details: details(model, &Card::of(model), false),
            expires_at: leaves_at(&resident),
            size_vram: resident.memory_bytes,
            context_length: model.context_tokens_max,
        })
    };
    let mut models: Vec<ProcessModel> = loaded.filter_map(entry).collect();
    models.sort_by(|a, b| b.expires_at.cmp(&a.expires_at));
    Processes { models }
}

fn leaves_at(resident: &Resident) -> String {
    match (resident.expires, resident.state) {
        (Some(at), _) => {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let at = Timestamp::UNIX_EPOCH.checked_add(jiff::SignedDuration::from_nanos(
                i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            ));
            moment(at.unwrap_or(Timestamp::MAX))
        }
        (None, LoadState::Busy | LoadState::Loading(_)) => moment_in(WHILE_BUSY),
        (None, LoadState::Idle) => moment_in(FOREVER),
    }
}

/// All about a model. `basename` is what its client calls it, where that is to be shown.
pub(super) fn show(
    model: &Model,
    traits: &ModelTraits,
    basename: Option<&str>,
) -> Result<Show, ApiError> {
    let config = traits.config.as_deref().and_then(Config::read);
    let card = Card::with_config(model, config.as_ref());
    let presets = &model.presets;
    let template = presets.go_template.clone().unwrap_or_else(|| template(traits));
    let parameters = parameters(model);
    let lines = parameters.iter().map(|(name, value)| format!("{name:<30} {value}"));
    let lines: Vec<String> = lines.collect();
    let messages = presets.messages.iter().map(|message| PresetMessage {
        role: message.role.as_str().to_owned(),
        content: message.content.clone(),
    });
    let info = model_info(model, &card, config.as_ref(), basename);
    let settings = settings(model, traits);
    let is_setting = |name: &str| settings.iter().any(|setting| setting.name == name);
    let origins = presets.origins.iter().filter(|(name, _)| !is_setting(name));
    Ok(Show {
        modelfile: modelfile(model, &template, &parameters),
        license: (!presets.licenses.is_empty()).then(|| presets.licenses.join("\n")),
        origins: Some(origins.cloned().collect())
            .filter(|origins: &BTreeMap<_, _>| !origins.is_empty()),
        settings,
        system: presets.system.clone(),
        messages: Some(messages.collect()).filter(|messages: &Vec<_>| !messages.is_empty()),
        parameters: (!lines.is_empty()).then(|| lines.join("\n")),
        template,
        details: details(model, &card, false),
        model_info: JsonObject::of(&info).map_err(|error| bad(error.to_string()))?,
        capabilities: capabilities(model, traits),
        modified_at: moment_of_s(model.created_s),
    })
}

/// The model in the words of a Modelfile.
fn modelfile(model: &Model, template: &str, parameters: &[(String, String)]) -> String {
    let (name, presets) = (listed(model), &model.presets);
    let file = model.weights.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut text = format!(
        "# Modelfile generated by \"rkllama show\"\n# To build a new Modelfile based on this, \
         replace FROM with:\n# FROM {name}\n\nFROM {file}\n"
    );
    let adapter = model.adapter.as_ref().and_then(|it| it.file.file_name()?.to_str());
    let mut say = |words: &str, value: &str| {
        text.push_str(&format!("{words} {}\n", quoted(value)));
    };
    if let Some(adapter) = adapter {
        say("ADAPTER", adapter);
    }
    say("TEMPLATE", template);
    if let Some(system) = &presets.system {
        say("SYSTEM", system);
    }
    for (name, value) in parameters {
        say(&format!("PARAMETER {name}"), value);
    }
    for license in &presets.licenses {
        say("LICENSE", license);
    }
    for message in &presets.messages {
        say(&format!("MESSAGE {}", message.role.as_str()), &message.content);
    }
    text
}

/// A value, in quotes where it would not be read back without.
fn quoted(value: &str) -> String {
    let is_plain = !value.contains('\n') && value.trim() == value && !value.is_empty();
    let is_quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
    if is_plain && (is_quoted || !value.starts_with('"')) {
        return value.to_owned();
    }
    format!("\"\"\"{value}\"\"\"")
}

/// The template as it is, which is Jinja. Clients look for the names that Go templates have for what
/// a model can do; those stand in front.
fn template(traits: &ModelTraits) -> String {
    let names = [(traits.tools, ".Tools"), (traits.infill, ".Suffix")];
    let names: Vec<&str> =
        names.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
    if names.is_empty() {
        return traits.template.clone();
    }
    format!("{{{{- /* {} */ -}}}}\n{}", names.join(" "), traits.template)
}

/// What is said of the model about sampling and limits, texts in quotes.
fn parameters(model: &Model) -> Vec<(String, String)> {
    let (sampling, presets) = (&model.sampling, &model.presets);
    let decimal = |value: Option<f32>| value.map(|value| value.to_string());
    let all = [
        ("temperature", decimal(sampling.temperature)),
        ("top_p", decimal(sampling.top_p)),
        ("top_k", sampling.top_k.map(|k| k.to_string())),
        ("repeat_penalty", decimal(sampling.repeat_penalty)),
        ("frequency_penalty", decimal(sampling.frequency_penalty)),
        ("presence_penalty", decimal(sampling.presence_penalty)),
        ("num_predict", model.tokens_max.map(|tokens| tokens.to_string())),
        ("num_ctx", Some(model.context_tokens_max.to_string())),
    ];
    let all = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let stop =
        presets.stop.iter().map(|text| ("stop".to_owned(), Value::from(text.as_str()).to_string()));
    all.chain(stop).chain(presets.parameters.iter().cloned()).collect()
}

fn model_info(
    model: &Model,
    card: &Card,
    config: Option<&Config>,
    basename: Option<&str>,
) -> Value {
    let architecture = &card.family;
    let mut info = Map::new();
    info.insert("general.architecture".to_owned(), architecture.clone().into());
    info.insert("general.basename".to_owned(), basename.unwrap_or(&model.id).into());
    if let Some(count) = card.parameter_count {
        info.insert("general.parameter_count".to_owned(), count.into());
    }
    let context = u64::from(model.context_tokens_max);
    info.insert(format!("{architecture}.context_length"), context.into());
    let sizes = [
        ("embedding_length", "hidden_size"),
        ("block_count", "num_hidden_layers"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("feed_forward_length", "intermediate_size"),
        ("vocab_size", "vocab_size"),
    ];
    for (name, key) in sizes {
        if let Some(size) = config.and_then(|config| config.number(key)) {
            info.insert(format!("{architecture}.{name}"), size.into());
        }
    }
    if let Some(Adapter { file, scale, .. }) = &model.adapter {
        let file = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        info.insert("adapter.type".to_owned(), "lora".into());
        info.insert("adapter.file".to_owned(), file.into());
        // As it is written: a wider number would show what the narrower one rounds off.
        let scale = scale.to_string().parse::<f64>().unwrap_or(1.0);
        info.insert("adapter.scale".to_owned(), scale.into());
    }
    Value::Object(info)
}

#[cfg(test)]
mod tests {
    use rkllama_core::{ModelState, Pooling, Sampling};

    use super::*;

    fn model() -> Model {
        Model {
            vision: None,
            adapter: None,
            id: "Qwen3-0.6B".to_owned(),
            created_s: 0,
            weights: "/models/Qwen3-0.6B/Qwen3-0.6B_w8a8.rkllm".into(),
            weights_bytes: 0,
            memory_bytes: None,
            context_tokens_max: 4096,
            sampling: Sampling { temperature: Some(0.6), top_k: Some(20), ..Sampling::default() },
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            presets: rkllama_core::Presets::default(),
            state: ModelState::Ready,
        }
    }

    #[test]
    fn sizes_come_from_the_models_own_file_and_are_not_made_up() {
        let config = r#"{"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28}"#;
        let traits = ModelTraits { config: Some(config.to_owned()), ..ModelTraits::default() };
        let info = show(&model(), &traits, None).unwrap().model_info;
        let info: Value = serde_json::from_str(info.text()).unwrap();
        assert_eq!(
            info,
            serde_json::json!({
                "general.architecture": "qwen3",
                "general.basename": "Qwen3-0.6B",
                "general.parameter_count": 600_000_000,
                "qwen3.context_length": 4096,
                "qwen3.embedding_length": 1024,
                "qwen3.block_count": 28,
            })
        );
        let bare = show(&model(), &ModelTraits::default(), Some("as asked")).unwrap().model_info;
        assert!(!bare.text().contains("embedding_length"), "{}", bare.text());
        assert!(bare.text().contains("\"general.basename\":\"as asked\""), "{}", bare.text());
    }

    #[test]
    fn every_line_of_parameters_is_a_name_and_a_value() {
        let shown = show(&model(), &ModelTraits::default(), None).unwrap();
        assert_eq!(
            shown.parameters.as_deref(),
            Some(
                "temperature                    0.6\ntop_k                          20\n\
                 num_ctx                        4096"
            )
        );
    }

    #[test]
    fn clients_find_what_they_look_for_in_the_template() {
        let traits = ModelTraits {
            template: "{{ messages }}".to_owned(),
            tools: true,
            infill: true,
            ..ModelTraits::default()
        };
        let shown = show(&model(), &traits, None).unwrap();
        assert!(shown.template.contains(".Tools") && shown.template.contains(".Suffix"));
        assert!(shown.template.ends_with("{{ messages }}"));
        assert_eq!(
            shown.capabilities,
            [Capability::Completion, Capability::Tools, Capability::Insert]
        );
    }

    #[test]
    fn a_model_for_vectors_is_known_by_its_family() {
        let model = Model { pooling: Some(Pooling::Last), ..model() };
        let shown = show(&model, &ModelTraits::default(), None).unwrap();
        assert_eq!(shown.details.families, ["qwen3", "bert"]);
        assert_eq!(shown.capabilities, [Capability::Embedding]);
    }
}
