//! What people and resolvers do to records: [`Record::amend`] decides, and what it decides is written together with its
//! line in the audit, if the record is still the one that it was decided on.

use hapax_core::record::AmendVerdict;
use hapax_core::{
    Amended, Amendment, Audit, AuditEntry, AuditPage, Cursor, Fence, OperationId, Record, StateName, Timestamp,
};
use tokio_postgres::Row;

use super::desk::ROUNDS;
use super::failure::Failure;
use super::link::Link;
use super::rows;
use super::runs::{pass_turn, read};
use super::statements::{AUDIT, FORGET};
use super::writes::{Audited, Write, deadline, storable, write};
use crate::clock::Clock;

pub(super) async fn amend(
    link: &mut Link,
    clock: &Clock,
    id: OperationId,
    amendment: &Amendment,
) -> Result<Amended, Failure> {
    for _ in 0..ROUNDS {
        let (now, mut records) = read(link, clock, &[id]).await?;
        let Some(record) = records.pop().flatten() else {
            return Ok(Amended::Absent);
        };
        let shown = record
            .lapsed(now)
            .map_or(record.state.name(), |lapsed| lapsed.state.name());
        let audited = Audited {
            amendment,
            at: now,
            shown,
        };
        // The fence is drawn where the record is written.
        match record.amend(amendment, Fence::new(0), now) {
            AmendVerdict::Forget => {
                if forget(link, &record, &audited).await? {
                    return Ok(Amended::Forgotten);
                }
            }
            AmendVerdict::Becomes(mut after) => {
                let change = Write {
                    new_fence: true,
                    audit: Some(audited),
                    ..Write::new(&record, &after)
                };
                if let [Some(fence)] = write(link, &[change]).await?[..] {
                    after.fence = fence;
                    if after.is_done() && after.group.is_some() {
                        pass_turn(link, clock, &[id]).await;
                    }
                    return Ok(Amended::Became(after));
                }
            }
            AmendVerdict::Refuse(state) => return Ok(Amended::Refused(state)),
            AmendVerdict::Changed(state) => return Ok(Amended::Changed(state)),
            AmendVerdict::Unsettled(until) => return Ok(Amended::Unsettled(until)),
        }
    }
    Err(Failure::raced("amend", &link.target().label))
}

/// Whether the record was as given, and is gone.
async fn forget(link: &mut Link, record: &Record, audited: &Audited<'_>) -> Result<bool, Failure> {
    let id = record.operation.id();
    let deadline = deadline(&record.state).map(Timestamp::as_millis);
    let (id, fence) = (id.as_bytes().as_slice(), record.fence.get() as i64);
    let (state, since) = (record.state.name().as_str(), record.since.as_millis());
    let (at, action) = (audited.at.as_millis(), audited.amendment.amend.as_str());
    let Audit { actor, reason } = &audited.amendment.audit;
    let (actor, reason) = (storable(actor), storable(reason));
    let shown = audited.shown.as_str();
    let rows = link
        .run(
            &FORGET,
            &[
                &id, &fence, &state, &since, &deadline, &at, &action, &actor, &reason, &shown,
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}

pub(super) async fn audit(
    link: &mut Link,
    id: Option<OperationId>,
    after: Option<Cursor>,
    limit: usize,
) -> Result<AuditPage, Failure> {
    let limit = limit.clamp(1, 1000);
    let start = after.map_or(i64::MIN, |Cursor(position)| position);
    let id = id.as_ref().map(|id| id.as_bytes().as_slice());
    // One more than asked for says whether there is a next page.
    let count = limit as i64 + 1;
    let rows = link.run(&AUDIT, &[&id, &start, &count]).await?;
    let more = rows.len() > limit;
    let entries: Result<Vec<_>, _> = rows.iter().take(limit).map(entry).collect();
    let entries = entries.map_err(|what| Failure::corrupt(what, &link.target().label))?;
    let last = rows.get(limit - 1).filter(|_| more);
    Ok((entries, last.map(|row| Cursor(row.get(0)))))
}

/// A row of `audit.sql`.
fn entry(row: &Row) -> Result<AuditEntry, &'static str> {
    let state = |text| StateName::parse(text).ok_or("an unknown state");
    Ok(AuditEntry {
        at: Timestamp::from_millis(row.get(1)),
        operation: rows::operation(row, 2)?,
        action: row.get(5),
        audit: Audit {
            actor: row.get(6),
            reason: row.get(7),
        },
        before: state(row.get(8))?,
        after: row.get::<_, Option<&str>>(9).map(state).transpose()?,
    })
}
