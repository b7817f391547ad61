//! `hapax receipts verify`: whether an endpoint's transaction really stands and falls with its receipt.
//!
//! It plays the gateway, by its headers, with an operation of its own: an attempt that is shut out, one that may commit,
//! and one that comes too late. The second is what makes the first mean something: a request that the endpoint never
//! takes is refused for other reasons.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use hapax::core::{Fence, OperationId};
use hapax::http::{HAPAX_FENCE, HAPAX_OPERATION, IDEMPOTENCY_KEY};
use hapax::receipts::{Body as ReceiptBody, Receipt, Receipts, Sealing};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use crate::config::outbox::DatabaseUrl;
use crate::config::values::{File, Period, UpstreamUrl};
use crate::exit::{Exit, Failure};
use crate::gateway::body::Body;
use crate::gateway::limits::{HostPolicy, UpstreamLimits};
use crate::gateway::upstream::{Target, Upstream, UpstreamError, client_tls, no_tls};
use crate::store;

pub(super) const HELP: &str = "\
It calls your endpoint as the gateway would, with an operation of its own, and looks at its receipt:
  shut-out  an attempt that is sealed already: nothing of it may be committed
  live      one that may commit: it must leave a receipt, with the status and body that it answers
  too-late  another after that: nothing of it may be committed
The live one has its real effect once: use a test system, or a body that does no harm.
With --count, a query of yours that gives one number, business writes are looked at too, not only the receipt. Nothing
else should write there meanwhile.

Examples:
  hapax receipts verify --database postgres://shop@db/shop --upstream http://127.0.0.1:9000 \\
        --path /orders --body '{\"customer\":\"test\",\"item\":\"tea\",\"quantity\":1}' \\
        --count 'SELECT count(*) FROM orders'
  hapax receipts verify --database sqlite:shop.db --upstream http://127.0.0.1:9000 --path /orders \\
        --header 'Authorization: Bearer test' --body @order.json --json

Exit codes: 0 it holds, 1 something was committed that must not be, or no receipt was left, 2 usage,
3 the backend or its database cannot be reached, or nothing can be concluded.";

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The database with the receipts
    #[arg(long, value_name = "URL", env = "HAPAX_RECEIPTS", hide_env_values = true)]
    database: DatabaseUrl,
    /// The backend itself, not the gateway
    #[arg(long, value_name = "URL")]
    upstream: UpstreamUrl,
    /// The method of the request
    #[arg(long, default_value = "POST")]
    method: Method,
    /// The path of the endpoint, with its query
    #[arg(long)]
    path: String,
    /// The body, as JSON; @FILE reads it from a file
    #[arg(long, default_value = "")]
    body: String,
    /// A header such as 'Authorization: Bearer test'; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A query of one number that must not change when an attempt is refused
    #[arg(long, value_name = "SQL")]
    count: Option<String>,
    /// How long an answer may take
    #[arg(long, default_value = "30s")]
    timeout: Period,
    /// PEM file with the authorities that the backend is trusted by, beside the system's
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<File>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("{text:?} is no header: write 'NAME: VALUE'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

/// More of an answer is not compared.
const MOST_BYTES: usize = 1 << 20;
/// The attempt that is shut out.
const SEALED: Fence = Fence::new(10);
const LIVE: Fence = Fence::new(11);
const LATE: Fence = Fence::new(12);

/// What was found out of one attempt.
struct Check {
    name: &'static str,
    /// `None` if nothing can be concluded.
    holds: Option<bool>,
    saw: String,
}

/// What the backend answered.
struct Answered {
    status: StatusCode,
    body: Bytes,
}

/// Verifies and reports.
///
/// # Errors
/// If the database or the backend cannot be reached, or an argument makes no sense.
pub(super) fn run(args: &Verify) -> Result<ExitCode, Failure> {
    let checks = store::runtime()?.block_on(async {
        let receipts = hapax::receipts::connect(&args.database.0).await?;
        Trial::new(args, receipts)?.run().await
    })?;
    let holds = checks.iter().map(|check| check.holds);
    let code = match (
        holds.clone().any(|holds| holds == Some(false)),
        holds.clone().any(|holds| holds.is_none()),
    ) {
        (true, _) => ExitCode::from(Exit::Failed as u8),
        (false, true) => ExitCode::from(Exit::Unreachable as u8),
        (false, false) => ExitCode::SUCCESS,
    };
    let mut out = io::stdout().lock();
    if args.json {
        let checks = checks
            .iter()
            .map(|check| json!({"check": check.name, "holds": check.holds, "saw": check.saw}));
        let report = json!({"checks": checks.collect::<Vec<_>>(), "counted": args.count.is_some()});
        writeln!(out, "{report:#}")?;
        return Ok(code);
    }
    for check in &checks {
        let word = match check.holds {
            Some(true) => "holds",
            Some(false) => "FAILS",
            None => "?",
        };
        writeln!(out, "{:<9} {word:<6} {}", check.name, check.saw)?;
    }
    if args.count.is_none() {
        writeln!(
            out,
            "business writes were not looked at: give --count 'SELECT count(*) FROM …'"
        )?;
    }
    Ok(code)
}

/// One run through all attempts.
struct Trial<'a> {
    args: &'a Verify,
    receipts: Arc<dyn Receipts>,
    upstream: Upstream,
    body: Bytes,
    operation: OperationId,
}

