//! One question to the hub: its answer's head judged, its body as a stream that cannot stall.

use std::{error::Error, path::PathBuf, time::Duration};

use futures_util::{Stream, stream};
use hf_hub::{
    Cache, Repo, RepoType,
    api::tokio::{Api, ApiBuilder, ApiError},
};
use tokio::time::timeout;

use crate::{
    HubConfig, HubError, Patience, RemoteFile, Repository,
    attempts::Fault,
    repository::{encode, encode_path},
};

/// The way to the hub.
pub(crate) struct Link {
    api: Api,
    endpoint: String,
    shown_endpoint: String,
    pub(crate) patience: Patience,
}

/// What is asked for.
pub(crate) struct Question {
    url: String,
    /// As errors call it.
    pub(crate) what: String,
    /// Where a person can read about it.
    page: String,
}

impl Question {
    /// For what lies at an address.
    pub(crate) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), what: url.to_owned(), page: url.to_owned() }
    }
}

/// What comes of it.
pub(crate) struct Answer<Body> {
    /// Where in the file the body begins.
    pub(crate) start: u64,
    /// The length of the whole file, where told.
    pub(crate) bytes: Option<u64>,
    pub(crate) body: Body,
}

impl Link {
    /// Fails where the token holds what no header can.
    pub(crate) fn new(config: &HubConfig) -> Result<Self, HubError> {
        let token = config.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        let token = token.map(str::to_owned);
        // The cache is not used. `hf-hub` panics for the default one where there is no home.
        let api = ApiBuilder::from_cache(Cache::new(PathBuf::from("/dev/null/hub")))
            .with_endpoint(config.endpoint().to_owned())
            .with_token(token)
            .with_progress(false)
            .with_user_agent("rkllama", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(cannot_start)?;
        let (endpoint, shown_endpoint) = (config.endpoint().to_owned(), config.shown_endpoint());
        Ok(Self { api, endpoint, shown_endpoint, patience: config.patience.clone() })
    }

    /// What a repository holds.
    pub(crate) fn about_repository(&self, id: &str, revision: Option<&str>) -> Question {
        let what = match revision {
            Some(revision) => format!("{id} at {revision}"),
            None => id.to_owned(),
        };
        let repo = repo(id, revision.unwrap_or("main"));
        let url = format!("{}/api/{}?blobs=true", self.endpoint, repo.api_url());
        Question { url, what, page: self.page(id) }
    }

    /// The content of a file.
    pub(crate) fn about_file(&self, repository: &Repository, file: &RemoteFile) -> Question {
        let Repository { id, revision, .. } = repository;
        let url = self.api.repo(repo(id, revision)).url(&encode_path(&file.path));
        Question { url, what: format!("{id}/{}", file.path), page: self.page(id) }
    }

    fn page(&self, id: &str) -> String {
        format!("{}/{id}", self.shown_endpoint)
    }

    /// Asks once, for what comes after the first `from` bytes.
    pub(crate) async fn ask(
        &self,
        question: &Question,
        from: u64,
    ) -> Result<Answer<impl Stream<Item = Result<impl AsRef<[u8]> + use<>, Fault>> + use<>>, Fault>
    {
        let client = self.api.client();
        // Lengths and ranges are those of the file, not of a compressed form.
        let mut request = client.get(&question.url).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let unreachable = |reason| HubError::Unreachable { what: question.what.clone(), reason };
        let request = request.build().map_err(|err| unreachable(words(&err.without_url())))?;
        let asked = (request.url().host_str().map(str::to_owned), request.url().port());

        let head_within = self.patience.connect_timeout;
        let response = timeout(head_within, client.execute(request))
            .await
            .map_err(|_| Fault::passing(format!("no answer within {}", seconds(head_within))))?
            .map_err(|err| match (err.is_redirect(), words(&err.without_url())) {
                (true, reason) => Fault::Final(unreachable(reason)),
                (false, reason) => Fault::Passing { reason },
            })?;

        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let is_hubs =
            (response.url().host_str(), response.url().port()) == (asked.0.as_deref(), asked.1);
        let head = Head { status: response.status().as_u16(), is_hubs, header: &header };
        let (start, bytes) = head.judge(question, from)?;

        let stall = self.patience.stall_timeout;
        let body = stream::try_unfold(response, move |mut response| async move {
            match timeout(stall, response.chunk()).await {
                Ok(Ok(chunk)) => Ok(chunk.map(|chunk| (chunk, response))),
                Ok(Err(err)) => Err(Fault::Passing { reason: words(&err.without_url()) }),
                Err(_) => Err(Fault::passing(format!("not a byte for {}", seconds(stall)))),
            }
        });
        Ok(Answer { start, bytes, body })
    }
}

fn repo(id: &str, revision: &str) -> Repo {
    Repo::with_revision(id.to_owned(), RepoType::Model, encode(revision))
}

fn cannot_start(err: ApiError) -> HubError {
    let what = "anything".to_owned();
    match err {
        ApiError::InvalidHeaderValue(_) => HubError::Unauthorized { what },
        err => HubError::Unreachable { what, reason: err.to_string() },
    }
}

/// The head of an answer.
struct Head<'a> {
    status: u16,
    /// Whether it comes from where it was asked for, and not from where the hub sends its clients
    /// for content.
    is_hubs: bool,
    header: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

impl Head<'_> {
    /// Where the body begins and how long the file is, where there is one.
    fn judge(&self, question: &Question, from: u64) -> Result<(u64, Option<u64>), Fault> {
        let what = question.what.clone();
        // The hub's own word is finer than the status.
        let code = (self.header)("x-error-code");
        if code.as_deref() == Some("GatedRepo") {
            return Err(HubError::Gated { what, page: question.page.clone() }.into());
        }
        Err(match self.status {
            200 => return Ok((0, self.number("content-length"))),
            206 => return self.range(from),
            // Links to content run out; the next attempt gets a new one.
            401 | 403 if !self.is_hubs && code.is_none() => {
                Fault::passing(format!("status {}", self.status))
            }
            401 => HubError::Unauthorized { what }.into(),
            403 => HubError::Gated { what, page: question.page.clone() }.into(),
            404 => HubError::NotFound { what }.into(),
            408 | 500.. => Fault::passing(format!("status {}", self.status)),
            416 if from > 0 => Fault::Useless { reason: "status 416".to_owned() },
            429 => Fault::Limited { retry_after: self.retry_after() },
            status @ 400.. => HubError::Refused { what, status }.into(),
            status => HubError::Malformed { what, reason: format!("status {status}") }.into(),
        })
    }

