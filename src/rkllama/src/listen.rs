//! The sockets to listen on.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, lookup_host};

/// Binds every address; a name may stand for several (`localhost`: IPv4 and IPv6).
///
/// Beyond this machine only with keys, or by the operator's explicit word: else whoever reaches
/// the port can use the NPU.
pub(crate) async fn bind(
    addresses: &[String],
    may_be_open: bool,
) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let resolved: Vec<SocketAddr> = lookup_host(address)
            .await
            .with_context(|| format!("cannot listen on `{address}`"))?
            .collect();
        for socket in resolved {
            permit(socket, may_be_open)?;
            let listener = TcpListener::bind(socket)
                .await
                .with_context(|| format!("cannot listen on {socket}"))?;
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

/// Whether everybody who reaches this address may be let in.
pub(crate) fn permit(socket: SocketAddr, may_be_open: bool) -> anyhow::Result<()> {
    if !socket.ip().is_loopback() && !may_be_open {
        bail!(
            "refusing to listen on {socket}: anyone who reaches it could use the server; \
             give it keys (`auth.keys` or `auth.keys_file` in the configuration, \
             RKLLAMA_AUTH__KEYS=name:secret), or set `auth.allow_anonymous = true` \
             (RKLLAMA_AUTH__ALLOW_ANONYMOUS=true) if that is meant"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(address: &str) -> String {
        format!("{:#}", bind(&[address.to_owned()], false).await.unwrap_err())
    }

    #[tokio::test]
    async fn the_world_is_let_in_only_on_request() {
        assert!(refusal("0.0.0.0:0").await.contains("refusing to listen on 0.0.0.0:0"));
        assert!(refusal("[::]:0").await.contains("allow_anonymous"));
        assert_eq!(bind(&["0.0.0.0:0".to_owned()], true).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_bound_is_named() {
        assert!(refusal("8080").await.contains("`8080`"));
        let taken = bind(&["127.0.0.1:0".to_owned()], false).await.unwrap();
        let address = taken[0].local_addr().unwrap().to_string();
        assert!(refusal(&address).await.contains(&address));
    }
}
