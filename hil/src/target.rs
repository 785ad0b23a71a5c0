//! What is tried: a server at a URL, one that is started on the mock, one on a board.

use std::str::FromStr;

/// A target as it is written after `--target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A server that runs.
    Url(String),
    /// A server of our own on the mock.
    Mock,
    /// A board that ssh reaches under this name.
    Ssh(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        match written.split_once(':') {
            None if written == "mock" => Ok(Self::Mock),
            // What begins with a dash would be an option of ssh.
            Some(("ssh", host)) if !host.is_empty() && !host.starts_with('-') => {
                Ok(Self::Ssh(host.to_owned()))
            }
            Some(("http", rest)) if rest.starts_with("//") => Ok(Self::Url(written.to_owned())),
            _ => Err(format!("\"{written}\" is no http://…, no mock and no ssh:[user@]host")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_the_mock_or_a_board() {
        assert_eq!("mock".parse(), Ok(Target::Mock));
        assert_eq!("ssh:ada@board".parse(), Ok(Target::Ssh("ada@board".to_owned())));
        assert_eq!("http://a:1".parse(), Ok(Target::Url("http://a:1".to_owned())));
        for wrong in ["", "ssh:", "ssh:-oProxyCommand=x", "board", "https:/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
