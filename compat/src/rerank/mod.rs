//! Texts compared with texts: Jina's, Cohere's, Hugging Face's, vLLM's and the old RKLLama's routes.

pub mod wire;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use poem_openapi::{ApiResponse, OpenApi, Tags};
use rkllama_core::{EmbedInput, EmbedRequest, EngineError, Model, Relevance};
use rkllama_http::{ApiError, ApiJson, Caller, Failure, Statuses};
use uuid::Uuid;

use self::wire::{
    ApiVersion, Document, DocumentText, LegacyRanking, LegacyRerankRequest, LegacyScore,
    LegacyScores, ListObject, Meta, Ranked, RankedText, Ranking, RankingAnswer, RerankRequest,
    RerankUsage, ScoreData, ScoreObject, ScoreRequest, Scores,
};
use crate::{
    State,
    llama_server::{self, wire::ErrorBody},
    ollama,
};

/// The beginnings of its paths.
pub(crate) const PATHS: [&str; 4] = ["/rerank", "/v1/rerank", "/v2/rerank", "/v1/score"];
/// Most texts of a request; each is a run of its own.
const TEXTS_MAX: usize = 2048;

#[derive(Tags)]
enum Tag {
    /// Texts compared with texts.
    Rerank,
}

/// The operations.
pub struct RerankApi {
    state: State,
}

/// The statuses with which a comparison fails.
struct RerankStatuses;

impl Statuses for RerankStatuses {
    type Body = ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 501, 503];
}

/// The same, on Ollama's side.
struct ApiStatuses;

impl Statuses for ApiStatuses {
    type Body = ollama::wire::ErrorBody;
    const STATUSES: &'static [u16] = &[400, 401, 404, 408, 413, 429, 500, 503];
}

#[derive(ApiResponse)]
enum RankingReply {
    /// The documents, the best first; for a request with `texts` an array.
    #[oai(status = 200)]
    Ok(ApiJson<RankingAnswer>),
}

#[derive(ApiResponse)]
enum LegacyReply {
    /// The documents, the best first.
    #[oai(status = 200)]
    Ok(ApiJson<LegacyRanking>),
}

#[derive(ApiResponse)]
enum ScoresReply {
    /// The scores.
    #[oai(status = 200)]
    Ok(ApiJson<Scores>),
}

impl RerankApi {
    /// The operations at work.
    pub(crate) const fn new(state: State) -> Self {
        Self { state }
    }

    async fn ranking(
        &self,
        wire: RerankRequest,
        client: Arc<str>,
    ) -> Result<RankingAnswer, ApiError> {
        let model = self.model(wire.model.as_deref())?;
        let are_texts = wire.texts.is_some();
        let documents = match (wire.documents, wire.texts) {
            (None, Some(texts)) => texts,
            (documents, None) => {
                documents.unwrap_or_default().into_iter().map(Document::into_text).collect()
            }
            (Some(_), Some(_)) => return Err(bad("texts", "it stands for `documents`: not both")),
        };
        let field = if are_texts { "texts" } else { "documents" };
        let query = wire.query.ok_or_else(|| bad("query", "it must be provided"))?;
        check(&documents, field)?;
        let tells = wire.return_documents.or(wire.return_text).unwrap_or(false);
        let shown = if tells { documents.clone() } else { Vec::new() };
        let asked = rkllama_core::RerankRequest {
            model: Arc::clone(&model),
            query,
            documents,
            instruction: wire.instruction,
            keep_alive: None,
            client,
        };
        let found = self.state.engine.rerank(asked).await.map_err(llama_server::engine)?;
        let order = best(&found, wire.top_n);
        if are_texts {
            let text = |(at, found): (usize, Relevance)| RankedText {
                index: at as u64,
                score: found.score,
                text: shown.get(at).cloned(),
            };
            return Ok(RankingAnswer::Texts(order.into_iter().map(text).collect()));
        }
        Ok(RankingAnswer::Documents(ranking(&model, &found, order, &shown)))
    }

    /// The model that compares documents with queries.
    fn model(&self, name: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let found = self.state.fallback.for_reranking(name, &*self.state.models);
        let model = found.map_err(llama_server::unresolved)?;
        if model.reranks.is_some() {
            return Ok(model);
        }
        Err(llama_server::not_supported(&format!(
            "model '{}' is no reranker; if it is one, its rkllama.toml has to say `type = \"rerank\"`",
            model.id
        )))
    }

    /// Of each pair how well the second text answers the first.
    async fn answers(
        &self,
        model: &Arc<Model>,
        pairs: Vec<(String, String)>,
        client: Arc<str>,
    ) -> Result<Vec<Relevance>, EngineError> {
        let mut scores = Vec::with_capacity(pairs.len());
        let mut pairs = pairs.into_iter().peekable();
        while let Some((query, document)) = pairs.next() {
            let mut documents = vec![document];
            while let Some((_, document)) = pairs.next_if(|(other, _)| *other == query) {
                documents.push(document);
            }
            let asked = rkllama_core::RerankRequest {
                model: Arc::clone(model),
                query,
                documents,
                instruction: None,
                keep_alive: None,
                client: Arc::clone(&client),
            };
            scores.extend(self.state.engine.rerank(asked).await?);
        }
        Ok(scores)
    }

