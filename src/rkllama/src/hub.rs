//! Where models come from on this machine.

use anyhow::{Context, bail};
use rkllama_models::{Catalog, HubConfig, Sources};

use crate::{
    board::{Chip, Root, chip},
    config::Config,
};

/// The hub as configuration and environment say, the short names, and the chip.
pub(crate) fn sources(config: &Config) -> anyhow::Result<Sources> {
    let section = &config.hub;
    let mut hub = HubConfig::from_env();
    if let Some(endpoint) = &section.endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            bail!("`hub.endpoint`: {endpoint:?} does not begin with http:// or https://");
        }
        hub.endpoint.clone_from(endpoint);
    }
    hub.is_offline = section.offline.unwrap_or(hub.is_offline);
    let mut catalog = Catalog::shipped().map_err(anyhow::Error::msg)?;
    if let Some(path) = &section.catalog {
        let path_shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("`hub.catalog`: {path_shown}"))?;
        let own = Catalog::parse(&text).map_err(anyhow::Error::msg);
        catalog = own.with_context(|| format!("`hub.catalog`: {path_shown}"))?.over(catalog);
    }
    let chip =
        section.chip.clone().or_else(|| chip::of(&Root::system()).as_ref().map(Chip::to_string));
    Ok(Sources { chip: chip.map(|chip| chip.to_lowercase()), hub, catalog })
}
