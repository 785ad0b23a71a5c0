//! Images that questions name by an address.
//!
//! Whoever may ask a question could otherwise make this server ask anything in its own network: the
//! router's page, another service on this machine, a cloud's credentials. So nothing is fetched unless
//! the operator allows it, and then from public addresses only. The address that was checked is the one
//! that is connected to (a name may answer differently the second time), and every redirect is checked
//! anew. What comes is bytes; whether they are an image is for the decoder to say.

mod public;

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use reqwest_tls::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::LOCATION,
    redirect::Policy,
};

use rkllama_core::{Fetching, ImageFetch};
use tokio::sync::Semaphore;

use crate::config::Images;

/// Why an image could not be fetched: the end of a sentence that begins with the image. Says nothing
/// about the network that this server is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("is given as an address, which this server does not fetch: send it as a data URL")]
    NotAllowed,
    #[error("has an address that cannot be used: {reason}")]
    BadUrl { reason: &'static str },
    #[error("has an address that is not public")]
    NotPublic,
    #[error("is redirected more than {redirects_max} times")]
    TooManyRedirects { redirects_max: usize },
    #[error("has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("cannot be fetched: its server answers {status}")]
    Status { status: u16 },
    #[error("cannot be fetched within {seconds} seconds")]
    TimedOut { seconds: u64 },
    #[error("cannot be fetched: {reason}")]
    Failed { reason: &'static str },
}

/// Which addresses may be connected to.
type Permits = fn(IpAddr) -> bool;

/// Fetches images, within limits.
#[derive(Debug, Clone)]
pub(crate) struct ImageFetcher {
    http: Client,
    permits: Permits,
    limits: Images,
    /// One for each image that may be on its way.
    places: Arc<Semaphore>,
}

impl ImageFetch for ImageFetcher {
    fn fetch(&self, url: String) -> Fetching {
        let fetcher = self.clone();
        Box::pin(async move {
            // Its own, which takes the address and not the text.
            Self::fetch(&fetcher, &url).await.map_err(|error| error.to_string())
        })
    }
}

impl ImageFetcher {
    /// A fetcher of images from public addresses.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn new(limits: Images) -> anyhow::Result<Self> {
        Self::with_permits(limits, public::is_public)
    }

    fn with_permits(limits: Images, permits: Permits) -> anyhow::Result<Self> {
        let http = Client::builder()
            .dns_resolver(Arc::new(CheckedNames { permits }))
            // The environment's proxy would resolve names by itself.
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("rkllama/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let places = Arc::new(Semaphore::new(limits.fetches_max.get()));
        Ok(Self { http, permits, limits, places })
    }

    /// What lies at an address.
    ///
    /// # Errors
    /// If that is not allowed, does not come in time, or is more than an image may be.
    pub(crate) async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        if !self.limits.allow_urls {
            return Err(FetchError::NotAllowed);
        }
        let url = Url::parse(url).map_err(|_| FetchError::BadUrl { reason: "it is no URL" })?;
        let seconds = self.limits.timeout_s;
        let fetched = async {
            // Waiting for others counts as fetching: no request hangs longer than it says.
            let place = self.places.acquire().await;
            let _place = place.map_err(|_| FetchError::Failed { reason: "the server stops" })?;
            self.follow(url).await
        };
        tokio::time::timeout(Duration::from_secs(seconds), fetched)
            .await
            .map_err(|_| FetchError::TimedOut { seconds })?
    }

    async fn follow(&self, mut url: Url) -> Result<Bytes, FetchError> {
        let redirects_max = self.limits.redirects_max;
        for _ in 0..=redirects_max {
            self.check(&url)?;
            let response = self.http.get(url.clone()).send().await.map_err(in_our_words)?;
            match next(&url, &response)? {
                Some(there) => url = there,
                None => return self.read(response).await,
            }
        }
        Err(FetchError::TooManyRedirects { redirects_max })
    }

    /// What an address says by itself. Names are checked when they are resolved; numbers, in whatever
    /// form, are addresses after parsing and never resolved.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::BadUrl { reason: "it is neither http nor https" });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::BadUrl { reason: "it holds a user's name or password" });
        }
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) if !(self.permits)(address) => Err(FetchError::NotPublic),
            _ => Ok(()),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Bytes, FetchError> {
        let status = response.status();
        if !status.is_success() {
            return Err(FetchError::Status { status: status.as_u16() });
        }
        let bytes_max = self.limits.bytes_max;
        let promised = response.content_length().unwrap_or_default();
        if promised > bytes_max as u64 {
            return Err(FetchError::TooLarge { bytes_max });
        }
        // Not as much as was promised: that costs its sender nothing.
        let mut image = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(in_our_words)? {
            if image.len() + chunk.len() > bytes_max {
                return Err(FetchError::TooLarge { bytes_max });
            }
            image.extend_from_slice(&chunk);
        }
        Ok(image.freeze())
    }
}

/// Where a response sends us, if it does.
fn next(url: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let there = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
    let there = there.and_then(|place| url.join(place).ok());
    there.map(Some).ok_or(FetchError::Failed { reason: "it is redirected to nowhere" })
}

/// The system's resolver, whose answer counts only if every address in it may be connected to.
struct CheckedNames {
    permits: Permits,
}

#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that is not public")]
struct NotPublic;

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let permits = self.permits;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| !permits(address.ip())) {
                return Err(NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn in_our_words(error: reqwest_tls::Error) -> FetchError {
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(one) = cause {
        if one.is::<NotPublic>() {
            return FetchError::NotPublic;
        }
        cause = one.source();
    }
    let reason =
        if error.is_connect() { "its server cannot be reached" } else { "the transfer broke off" };
    FetchError::Failed { reason }
}

#[cfg(test)]
mod tests;
