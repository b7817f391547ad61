//! The library as its users have it.

mod http;
