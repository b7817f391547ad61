//! Where the mail server is.

use std::net::IpAddr;

use super::EmailError;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    None,
    StartTls,
    Tls,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protection: Protection,
}

impl Server {
    pub(super) fn parse(url: &str) -> Result<Self, EmailError> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let error = |why: &str| EmailError::Url {
            url: address.to_owned(),
            why: why.to_owned(),
        };
        let (scheme, authority) = address.split_once("://").ok_or_else(|| error("it is no URL"))?;
        if authority.contains('@') {
            return Err(EmailError::User);
        }
        let authority = authority.trim_end_matches('/');
        let authority = authority::split(authority).ok_or_else(|| error("it has no host"))?;
        let bare = matches!(authority.host.parse::<IpAddr>(), Ok(address) if address.is_loopback())
            || authority.host.eq_ignore_ascii_case("localhost");
        let protection = match (scheme, query) {
            ("smtps", "") => Protection::Tls,
            ("smtp", "tls=none") => Protection::None,
            ("smtp", "") if bare => Protection::None,
            ("smtp", "" | "tls=required") => Protection::StartTls,
            ("smtp" | "smtps", _) => return Err(error("its query is neither tls=none nor tls=required")),
            _ => return Err(error("its scheme is neither smtp nor smtps")),
        };
        let usual = match protection {
            Protection::Tls => 465,
            Protection::StartTls => 587,
            Protection::None => 25,
        };
        let port = match authority.port {
            Some(port) => port.parse().map_err(|_| error("its port is no number up to 65535"))?,
            None => usual,
        };
        Ok(Self {
            host: authority.host.to_owned(),
            port,
            protection,
        })
    }
}

/// Host and port, without a crate for URLs.
mod authority {
    pub(super) struct Authority<'a> {
        pub(super) host: &'a str,
        pub(super) port: Option<&'a str>,
    }

    pub(super) fn split(text: &str) -> Option<Authority<'_>> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_host = !host.is_empty() && !host.contains(['/', '#', ' ']);
        is_host.then_some(Authority { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_host_port_and_protection() {
        use Protection::{None, StartTls, Tls};
        for (url, host, port, protection) in [
            ("smtp://mail.example.org", "mail.example.org", 587, StartTls),
            ("smtp://mail.example.org:25/", "mail.example.org", 25, StartTls),
            ("smtps://mail.example.org", "mail.example.org", 465, Tls),
            ("smtp://relay.internal?tls=none", "relay.internal", 25, None),
            ("smtp://localhost:2525", "localhost", 2525, None),
            ("smtp://127.0.0.1:2525?tls=required", "127.0.0.1", 2525, StartTls),
            ("smtp://[::1]:2525", "::1", 2525, None),
        ] {
            let host = host.to_owned();
            assert_eq!(Server::parse(url), Ok(Server { host, port, protection }), "{url}");
        }
    }

    #[test]
    fn what_is_no_server_says_what_to_write() {
        for (url, why) in [
            ("mail.example.org", "no URL"),
            ("http://mail.example.org", "neither smtp nor smtps"),
            ("smtp://", "no host"),
            ("smtp://a:b", "its port"),
            ("smtp://a:99999", "its port"),
            ("smtp://a/b", "no host"),
            ("smtp://a?tls=maybe", "its query"),
        ] {
            let error = Server::parse(url).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("write smtp://HOST"),
                "{url}: {error}"
            );
        }
        let error = Server::parse("smtp://me:secret@a").unwrap_err();
        assert_eq!(error, EmailError::User);
    }
}