impl<'a> Trial<'a> {
    fn new(args: &'a Verify, receipts: Arc<dyn Receipts>) -> Result<Self, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
        let target = Target::parse(&args.upstream.to_string()).map_err(|error| usage(&error))?;
        let tls = match args.upstream.0.scheme_str() {
            Some("https") => client_tls(args.upstream_ca.as_ref().map(File::path)).map_err(|error| usage(&error))?,
            _ => no_tls().map_err(|error| usage(&error))?,
        };
        let limits = UpstreamLimits {
            response_timeout: args.timeout.0,
            host: HostPolicy::Upstream,
            ..UpstreamLimits::default()
        };
        let body = match args.body.strip_prefix('@') {
            Some(file) => {
                Bytes::from(std::fs::read(file).map_err(|error| usage(&format!("cannot read {file}: {error}")))?)
            }
            None => Bytes::from(args.body.clone()),
        };
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Failure::new(Exit::Internal, error))?;
        Ok(Self {
            args,
            receipts,
            upstream: Upstream::new(target, tls, limits),
            body,
            operation: OperationId::from_bytes(id),
        })
    }

    async fn run(&self) -> Result<Vec<Check>, Failure> {
        let ended = self.attempts().await;
        // Nothing of hapax is left behind, whatever happened.
        let rows = self.receipts.heads(&[self.operation]).await?;
        let rows: Vec<_> = rows.iter().map(|row| (row.operation, row.fence)).collect();
        self.receipts.purge(&rows).await?;
        ended
    }

    async fn attempts(&self) -> Result<Vec<Check>, Failure> {
        match self.receipts.seal(self.operation, SEALED).await? {
            Sealing::Sealed => {}
            other => {
                return Err(Failure::new(
                    Exit::Internal,
                    format!("a new operation is not new: {other:?}"),
                ));
            }
        }
        let before = self.count().await?;
        let answered = self.send(SEALED).await?;
        let shut_out = self.refused("shut-out", answered.as_ref(), SEALED, before).await?;
        let live = self.live().await?;
        // Where the live one is not taken, refusing proves nothing.
        let taken = live.holds.is_some();
        let shut_out = match shut_out.holds {
            Some(true) if !taken => Check {
                holds: None,
                saw: format!("{}, and so was one that may commit", shut_out.saw),
                ..shut_out
            },
            _ => shut_out,
        };
        let mut checks = vec![shut_out, live];
        if taken && self.row().await?.is_some_and(|row| !row.sealed) {
            let before = self.count().await?;
            let answered = self.send(LATE).await?;
            checks.push(self.late(answered.as_ref(), before).await?);
        }
        Ok(checks)
    }

    /// An attempt that must not commit.
    async fn refused(
        &self,
        name: &'static str,
        answered: Option<&Answered>,
        fence: Fence,
        before: Option<i64>,
    ) -> Result<Check, Failure> {
        let after = self.count().await?;
        let row = self.row().await?;
        let status = said(answered);
        let (holds, saw) = match (row, answered) {
            (Some(row), _) if !row.sealed => (
                false,
                format!("{status}, and its receipt was committed: was the SQL changed?"),
            ),
            _ if before != after => (
                false,
                format!(
                    "{status}, but business writes were committed ({} → {}): they are not in the transaction of the \
                     receipt, or its error is swallowed",
                    shown(before),
                    shown(after)
                ),
            ),
            (_, Some(answered)) if answered.status.is_success() => (
                false,
                format!(
                    "{status} to fence {fence}, which may not commit: it does not call hapax_receipt, or swallows its error"
                ),
            ),
            _ => (true, format!("{status}, and committed nothing")),
        };
        Ok(Check {
            name,
            holds: Some(holds),
            saw,
        })
    }

    async fn live(&self) -> Result<Check, Failure> {
        let name = "live";
        let check = |holds, saw| Ok(Check { name, holds, saw });
        let before = self.count().await?;
        let answered = self.send(LIVE).await?;
        let after = self.count().await?;
        let status = said(answered.as_ref());
        let Some(Answered { status: code, body }) = answered.filter(|answered| answered.status.is_success()) else {
            return check(
                None,
                format!("{status}: give a request that the endpoint takes, with --body, --header, --method, --path"),
            );
        };
        let row = self.row().await?.filter(|row| !row.sealed);
        let Some(row) = row else {
            return check(
                Some(false),
                format!("{status}, and left no receipt: it does not call hapax_receipt, or in another database"),
            );
        };
        if row.fence != LIVE {
            return check(
                Some(false),
                format!("{status}, and left a receipt of fence {}, not of {LIVE}", row.fence),
            );
        }
        if row.status.is_some_and(|status| status != code.as_u16()) {
            let kept = row.status.unwrap_or_default();
            return check(
                Some(false),
                format!("{status}, but its receipt says {kept}: after a lost answer, a retry is told something else"),
            );
        }
        match &row.body {
            ReceiptBody::Bytes(kept) if *kept != body => {
                return check(
                    Some(false),
                    format!(
                        "{status} with another body than its receipt has: after a lost answer, a retry gets the latter"
                    ),
                );
            }
            _ => {}
        }
        if before.is_some() && before == after {
            return check(
                None,
                format!(
                    "{status}, but --count still gives {}: it counts something else",
                    shown(after)
                ),
            );
        }
        let kept = match (row.status, &row.body) {
            (None, _) => ", which keeps no answer: after a lost one, a retry is only told that it is done",
            (Some(_), ReceiptBody::None) if !body.is_empty() => ", which keeps the status and no body",
            _ => "",
        };
        check(Some(true), format!("{status}, and left its receipt{kept}"))
    }

    /// After a commit. What an endpoint then answers is its own affair, as long as it does nothing.
    async fn late(&self, answered: Option<&Answered>, before: Option<i64>) -> Result<Check, Failure> {
        let success = answered.is_some_and(|answered| answered.status.is_success());
        let (after, row) = (self.count().await?, self.row().await?);
        let status = said(answered);
        let (holds, saw) = match row {
            Some(row) if row.fence != LIVE => {
                (Some(false), format!("{status}, and its receipt replaced the first one"))
            }
            _ if before != after => (
                Some(false),
                format!(
                    "{status}, but business writes were committed ({} → {})",
                    shown(before),
                    shown(after)
                ),
            ),
            _ if success && before.is_none() => (
                None,
                format!("{status}: give --count to see whether it did something, or only found what is there"),
            ),
            _ => (Some(true), format!("{status}, and committed nothing")),
        };
        Ok(Check {
            name: "too-late",
            holds,
            saw,
        })
    }

    async fn row(&self) -> Result<Option<Receipt>, Failure> {
        Ok(self.receipts.find(&[self.operation]).await?.pop())
    }

    async fn count(&self) -> Result<Option<i64>, Failure> {
        match &self.args.count {
            None => Ok(None),
            Some(sql) => Ok(Some(self.receipts.number(sql).await?)),
        }
    }

    /// `None` if it was sent, and no whole answer came.
    async fn send(&self, fence: Fence) -> Result<Option<Answered>, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
        let mut request = Request::builder()
            .method(self.args.method.clone())
            .uri(&self.args.path)
            .body(Body::Full(self.body.clone()))
            .map_err(|error| usage(&format!("--path makes no sense: {error}")))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::CONTENT_LENGTH, self.body.len().into());
        for (name, value) in &self.args.headers {
            headers.insert(name, value.clone());
        }
        let operation = self.operation.to_string();
        let key = HeaderValue::from_str(&format!("hapax-verify-{operation}")).map_err(|error| usage(&error))?;
        headers.insert(IDEMPOTENCY_KEY, key);
        headers.insert(
            HAPAX_OPERATION,
            HeaderValue::from_str(&operation).map_err(|error| usage(&error))?,
        );
        headers.insert(HAPAX_FENCE, fence.get().into());
        let (parts, body) = match self.upstream.send(request).await {
            Ok(answer) => answer.into_parts(),
            Err(error @ UpstreamError::Unsent { .. }) => {
                return Err(Failure::new(
                    Exit::Unreachable,
                    format!("cannot reach the backend: {error}"),
                ));
            }
            Err(_) => return Ok(None),
        };
        let body = tokio::time::timeout(self.args.timeout.0, Limited::new(body, MOST_BYTES).collect()).await;
        Ok(match body {
            Ok(Ok(body)) => Some(Answered {
                status: parts.status,
                body: body.to_bytes(),
            }),
            _ => None,
        })
    }
}

fn said(answered: Option<&Answered>) -> String {
    match answered {
        Some(Answered { status, .. }) => format!("answered {}", status.as_u16()),
        None => "gave no answer".to_owned(),
    }
}

fn shown(count: Option<i64>) -> String {
    count.map_or_else(String::new, |count| count.to_string())
}
