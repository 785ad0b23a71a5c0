//! `runtime fetch`: the vendor's library, on request, to where `serve` looks.
//!
//! The library is the vendor's and never shipped. Whatever comes is read before it is installed: a
//! library that this machine could not use takes no place among those that it can.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rkllama_hub::{HubError, Patience, fetch_address};
use rkllama_npu::inspect;
use sha2::{Digest, Sha256};

use crate::{
    cli::{FetchArgs, print},
    runtimes::{FILE_NAME, SYSTEM_FOLDER, own_folder},
};

/// Releases with the SHA-256 of the library for aarch64, newest first, as reported in public.
const KNOWN: [(&str, &str); 1] =
    [("1.3.1", "f25e9b099db08aaacd0a3ac62b4697d3951d6ae61ae41ea09f6702cfa89eb32c")];

/// A file that is to come.
#[derive(Debug)]
struct Wanted {
    url: String,
    version: Option<String>,
    sha256: Option<String>,
}

impl Wanted {
    fn read(args: &FetchArgs) -> anyhow::Result<Self> {
        if let Some(version) = args.version.as_deref().filter(|version| !is_version(version)) {
            bail!("{version:?} is no release: expected one such as {}", newest());
        }
        let sha256 = args.sha256.as_deref().map(read_sha256).transpose()?;
        let version = match (&args.version, &args.from) {
            (None, None) => Some(newest().to_owned()),
            (version, _) => version.clone(),
        };
        let url = match (&args.from, &version) {
            (Some(url), _) => url.clone(),
            (None, version) => vendors(version.as_deref().unwrap_or(newest())),
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("--from {url}: expected an address that begins with http:// or https://");
        }
        Ok(Self { url, sha256: sha256.or_else(|| known(version.as_deref()?)), version })
    }
}

/// Fetches, compares, reads, and only then installs.
pub(crate) fn fetch(args: &FetchArgs) -> anyhow::Result<()> {
    let wanted = Wanted::read(args)?;
    let folder = args.into.clone().unwrap_or_else(usual_folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // On the same filesystem, so that the last step is a rename.
    let place = tempfile::Builder::new().prefix(".incoming-").tempdir_in(&folder);
    let place = place.with_context(|| format!("cannot write into {}", folder.display()))?;
    let file = place.path().join(FILE_NAME);

    print(&format!("fetching {}", wanted.url))?;
    bring(&wanted, &file)?;
    let version = judge(&wanted, &file, args.trust)?;
    let installed = install(&file, &folder, &version)?;
    print(&format!("installed {}", installed.display()))?;
    print("a server that runs already sees it after `systemctl reload rkllama`, or SIGHUP")
}

fn bring(wanted: &Wanted, file: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start threads")?;
    let sha256 = wanted.sha256.as_deref();
    let fetched = fetch_address(&wanted.url, sha256, file, Patience::default());
    runtime.block_on(fetched).map_err(|error| words(&wanted.url, error))
}

/// In words that know of no hub.
fn words(url: &str, error: HubError) -> anyhow::Error {
    match error {
        HubError::NotFound { .. } => anyhow::anyhow!(
            "there is nothing at {url}: name another release, or an address with --from"
        ),
        HubError::Unauthorized { .. } | HubError::Gated { .. } => {
            anyhow::anyhow!("{url} is not for everybody: fetch it by hand")
        }
        HubError::Refused { status, .. } => anyhow::anyhow!("{url} answers with status {status}"),
        HubError::RateLimited { .. } => anyhow::anyhow!("{url} lets nobody ask more for now"),
        HubError::Unreachable { reason, .. } => anyhow::anyhow!("cannot fetch {url}: {reason}"),
        HubError::Malformed { reason, .. } => anyhow::anyhow!("{url} is no file: {reason}"),
        HubError::Mismatch { expected, got, .. } => anyhow::anyhow!(
            "what came from {url} has SHA-256 {got} instead of {expected}; nothing is installed"
        ),
        error @ (HubError::Offline
        | HubError::Size { .. }
        | HubError::TooLarge { .. }
        | HubError::Space { .. }
        | HubError::Disk { .. }) => error.into(),
    }
}

/// The release that came, if it may be installed.
fn judge(wanted: &Wanted, file: &Path, is_trusted: bool) -> anyhow::Result<String> {
    let sha256 = sha256_of(file)?;
    print(&format!("SHA-256 {sha256}"))?;
    let version = match inspect(file) {
        Ok(inspection) => inspection.version,
        // It names the file, which will be gone.
        Err(error) => {
            bail!("{}; nothing is installed", unnamed(&error.to_string(), file, &wanted.url))
        }
    };
    if let Some(other) = wanted.version.as_ref().filter(|it| **it != version) {
        bail!("{} is release {version}, not {other}; nothing is installed", wanted.url);
    }
    match (&wanted.sha256, known(&version)) {
        (Some(_), _) => {}
        (None, Some(expected)) if expected == sha256 => {}
        // A file that says it is a release and is another one is worse than an unknown one.
        (None, Some(expected)) => bail!(
            "release {version} is known with SHA-256 {expected}; nothing is installed. \
             If the one above is right, say so with --sha256 {sha256}"
        ),
        (None, None) if is_trusted => {}
        (None, None) => bail!(
            "no SHA-256 is known to this program for release {version}; nothing is installed. \
             If the one above is right, say so with --sha256 {sha256}, or with --trust"
        ),
    }
    Ok(version)
}

fn unnamed(text: &str, file: &Path, url: &str) -> String {
    text.replace(&file.display().to_string(), url)
}

/// Gives the file its place beside other releases. A process that has the old one open keeps it.
fn install(file: &Path, folder: &Path, version: &str) -> anyhow::Result<PathBuf> {
    let place = folder.join(version);
    let installed = place.join(FILE_NAME);
    let move_there = || {
        fs::create_dir_all(&place)?;
        readable_by_all(file)?;
        fs::rename(file, &installed)
    };
    move_there().with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(installed)
}

/// The service reads what root fetched.
fn readable_by_all(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))
}

