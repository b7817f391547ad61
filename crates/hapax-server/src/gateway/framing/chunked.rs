//! The check of one chunked body (RFC 9112 §7.1), byte for byte, trailers included. Pure.

use super::Refusal;

/// Limits of a chunked body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLimits {
    /// Most bytes of chunk extensions in one body.
    pub(crate) extension_bytes: usize,
    /// Longest trailer section, in bytes.
    pub(crate) trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size { digits: u8 },
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

impl Chunked {
    pub(crate) fn new() -> Self {
        Chunked {
            step: Step::Size { digits: 0 },
            left: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Goes on with the body.
    pub(crate) fn advance(&mut self, bytes: &[u8], limits: ChunkLimits) -> Seen {
        let mut at = 0;
        while at < bytes.len() {
            if self.step == Step::Data {
                let rest = (bytes.len() - at) as u64;
                let taken = rest.min(self.left);
                self.left -= taken;
                // At most `rest`, which came from a usize.
                at += taken as usize;
                if self.left == 0 {
                    self.step = Step::DataCr;
                }
                continue;
            }
            let byte = bytes[at];
            if self.step == Step::EndLf && byte == b'\n' {
                return Seen::End(at + 1);
            }
            match self.next(byte, limits) {
                Ok(step) => self.step = step,
                Err(refusal) => return Seen::Bad(at, refusal),
            }
            at += 1;
        }
        Seen::All
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
            (Step::Size { digits: 1.. }, b';') => self.extension(limits),
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
