//! Where the server is, as people write it: `board`, `board:8080`, `http://board:8080/`.

use anyhow::bail;

/// Where `rkllama serve` listens.
const PORT: u16 = 8080;
/// Where Ollama listens: what its variable means where it names no port.
const OLLAMA_PORT: u16 = 11434;

/// The server's URL without a slash at its end: the argument, else `RKLLAMA_HOST`, else
/// `OLLAMA_HOST`, else this machine.
pub(super) fn url(
    argument: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<String> {
    let named = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let (host, port) = match argument {
        Some(host) => (host.to_owned(), PORT),
        None => named("RKLLAMA_HOST")
            .map(|host| (host, PORT))
            .or_else(|| named("OLLAMA_HOST").map(|host| (host, OLLAMA_PORT)))
            .unwrap_or_else(|| ("127.0.0.1".to_owned(), PORT)),
    };
    parse(host.trim(), port)
}

fn parse(text: &str, port: u16) -> anyhow::Result<String> {
    let (rest, port) = match text.split_once("://") {
        // As in any URL, and as Ollama's client has it.
        Some(("http", rest)) => (rest, if port == OLLAMA_PORT { 80 } else { port }),
        Some((scheme, _)) => {
            bail!(
                "cannot speak {scheme} to {text}: name the server as HOST, HOST:PORT or http://HOST:PORT"
            )
        }
        None => (text, port),
    };
    let rest = rest.trim_end_matches('/');
    let (host, given) = match rest.rsplit_once(':') {
        // An address of version 6 without a port.
        _ if rest.ends_with(']') => (rest, None),
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => (rest, None),
        Some((host, given)) => (host, Some(given)),
        None => (rest, None),
    };
    let port = match given {
        None => port,
        Some(given) => match given.parse() {
            Ok(port) if port > 0 => port,
            _ => bail!("{given:?} in {text:?} is no port: use a number from 1 to 65535"),
        },
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.contains(['/', '?', '#', '@', ' ']) {
        bail!("{text:?} is no server: use HOST, HOST:PORT or http://HOST:PORT");
    }
    Ok(match host {
        // Where servers listen, which is no place to go to.
        "" | "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        "::" => format!("http://[::1]:{port}"),
        host if host.contains(':') => format!("http://[{host}]:{port}"),
        host => format!("http://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(argument: Option<&str>, variables: &[(&str, &str)]) -> anyhow::Result<String> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name);
        url(argument, |name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_nearest_word_counts() {
        let both = [("RKLLAMA_HOST", "a"), ("OLLAMA_HOST", "b")];
        assert_eq!(of(Some("c"), &both).unwrap(), "http://c:8080");
        assert_eq!(of(None, &both).unwrap(), "http://a:8080");
        assert_eq!(of(None, &both[1..]).unwrap(), "http://b:11434");
        assert_eq!(of(None, &[("RKLLAMA_HOST", " ")]).unwrap(), "http://127.0.0.1:8080");
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, expected) in [
            ("board:9", "http://board:9"),
            ("http://board", "http://board:8080"),
            ("http://board:9/", "http://board:9"),
            ("0.0.0.0", "http://127.0.0.1:8080"),
            (":9", "http://127.0.0.1:9"),
            ("::", "http://[::1]:8080"),
            ("[::1]:9", "http://[::1]:9"),
            ("[fe80::1]", "http://[fe80::1]:8080"),
            ("fe80::1", "http://[fe80::1]:8080"),
        ] {
            assert_eq!(of(Some(text), &[]).unwrap(), expected, "{text}");
        }
        for text in ["https://board", "board:x", "board:0", "board:70000", "a b", "http://a/v1"] {
            let error = of(Some(text), &[]).unwrap_err().to_string();
            assert!(error.contains(text.trim_start_matches("board:")), "{error}");
        }
    }
}