fn usual_folder() -> PathBuf {
    if rustix::process::geteuid().is_root() { SYSTEM_FOLDER.into() } else { own_folder() }
}

/// Where the vendor publishes a release, with the name of the tag in its repository.
fn vendors(version: &str) -> String {
    format!(
        "https://github.com/airockchip/rknn-llm/raw/release-v{version}/rkllm-runtime/Linux/\
         librkllm_api/aarch64/{FILE_NAME}"
    )
}

const fn newest() -> &'static str {
    KNOWN[0].0
}

fn known(version: &str) -> Option<String> {
    let (_, sha256) = KNOWN.iter().find(|(known, _)| *known == version)?;
    Some((*sha256).to_owned())
}

/// It becomes a part of an address and of a path.
fn is_version(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    is_plain && text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains("..")
}

fn read_sha256(text: &str) -> anyhow::Result<String> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("--sha256: expected 64 hexadecimal digits");
    }
    Ok(text.to_ascii_lowercase())
}

fn sha256_of(file: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(file).context("cannot read what came")?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(version: Option<&str>, from: Option<&str>) -> FetchArgs {
        FetchArgs {
            version: version.map(str::to_owned),
            from: from.map(str::to_owned),
            sha256: None,
            trust: false,
            into: None,
        }
    }

    #[test]
    fn without_a_word_it_is_the_newest_that_is_known_and_its_hash_is_demanded() {
        let wanted = Wanted::read(&args(None, None)).unwrap();
        assert!(wanted.url.contains("/release-v1.3.1/") && wanted.url.starts_with("https://"));
        assert_eq!(wanted.version.as_deref(), Some("1.3.1"));
        assert_eq!(wanted.sha256.as_deref(), Some(KNOWN[0].1));
    }

    #[test]
    fn a_release_that_is_not_known_has_no_hash_and_an_address_of_its_own_no_release() {
        let wanted = Wanted::read(&args(Some("1.2.3"), None)).unwrap();
        assert!(wanted.url.contains("/release-v1.2.3/") && wanted.sha256.is_none());
        let wanted = Wanted::read(&args(None, Some("https://a.example/lib.so"))).unwrap();
        assert!(wanted.version.is_none() && wanted.sha256.is_none());
    }

    #[test]
    fn what_is_no_release_no_address_or_no_hash_is_refused() {
        for version in ["../1.3.1", "1.3.1/..", "", "v1", "1..2", "1 2"] {
            assert!(Wanted::read(&args(Some(version), None)).is_err(), "{version:?}");
        }
        for from in ["ftp://a.example/x", "file:///etc/passwd", "/lib.so"] {
            assert!(Wanted::read(&args(None, Some(from))).is_err(), "{from}");
        }
        for sha256 in ["", "f25e", &"x".repeat(64)] {
            let sha256 = Some(sha256.to_owned());
            assert!(Wanted::read(&FetchArgs { sha256, ..args(None, None) }).is_err());
        }
    }
}
