//! Whatever went wrong: a benchmark can do nothing about it but say so.

use std::error::Error;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
