//! A single file from any address: of the hub only the way of transferring is used.

use std::path::Path;

use crate::{
    HubConfig, HubError, Patience, RemoteFile,
    disk::disk_error,
    link::{Link, Question},
    part::{Part, folder_of},
    transfer::Transfer,
};

/// Brings what is at an address, `http://` or `https://`, to `path`, and its folder if there is
/// none. Redirects are followed; nobody's token is sent. A link that breaks is taken up again where
/// it broke, within the call: afterwards nobody could tell whether the content is still the same.
///
/// # Errors
/// [`HubError`]. Where the checksum is another than `sha256`, nothing is left.
pub async fn fetch_address(
    url: &str,
    sha256: Option<&str>,
    path: &Path,
    patience: Patience,
) -> Result<(), HubError> {
    let config = HubConfig { patience, ..HubConfig::default() };
    let link = Link::new(&config)?;
    let question = Question::at(url);
    let file = RemoteFile { path: url.to_owned(), bytes: 0, sha256: sha256.map(str::to_owned) };
    tokio::fs::create_dir_all(folder_of(path)).await.map_err(disk_error(path))?;
    let mut part = Part::open(path, "").await?;
    part.clear().await?;
    Transfer { link: &link, question, file: &file, path, bytes: None, progress: &mut |_| {} }
        .run(part)
        .await
}
