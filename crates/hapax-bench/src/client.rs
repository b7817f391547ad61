//! One request on a connection of its own, where the rate does not matter.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::Result;

/// A request that makes an order; further header lines each end with CRLF.
pub(crate) fn post(key: &str, headers: &str) -> String {
    let body = "{\"amount\":100}";
    format!(
        "POST /orders HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Idempotency-Key: \"{key}\"\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Sends a request that asks to close the connection, and reads the whole answer.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> Result<u16> {
    let status = answer.split(' ').nth(1).ok_or("an answer without a status")?;
    Ok(status.parse()?)
}
