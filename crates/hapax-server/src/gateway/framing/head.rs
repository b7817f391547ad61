//! The check of one HTTP/1 request head. Pure: bytes in, verdict out.
//!
//! It decides where the head ends and how its body is framed, and refuses each head that two
//! servers could read in two ways. It does not decide what the request means.

use std::ops::Range;

use memchr::memchr;

use super::Refusal;

/// How the end of a request body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes; 0 where the request has no body.
    Sized(u64),
    /// Chunks, then trailers.
    Chunked,
}

/// A head that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes from the first of the request line to the end of the empty line.
    pub(crate) len: usize,
    pub(crate) framing: Framing,
}

/// Limits of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Longest head, in bytes.
    pub(crate) bytes: usize,
    /// Most header fields.
    pub(crate) fields: usize,
}

/// The state of one head's check between reads; each byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    line_start: usize,
    searched: usize,
    fields: usize,
    has_request_line: bool,
    had_empty_line: bool,
    is_http10: bool,
    authority: Option<Range<usize>>,
    host: Option<Range<usize>>,
    content_length: Option<u64>,
    is_chunked: bool,
}

impl HeadScan {
    /// Goes on with a head. `bytes` starts where the head starts and only grows from call to call.
    ///
    /// # Errors
    /// The first reason found to refuse the head.
    pub(crate) fn advance(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Option<Head>, Refusal> {
        while let Some(found) = memchr(b'\n', &bytes[self.searched..]) {
            let newline = self.searched + found;
            if newline >= limits.bytes {
                return Err(Refusal::HeadTooLarge);
            }
            if newline == self.line_start || bytes[newline - 1] != b'\r' {
                return Err(Refusal::BareLf);
            }
            let line = self.line_start..newline - 1;
            self.searched = newline + 1;
            self.line_start = newline + 1;
            if !line.is_empty() {
                self.line(bytes, line, limits)?;
            } else if self.has_request_line {
                let framing = self.finish(bytes)?;
                return Ok(Some(Head {
                    len: newline + 1,
                    framing,
                }));
            } else if std::mem::replace(&mut self.had_empty_line, true) {
                // RFC 9112 §2.2 lets one empty line pass, which old clients send after a body.
                return Err(Refusal::EmptyLines);
            }
        }
        self.searched = bytes.len();
        if bytes.len() >= limits.bytes {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(None)
    }

    fn line(&mut self, bytes: &[u8], line: Range<usize>, limits: HeadLimits) -> Result<(), Refusal> {
        if !self.has_request_line {
            self.has_request_line = true;
            return self.request_line(bytes, line);
        }
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(Refusal::TooManyFields);
        }
        self.field(bytes, line)
    }

    fn request_line(&mut self, bytes: &[u8], range: Range<usize>) -> Result<(), Refusal> {
        let line = &bytes[range.clone()];
        let method_end = memchr(b' ', line).ok_or(Refusal::BadRequestLine)?;
        let method = &line[..method_end];
        if !is_token(method) {
            return Err(Refusal::BadRequestLine);
        }
        let rest = &line[method_end + 1..];
        let target_end = memchr(b' ', rest).ok_or(Refusal::BadRequestLine)?;
        match &rest[target_end + 1..] {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.is_http10 = true,
            version if version.starts_with(b"HTTP/") && !version.contains(&b' ') => {
                return Err(Refusal::BadVersion);
            }
            _ => return Err(Refusal::BadRequestLine),
        }
        if method == b"CONNECT" {
            return Err(Refusal::ConnectMethod);
        }
        let target_start = range.start + method_end + 1;
        self.target(&rest[..target_end], target_start, method)
    }

    /// Origin form, absolute form (checked against `Host` at the end), and `*` for OPTIONS.
    fn target(&mut self, target: &[u8], start: usize, method: &[u8]) -> Result<(), Refusal> {
        if !target.iter().all(|&byte| is(byte, TARGET)) {
            return Err(Refusal::BadTarget);
        }
        if target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS") {
            return Ok(());
        }
        let scheme_len = ["http://", "https://"]
            .iter()
            .map(|scheme| scheme.as_bytes())
            .find(|scheme| {
                target
                    .get(..scheme.len())
                    .is_some_and(|prefix| prefix.eq_ignore_ascii_case(scheme))
            })
            .ok_or(Refusal::BadTarget)?
            .len();
        let rest = &target[scheme_len..];
        let len = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?'))
            .unwrap_or(rest.len());
        self.authority = Some(start + scheme_len..start + scheme_len + len);
        Ok(())
    }

