//! The wire types: what clients that compare texts send and get. `///` comments here are published.

use poem_openapi::{Enum, Object, types::Example};
use rkllama_http::{JsonObject, document_one_of, read_from_object};
use serde::{Deserialize, Serialize};

/// Documents to be compared with a query, as Jina's, Cohere's and Hugging Face's clients send them.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "RerankRequest", example, skip_serializing_if_is_none)]
pub struct RerankRequest {
    /// The model. Where absent: the server's fallback, else the only reranker there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What is looked for.
    pub query: Option<String>,
    /// Where it is looked for: 1 to 2048. One that is too long for the context loses its end.
    #[oai(nullable)]
    pub documents: Option<Vec<Document>>,
    /// The same, as clients of Hugging Face's inference server send it, which then get its shape.
    #[oai(nullable)]
    pub texts: Option<Vec<String>>,
    /// How many of the best are told. Default: all.
    #[oai(nullable)]
    pub top_n: Option<u64>,
    /// Whether each result has its document. Default false.
    #[oai(nullable)]
    pub return_documents: Option<bool>,
    /// The same for `texts`.
    #[oai(nullable)]
    pub return_text: Option<bool>,
    /// What it means to answer the query. Default: the words of the model's makers.
    #[oai(nullable)]
    pub instruction: Option<String>,
}

impl Example for RerankRequest {
    fn example() -> Self {
        let text = |text: &str| Document::Text(text.to_owned());
        Self {
            query: Some("What is the capital of France?".to_owned()),
            documents: Some(vec![
                text("Paris is the capital of France."),
                text("Bananas are yellow."),
            ]),
            ..Self::default()
        }
    }
}

/// A document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text, or an object with `text`")]
pub enum Document {
    /// Its text.
    Text(String),
    /// An object with its text.
    Object(DocumentText),
}

document_one_of!(Document, "A text, or an object that has one.", [String, DocumentText]);

impl Document {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Object(object) => object.text,
        }
    }
}

/// A document's text.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
#[oai(rename = "RerankDocument")]
pub struct DocumentText {
    /// The text.
    pub text: String,
}

/// Documents in the order of their relevance.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "RerankResponse", skip_serializing_if_is_none)]
pub struct Ranking {
    /// The answer's id.
    pub id: String,
    /// Always `list`.
    pub object: ListObject,
    /// The model that compared.
    pub model: String,
    /// The best first.
    pub results: Vec<Ranked>,
    /// What was read.
    pub usage: RerankUsage,
    /// What Cohere's clients look for.
    pub meta: Meta,
}

/// Always `list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename = "RerankListObject", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ListObject {
    /// The only value.
    List,
}

/// A document's place.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "RerankResult", skip_serializing_if_is_none)]
pub struct Ranked {
    /// Its place in the request.
    pub index: u64,
    /// From 0 to 1: the model's probability that it answers the query.
    pub relevance_score: f64,
    /// The document, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentText>,
}

/// Tokens that were read.
#[derive(Debug, Clone, Copy, Default, Object, Serialize, Deserialize)]
#[oai(rename = "RerankUsage")]
pub struct RerankUsage {
    /// Of query and documents, with the frame around each.
    pub prompt_tokens: u64,
    /// The same.
    pub total_tokens: u64,
}

/// What Cohere's clients look for.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "RerankMeta")]
pub struct Meta {
    /// Whose API this is.
    pub api_version: ApiVersion,
}

/// Whose API this is.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "RerankApiVersion")]
pub struct ApiVersion {
    /// `2`.
    pub version: String,
}

/// A text's place, in the shape of Hugging Face's inference server.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "RankedText", skip_serializing_if_is_none)]
pub struct RankedText {
    /// Its place in the request.
    pub index: u64,
    /// From 0 to 1.
    pub score: f64,
    /// The text, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Documents, or texts, in the order of their relevance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RankingAnswer {
    /// Of a request with `documents`.
    Documents(Ranking),
    /// Of a request with `texts`.
    Texts(Vec<RankedText>),
}

document_one_of!(
    RankingAnswer,
    "The documents with what was read; of a request with `texts` an array.",
    [Ranking, Vec<RankedText>]
);

