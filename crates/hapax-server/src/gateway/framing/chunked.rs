//! The check of one chunked body (RFC 9112 §7.1), byte for byte, trailers included. Pure. The guard
//! uses it to follow a request, the upstream client to take an answer apart.

use super::Refusal;

/// Limits of a chunked body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLimits {
    /// Most bytes of chunk extensions in one body.
    pub(crate) extension_bytes: usize,
    /// Longest trailer section, in bytes.
    pub(crate) trailer_bytes: usize,
    /// Whether white space may follow a chunk's size, which some servers pad with it.
    pub(crate) may_pad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size { digits: u8 },
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

/// The state of one chunked body between reads.
#[derive(Debug)]
pub(crate) struct Chunked {
    step: Step,
    /// Bytes left of this chunk.
    left: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
}

/// How far a look at some bytes came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// All bytes belong to the body, and more are to come.
    All,
    /// The body ends after so many bytes.
    End(usize),
    /// So many bytes are good; the next is not.
    Bad(usize, Refusal),
}

/// The next part of a chunked body that matters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Data, behind some framing.
    Data { start: usize, len: usize },
    /// All bytes were framing, and more are to come.
    More,
    /// The body ends after so many bytes.
    End(usize),
    /// So many bytes are good; the next is not.
    Bad(usize, Refusal),
}

impl Chunked {
    pub(crate) fn new() -> Self {
        Chunked {
            step: Step::Size { digits: 0 },
            left: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Goes on with the body, over data and framing alike.
    pub(crate) fn advance(&mut self, bytes: &[u8], limits: ChunkLimits) -> Seen {
        let mut at = 0;
        loop {
            match self.piece(&bytes[at..], limits) {
                Piece::Data { start, len } => at += start + len,
                Piece::More => return Seen::All,
                Piece::End(len) => return Seen::End(at + len),
                Piece::Bad(len, refusal) => return Seen::Bad(at + len, refusal),
            }
        }
    }

    /// Goes on to the next data, which counts as taken.
    pub(crate) fn piece(&mut self, bytes: &[u8], limits: ChunkLimits) -> Piece {
        for (at, &byte) in bytes.iter().enumerate() {
            match self.step {
                Step::Data => {
                    let rest = bytes.len() - at;
                    // A chunk longer than memory is longer than the rest.
                    let len = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                    self.left -= len as u64;
                    if self.left == 0 {
                        self.step = Step::DataCr;
                    }
                    return Piece::Data { start: at, len };
                }
                Step::EndLf if byte == b'\n' => return Piece::End(at + 1),
                _ => match self.next(byte, limits) {
                    Ok(step) => self.step = step,
                    Err(refusal) => return Piece::Bad(at, refusal),
                },
            }
        }
        Piece::More
    }

    fn next(&mut self, byte: u8, limits: ChunkLimits) -> Result<Step, Refusal> {
        let control = (byte < b' ' && byte != b'\t') || byte == 0x7f;
        match (self.step, byte) {
            (Step::Size { digits }, _) if byte.is_ascii_hexdigit() => {
                // Sixteen digits fill 64 bits; the hex digit itself is below 16.
                if digits == 16 {
                    return Err(Refusal::BadChunk);
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.left = (self.left << 4) | u64::from(digit);
                Ok(Step::Size { digits: digits + 1 })
            }
            (Step::Size { digits: 1.. }, b'\r') => Ok(Step::SizeLf),
            (Step::Size { digits: 1.. } | Step::Padding, b' ' | b'\t') if limits.may_pad => Ok(Step::Padding),
            (Step::Padding, b'\r') => Ok(Step::SizeLf),
            (Step::Size { digits: 1.. } | Step::Padding, b';') => self.extension(limits),
            (Step::Extension, b'\r') => Ok(Step::SizeLf),
            (Step::Extension, _) if !control => self.extension(limits),
            (Step::SizeLf, b'\n') if self.left == 0 => Ok(Step::TrailerStart),
            (Step::SizeLf, b'\n') => Ok(Step::Data),
            (Step::DataCr, b'\r') => Ok(Step::DataLf),
            (Step::DataLf, b'\n') => Ok(Step::Size { digits: 0 }),
            (Step::TrailerStart, b'\r') => Ok(Step::EndLf),
            (Step::TrailerStart | Step::TrailerName, _) if super::head::is_token(&[byte]) => {
                self.trailer(limits, Step::TrailerName)
            }
            (Step::TrailerName, b':') => self.trailer(limits, Step::TrailerValue),
            (Step::TrailerValue, b'\r') => self.trailer(limits, Step::TrailerLf),
            (Step::TrailerValue, _) if !control => self.trailer(limits, Step::TrailerValue),
            (Step::TrailerLf, b'\n') => self.trailer(limits, Step::TrailerStart),
            _ => Err(Refusal::BadChunk),
        }
    }

    fn extension(&mut self, limits: ChunkLimits) -> Result<Step, Refusal> {
        self.extension_bytes += 1;
        if self.extension_bytes > limits.extension_bytes {
            return Err(Refusal::ChunkExtensionTooLong);
        }
        Ok(Step::Extension)
    }

    fn trailer(&mut self, limits: ChunkLimits, step: Step) -> Result<Step, Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > limits.trailer_bytes {
            return Err(Refusal::TrailerTooLong);
        }
        Ok(step)
    }
}