    fn field(&mut self, bytes: &[u8], range: Range<usize>) -> Result<(), Refusal> {
        let line = &bytes[range.clone()];
        if matches!(line[0], b' ' | b'\t') {
            return Err(Refusal::ObsFold);
        }
        let colon = memchr(b':', line).ok_or(Refusal::NoColon)?;
        let name = &line[..colon];
        if !is_token(name) {
            return Err(match name.last() {
                Some(b' ' | b'\t') => Refusal::SpaceBeforeColon,
                _ => Refusal::BadFieldName,
            });
        }
        let value = &line[colon + 1..];
        if has_control(value) {
            return Err(Refusal::BadFieldValue);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let value = trimmed(value);
                if self.host.is_some() {
                    return Err(Refusal::RepeatedHost);
                }
                let start = value.as_ptr() as usize - bytes.as_ptr() as usize;
                self.host = Some(start..start + value.len());
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.content_length.is_some() {
                    return Err(Refusal::RepeatedContentLength);
                }
                self.content_length = Some(decimal(trimmed(value)).ok_or(Refusal::BadContentLength)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked {
                    return Err(Refusal::RepeatedTransferEncoding);
                }
                if !trimmed(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::UnknownTransferEncoding);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, bytes: &[u8]) -> Result<Framing, Refusal> {
        match &self.host {
            // HTTP/1.0 has no Host of its own; the upstream's is used then.
            None if self.is_http10 => {}
            None => return Err(Refusal::MissingHost),
            Some(host) if !is_host(&bytes[host.clone()]) => return Err(Refusal::BadHost),
            Some(_) => {}
        }
        if let Some(authority) = &self.authority {
            let authority = &bytes[authority.clone()];
            let same = match &self.host {
                Some(host) => bytes[host.clone()].eq_ignore_ascii_case(authority),
                None => is_host(authority),
            };
            if !same {
                return Err(Refusal::TargetHostMismatch);
            }
        }
        match (self.is_chunked, self.content_length) {
            (true, Some(_)) => Err(Refusal::LengthAndEncoding),
            (true, None) if self.is_http10 => Err(Refusal::EncodingOnHttp10),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Sized(length.unwrap_or(0))),
        }
    }
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;

/// Classes of each byte, so that a check is one look-up.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0u8;
    loop {
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            class[byte as usize] |= TOKEN;
        }
        // No '#': a fragment never belongs in a request, and parsers drop it silently. The
        // others are what the `http` crate does not take in a path.
        if byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'`') {
            class[byte as usize] |= TARGET;
        }
        if alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            class[byte as usize] |= HOST;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    class
};

fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// Whether `bytes` is a non-empty token (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is(byte, TOKEN))
}

/// A control byte other than tab. No early end, so that the compiler can vectorise it.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, &byte| {
        found | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    })
}

/// Without the optional white space around a value.
pub(crate) fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A plain decimal number, such as a length must be.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether this is a host name, an IPv4 address or an IPv6 address in brackets, with an optional
/// port. Stricter than RFC 3986: no user, no percent-encoding, no sub-delimiters, no empty port.
pub(crate) fn is_host(host: &[u8]) -> bool {
    let (name, port) = if host.first() == Some(&b'[') {
        let Some(end) = memchr(b']', host) else {
            return false;
        };
        let inner = &host[1..end];
        let valid = std::str::from_utf8(inner).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        if !valid {
            return false;
        }
        (&host[..=end], &host[end + 1..])
    } else {
        let end = memchr(b':', host).unwrap_or(host.len());
        if !host[..end].iter().all(|&byte| is(byte, HOST)) {
            return false;
        }
        (&host[..end], &host[end..])
    };
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && decimal(digits).is_some_and(|port| port <= 65_535),
        _ => false,
    };
    !name.is_empty() && port_ok
}