/// Documents to be compared, as the old RKLLama's scripts send them (`prompt`), or as above (`query`).
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "LegacyRerankRequest", example, skip_serializing_if_is_none)]
pub struct LegacyRerankRequest {
    /// The model's name.
    #[oai(nullable)]
    pub model: Option<String>,
    /// What is looked for. The answer has `scores`.
    #[oai(nullable)]
    pub prompt: Option<String>,
    /// What is looked for. The answer has `results`.
    #[oai(nullable)]
    pub query: Option<String>,
    /// Where it is looked for.
    #[oai(nullable)]
    pub documents: Option<Vec<Document>>,
    /// How many of the best are told, with `query`. Default: all.
    #[oai(nullable)]
    pub top_n: Option<u64>,
    /// What it means to answer the query. Default: the words of the model's makers.
    #[oai(nullable)]
    pub instruction: Option<String>,
    /// Ignored but for `task_instruction`, which is as `instruction`.
    #[oai(nullable)]
    pub options: Option<JsonObject>,
}

impl Example for LegacyRerankRequest {
    fn example() -> Self {
        Self {
            model: Some("reranker".to_owned()),
            prompt: Some("What is the capital of France?".to_owned()),
            documents: Some(vec![Document::Text("Paris is the capital of France.".to_owned())]),
            ..Self::default()
        }
    }
}

/// Documents with their scores.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "LegacyRerankResponse")]
pub struct LegacyScores {
    /// The best first.
    pub scores: Vec<LegacyScore>,
}

/// A document with its score.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(rename = "LegacyRerankScore")]
pub struct LegacyScore {
    /// The document.
    pub document: String,
    /// From 0 to 1.
    pub score: f64,
}

/// Documents in the order of their relevance, in the shape that was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LegacyRanking {
    /// Of a request with `prompt`.
    Scores(LegacyScores),
    /// Of a request with `query`.
    Ranking(Ranking),
}

document_one_of!(
    LegacyRanking,
    "With `prompt` the scores, with `query` a ranking.",
    [LegacyScores, Ranking]
);

/// Pairs of texts to be compared, as vLLM's clients send them.
#[derive(Debug, Clone, Default, Object, Deserialize)]
#[serde(remote = "Self")]
#[oai(rename = "ScoreRequest", example, skip_serializing_if_is_none)]
pub struct ScoreRequest {
    /// The model. Where absent: the server's fallback, else the only reranker there is.
    #[oai(nullable)]
    pub model: Option<String>,
    /// A text, or several: the first of each pair. One stands for all.
    pub text_1: Option<Texts>,
    /// A text, or several: the second of each pair.
    pub text_2: Option<Texts>,
}

impl Example for ScoreRequest {
    fn example() -> Self {
        let several = ["Paris is the capital of France.", "Bananas are yellow."];
        Self {
            model: None,
            text_1: Some(Texts::One("What is the capital of France?".to_owned())),
            text_2: Some(Texts::Several(several.map(str::to_owned).to_vec())),
        }
    }
}

/// A text or several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text or several")]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

document_one_of!(Texts, "A text, or several.", [String, Vec<String>]);

impl Texts {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

/// How near the texts of each pair are.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "ScoreResponse")]
pub struct Scores {
    /// The answer's id.
    pub id: String,
    /// Always `list`.
    pub object: ListObject,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model that compared.
    pub model: String,
    /// One for each pair, in their order.
    pub data: Vec<ScoreData>,
    /// What was read.
    pub usage: RerankUsage,
}

/// How near the texts of a pair are.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "ScoreData")]
pub struct ScoreData {
    /// The pair's place.
    pub index: u64,
    /// Always `score`.
    pub object: ScoreObject,
    /// Of a reranker from 0 to 1: how well the second text answers the first. Of a model for vectors
    /// from -1 to 1: the cosine of their angle.
    pub score: f64,
}

/// Always `score`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename = "ScoreObject", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum ScoreObject {
    /// The only value.
    Score,
}

read_from_object!(RerankRequest, LegacyRerankRequest, ScoreRequest);
