//! `cp`, `rm` and `stop`: what is done to the models of a server.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;

use super::{Client, Refused, is_absent, runtime};
use crate::cli::{self, CpArgs, RmArgs, StopArgs};

/// Gives a model another name too.
pub(crate) fn cp(args: &CpArgs) -> anyhow::Result<()> {
    let CpArgs { server, source, destination } = args;
    super::block_on(async {
        let client = Client::new(server)?;
        let body = json!({ "source": source, "destination": destination });
        client.send(client.post("/api/copy").json(&body)).await?;
        cli::print(&format!("copied '{source}' to '{destination}'"))
    })
}

/// Removes models. One that cannot be removed keeps none of the others from it.
pub(crate) fn rm(args: &RmArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let client = Client::new(&args.server)?;
        let mut code = ExitCode::SUCCESS;
        for model in &args.models {
            let body = json!({ "model": model });
            match client.send(client.delete("/api/delete").json(&body)).await {
                Ok(_) => cli::print(&format!("deleted '{model}'"))?,
                Err(error) if error.is::<Refused>() => {
                    cli::complain(&error);
                    code = ExitCode::FAILURE;
                }
                // Nobody to ask about the others.
                Err(error) => return Err(error),
            }
        }
        Ok(code)
    })
}

/// Unloads a model.
pub(crate) fn stop(args: &StopArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let client = Client::new(&args.server)?;
        let body = json!({ "model": args.model, "keep_alive": 0 });
        match client.send(client.post("/api/generate").json(&body)).await {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => {
                bail!("couldn't find model {:?} to stop", args.model)
            }
            Err(error) => Err(error),
        }
    })
}