    /// Of each pair the cosine of their vectors' angle.
    async fn cosines(
        &self,
        model: &Arc<Model>,
        pairs: Vec<(String, String)>,
        client: Arc<str>,
    ) -> Result<Vec<Relevance>, EngineError> {
        let (firsts, seconds): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
        let is_one = firsts.windows(2).all(|two| two[0] == two[1]);
        let firsts = if is_one { firsts.into_iter().take(1).collect() } else { firsts };
        let count = firsts.len();
        let asked = EmbedRequest {
            model: Arc::clone(model),
            inputs: firsts.into_iter().chain(seconds).map(EmbedInput::Text).collect(),
            are_queries: false,
            truncate: false,
            keep_alive: None,
            client,
        };
        let vectors = self.state.engine.embed(asked).await.map_err(|failed| failed.error)?;
        let (firsts, seconds) = vectors.split_at(count);
        let score = |(at, second): (usize, &rkllama_core::Embedding)| {
            let first = if is_one { firsts.first()? } else { firsts.get(at)? };
            let both = first.vector.iter().zip(&second.vector);
            let score = both.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let read_with = if is_one && at > 0 { 0 } else { first.tokens };
            Some(Relevance { score, tokens: second.tokens + read_with })
        };
        Ok(seconds.iter().enumerate().filter_map(score).collect())
    }
}

fn bad(field: &str, words: &str) -> ApiError {
    llama_server::bad(field, words)
}

fn check(documents: &[String], field: &str) -> Result<(), ApiError> {
    match documents.len() {
        0 => Err(bad(field, "at least one must be provided")),
        1..=TEXTS_MAX => Ok(()),
        many => Err(bad(field, &format!("{many} are more than {TEXTS_MAX}"))),
    }
}

/// The best first, of equal ones the one that came first.
fn best(found: &[Relevance], top_n: Option<u64>) -> Vec<(usize, Relevance)> {
    let mut order: Vec<(usize, Relevance)> = found.iter().copied().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
    let count = top_n.and_then(|n| usize::try_from(n).ok()).unwrap_or(order.len());
    order.truncate(count);
    order
}

fn usage(found: &[Relevance]) -> RerankUsage {
    let tokens = found.iter().map(|it| u64::from(it.tokens)).sum();
    RerankUsage { prompt_tokens: tokens, total_tokens: tokens }
}

fn ranking(
    model: &Model,
    found: &[Relevance],
    order: Vec<(usize, Relevance)>,
    shown: &[String],
) -> Ranking {
    let ranked = |(at, found): (usize, Relevance)| Ranked {
        index: at as u64,
        relevance_score: found.score,
        document: shown.get(at).map(|text| DocumentText { text: text.clone() }),
    };
    Ranking {
        id: format!("rerank-{}", Uuid::new_v4().simple()),
        object: ListObject::List,
        model: model.id.clone(),
        results: order.into_iter().map(ranked).collect(),
        usage: usage(found),
        meta: Meta { api_version: ApiVersion { version: "2".to_owned() } },
    }
}

/// The texts of each pair.
fn pairs(wire: ScoreRequest) -> Result<Vec<(String, String)>, ApiError> {
    let missing = |field| move || bad(field, "it must be provided");
    let firsts = wire.text_1.ok_or_else(missing("text_1"))?.into_vec();
    let seconds = wire.text_2.ok_or_else(missing("text_2"))?.into_vec();
    check(&firsts, "text_1")?;
    check(&seconds, "text_2")?;
    match (firsts.as_slice(), seconds.len()) {
        ([one], _) => Ok(seconds.into_iter().map(|second| (one.clone(), second)).collect()),
        (many, count) if many.len() == count => Ok(firsts.into_iter().zip(seconds).collect()),
        _ => Err(bad("text_1", "one, or as many as there are in `text_2`")),
    }
}

#[OpenApi]
impl RerankApi {
    /// Order documents by their relevance
    ///
    /// Each is a run of the model: its probability that the document answers the query. A closed
    /// connection cancels.
    #[oai(path = "/v1/rerank", method = "post", operation_id = "rerank", tag = "Tag::Rerank")]
    async fn rerank(
        &self,
        caller: Caller,
        body: ApiJson<RerankRequest>,
    ) -> Result<RankingReply, Failure<RerankStatuses>> {
        Ok(RankingReply::Ok(ApiJson(self.ranking(body.0, caller.0).await?)))
    }