    fn range(&self, from: u64) -> Result<(u64, Option<u64>), Fault> {
        let range = (self.header)("content-range").unwrap_or_default();
        match read_range(&range) {
            Some((start, bytes)) if start == from => Ok((start, bytes)),
            _ => Err(Fault::Useless { reason: format!("not the range asked for: {range:?}") }),
        }
    }

    /// The seconds of `Retry-After`, or those of the hub's `RateLimit: "api";r=0;t=55`.
    fn retry_after(&self) -> Option<Duration> {
        let limit = (self.header)("ratelimit").unwrap_or_default();
        let mut fields = limit.split(';').map(str::trim);
        let reset_s = fields.find_map(|field| field.strip_prefix("t=")?.parse().ok());
        self.number("retry-after").or(reset_s).map(Duration::from_secs)
    }

    fn number(&self, name: &str) -> Option<u64> {
        (self.header)(name)?.trim().parse().ok()
    }
}

/// The start and the whole of `bytes 5-9/10`.
fn read_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, whole) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.trim().parse().ok()?, whole.trim().parse().ok()))
}

/// An error with its causes. The address is taken out before: that of content is signed.
fn words(err: &dyn Error) -> String {
    let mut words = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        words = format!("{words}: {err}");
        cause = err.source();
    }
    words
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f32())
}
