//! What is counted, and `GET /metrics`.
//!
//! The engine tells what happens through its port [`Observer`], the middleware [`crate::Observe`]
//! what was asked; no handler counts anything. Names: llama-server's (`llamacpp:`) over all models
//! together, vLLM's (`vllm:`) per model, which inference gateways and dashboards know, and our own
//! (`rkllama_`) for what neither has. A label's value is the id of an installed model or one of a
//! fixed set: what a client sends never becomes one.

mod exposition;
mod per_model;
mod process;
mod snapshot;
mod table;
mod totals;

use std::{collections::BTreeSet, sync::Arc};

use poem::http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text},
    metrics::{counter::Counter, family::Family, info::Info},
    registry::Registry,
};
use rkllama_core::{Engine, Happened, Models, Observer};

pub use exposition::Exposition;
use per_model::PerModel;
use snapshot::Snapshot;
use totals::Totals;

/// All counters of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<HttpLabels, Counter>,
    per_model: Arc<PerModel>,
    totals: Arc<Totals>,
}

/// An answer's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: &'static str,
    /// The pattern as the document writes it, or `-`; paths hold what clients like to put there.
    route: String,
    status: u16,
}

impl Metrics {
    /// Counters at zero, of a server of this version.
    pub fn new(version: &str) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version.to_owned())]);
        registry.register("rkllama_build", "The server's version", build);
        let requests = Family::default();
        registry.register(
            "rkllama_http_requests",
            "Requests by method, route and status; 499: the client left before an answer",
            requests.clone(),
        );
        let (per_model, totals) = (Arc::<PerModel>::default(), Arc::<Totals>::default());
        registry.register_collector(Box::new(Arc::clone(&totals)));
        registry.register_collector(Box::new(Arc::clone(&per_model)));
        Self { registry, requests, per_model, totals }
    }

    /// An HTTP request was answered.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: u16) {
        let labels = HttpLabels { method: known(method), route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
    }

    /// Everything, as it is now.
    pub fn exposition(&self, engine: &dyn Engine, models: &dyn Models) -> Exposition {
        let models = models.list();
        let residents = engine.residents();
        let installed: BTreeSet<&str> = models.iter().map(|model| model.id.as_str()).collect();
        let loaded = residents.iter().map(|resident| resident.model.as_str()).collect();
        self.per_model.settle(&installed, &loaded);
        let mut now = Registry::default();
        let snapshot = Snapshot::of(&models, &residents, engine.problems().len());
        now.register_collector(Box::new(snapshot));
        process::register(&mut now);
        let mut text = String::new();
        for registry in [&self.registry, &now] {
            // Writing to a string cannot fail.
            let _ = prometheus_text::encode(&mut text, registry);
        }
        Exposition(text)
    }
}

impl Observer for Metrics {
    fn observe(&self, model: &str, happened: &Happened<'_>) {
        self.per_model.observe(model, happened);
        self.totals.observe(happened);
    }
}

/// A method's name: those that are anything here, and one for what clients make up.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