    /// Order documents by their relevance
    ///
    /// As `/v1/rerank`, where Cohere's clients ask.
    #[oai(path = "/v2/rerank", method = "post", operation_id = "rerankV2", tag = "Tag::Rerank")]
    async fn rerank_v2(
        &self,
        caller: Caller,
        body: ApiJson<RerankRequest>,
    ) -> Result<RankingReply, Failure<RerankStatuses>> {
        Ok(RankingReply::Ok(ApiJson(self.ranking(body.0, caller.0).await?)))
    }

    /// Order documents by their relevance
    ///
    /// As `/v1/rerank`, where clients of llama-server and of Hugging Face's inference server ask.
    #[oai(path = "/rerank", method = "post", operation_id = "rerankPlain", tag = "Tag::Rerank")]
    async fn rerank_plain(
        &self,
        caller: Caller,
        body: ApiJson<RerankRequest>,
    ) -> Result<RankingReply, Failure<RerankStatuses>> {
        Ok(RankingReply::Ok(ApiJson(self.ranking(body.0, caller.0).await?)))
    }

    /// Order documents by their relevance
    ///
    /// For old scripts: with `prompt` the answer has `scores`, with `query` it is as that of
    /// `/v1/rerank`.
    #[oai(
        path = "/api/rerank",
        method = "post",
        operation_id = "legacyRerank",
        tag = "Tag::Rerank"
    )]
    async fn rerank_legacy(
        &self,
        caller: Caller,
        body: ApiJson<LegacyRerankRequest>,
    ) -> Result<LegacyReply, Failure<ApiStatuses>> {
        Ok(LegacyReply::Ok(ApiJson(self.legacy(body.0, caller.0).await?)))
    }

    /// Score pairs of texts
    ///
    /// By a reranker, or by a model for vectors.
    #[oai(path = "/v1/score", method = "post", operation_id = "score", tag = "Tag::Rerank")]
    async fn score(
        &self,
        caller: Caller,
        body: ApiJson<ScoreRequest>,
    ) -> Result<ScoresReply, Failure<RerankStatuses>> {
        let name = body.0.model.as_deref();
        let found = self.state.fallback.for_reranking(name, &*self.state.models);
        let model = found.map_err(llama_server::unresolved)?;
        let pairs = pairs(body.0)?;
        let found = match (model.reranks, model.pooling) {
            (None, Some(_)) => self.cosines(&model, pairs, caller.0).await,
            _ => {
                let model = self.model(Some(&model.id))?;
                self.answers(&model, pairs, caller.0).await
            }
        };
        let found = found.map_err(llama_server::engine)?;
        let data = |(at, found): (usize, &Relevance)| ScoreData {
            index: at as u64,
            object: ScoreObject::Score,
            score: found.score,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(ScoresReply::Ok(ApiJson(Scores {
            id: format!("score-{}", Uuid::new_v4().simple()),
            object: ListObject::List,
            created: now.as_secs(),
            model: model.id.clone(),
            data: found.iter().enumerate().map(data).collect(),
            usage: usage(&found),
        })))
    }
}

impl RerankApi {
    async fn legacy(
        &self,
        wire: LegacyRerankRequest,
        client: Arc<str>,
    ) -> Result<LegacyRanking, ApiError> {
        let model = ollama::model_of(&self.state, wire.model)?;
        if model.reranks.is_none() {
            return Err(ollama::bad(format!(
                "model '{}' is no reranker; if it is one, its rkllama.toml has to say `type = \"rerank\"`",
                model.id
            )));
        }
        let is_old = wire.query.is_none();
        let query = wire.query.or(wire.prompt).ok_or_else(|| ollama::bad("query is required"))?;
        let documents = wire.documents.unwrap_or_default();
        let documents: Vec<String> = documents.into_iter().map(Document::into_text).collect();
        if documents.is_empty() && is_old {
            return Ok(LegacyRanking::Scores(LegacyScores { scores: Vec::new() }));
        }
        check(&documents, "documents").map_err(|error| ollama::bad(error.message))?;
        let of_options = || {
            let options = wire.options.as_ref()?;
            let options: serde_json::Value = serde_json::from_str(options.text()).ok()?;
            options.get("task_instruction")?.as_str().map(str::to_owned)
        };
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let instruction = said(wire.instruction).or_else(|| said(of_options()));
        let asked = rkllama_core::RerankRequest {
            model: Arc::clone(&model),
            query,
            documents: documents.clone(),
            instruction,
            keep_alive: None,
            client,
        };
        let found = self.state.engine.rerank(asked).await.map_err(ollama::engine)?;
        let order = best(&found, wire.top_n.filter(|_| !is_old));
        if !is_old {
            return Ok(LegacyRanking::Ranking(ranking(&model, &found, order, &[])));
        }
        let score = |(at, found): (usize, Relevance)| {
            Some(LegacyScore { document: documents.get(at)?.clone(), score: found.score })
        };
        let scores = order.into_iter().filter_map(score).collect();
        Ok(LegacyRanking::Scores(LegacyScores { scores }))
    }
}
