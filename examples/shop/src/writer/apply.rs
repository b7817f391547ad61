//! One ask as SQL statements inside the batch's transaction. Every check comes before the first
//! write of its ask, because a refused ask shares its transaction with accepted ones.

use rusqlite::{Connection, OptionalExtension, params};

use crate::command::{Ask, Fields, Kind, NewOrder, NewPayment, NewPoints, Origin, Refusal, Row, Wanted};

/// The outer error is SQLite's and fails the batch; the inner one refuses this ask alone.
type Applied = rusqlite::Result<Result<Row, Refusal>>;

pub(super) fn apply(conn: &Connection, ask: &Ask, natural_keys: bool) -> Applied {
    match ask {
        Ask::Accept(Wanted::Order(new), origin) => order(conn, new, origin, natural_keys),
        Ask::Accept(Wanted::Payment(new), origin) => payment(conn, new, origin),
        Ask::Accept(Wanted::Points(new), origin) => points(conn, new, origin),
        Ask::FindOrderOf(operation) => {
            let kind = Kind::Order;
            let id = conn
                .query_row("SELECT id FROM orders WHERE operation = ?1", [operation], |row| {
                    row.get(0)
                })
                .optional()?;
            let row = id.map(|id| find(conn, kind, id)).transpose()?.flatten();
            Ok(row.ok_or(Refusal::NotFound {
                kind,
                id: id.unwrap_or(0),
            }))
        }
        Ask::Find(kind, id) => Ok(find(conn, *kind, *id)?.ok_or(Refusal::NotFound { kind: *kind, id: *id })),
    }
}

fn order(conn: &Connection, new: &NewOrder, origin: &Origin, natural_keys: bool) -> Applied {
    if natural_keys && let Some(first) = order_by_natural_key(conn, new)? {
        return Ok(Err(Refusal::Exists(Box::new(first))));
    }
    let on_hand: Option<i64> = conn
        .prepare_cached("SELECT on_hand FROM stock WHERE item = ?1")?
        .query_row([&new.item], |row| row.get(0))
        .optional()?;
    match on_hand {
        None => return Ok(Err(Refusal::UnknownItem(new.item.clone()))),
        Some(on_hand) if on_hand < i64::from(new.quantity) => {
            return Ok(Err(Refusal::OutOfStock {
                item: new.item.clone(),
                on_hand,
            }));
        }
        Some(_) => {}
    }
    conn.prepare_cached("UPDATE stock SET on_hand = on_hand - ?2 WHERE item = ?1")?
        .execute(params![new.item, new.quantity])?;
    let sql = "INSERT INTO orders (customer, client_order_id, item, quantity,
                                   idempotency_key, operation, fence)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id, created_ms";
    let NewOrder {
        customer,
        client_order_id,
        item,
        quantity,
    } = new;
    let values = params![
        customer,
        client_order_id,
        item,
        quantity,
        origin.key,
        origin.operation,
        origin.fence
    ];
    let fields = Fields::Order {
        customer: customer.clone(),
        client_order_id: client_order_id.clone(),
        item: item.clone(),
        quantity: *quantity,
    };
    insert(conn, sql, values, Kind::Order, fields)
}

fn payment(conn: &Connection, new: &NewPayment, origin: &Origin) -> Applied {
    if let Some(id) = new.order_id
        && find(conn, Kind::Order, id)?.is_none()
    {
        return Ok(Err(Refusal::UnknownOrder(id)));
    }
    let sql = "INSERT INTO payments (order_id, intent, amount_cents,
                                     idempotency_key, operation, fence)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id, created_ms";
    let NewPayment {
        order_id,
        intent,
        amount_cents,
    } = new;
    let values = params![
        order_id,
        intent,
        amount_cents,
        origin.key,
        origin.operation,
        origin.fence
    ];
    let fields = Fields::Payment {
        order_id: *order_id,
        intent: intent.clone(),
        amount_cents: *amount_cents,
    };
    insert(conn, sql, values, Kind::Payment, fields)
}

fn points(conn: &Connection, new: &NewPoints, origin: &Origin) -> Applied {
    let sql = "INSERT INTO points (customer, points, idempotency_key, operation, fence)
               VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id, created_ms";
    let NewPoints { customer, points } = new;
    let values = params![customer, points, origin.key, origin.operation, origin.fence];
    let fields = Fields::Points {
        customer: customer.clone(),
        points: *points,
    };
    insert(conn, sql, values, Kind::Points, fields)
}

fn insert(conn: &Connection, sql: &str, values: impl rusqlite::Params, kind: Kind, fields: Fields) -> Applied {
    let (id, created_ms) = conn
        .prepare_cached(sql)?
        .query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Ok(Row {
        kind,
        id,
        created_ms,
        fields,
    }))
}

fn order_by_natural_key(conn: &Connection, new: &NewOrder) -> rusqlite::Result<Option<Row>> {
    let Some(client_order_id) = &new.client_order_id else {
        return Ok(None);
    };
    let id: Option<i64> = conn
        .prepare_cached("SELECT id FROM orders WHERE customer = ?1 AND client_order_id = ?2")?
        .query_row([&new.customer, client_order_id], |row| row.get(0))
        .optional()?;
    id.map_or(Ok(None), |id| find(conn, Kind::Order, id))
}

fn find(conn: &Connection, kind: Kind, id: i64) -> rusqlite::Result<Option<Row>> {
    let sql = match kind {
        Kind::Order => "SELECT created_ms, customer, client_order_id, item, quantity FROM orders WHERE id = ?1",
        Kind::Payment => "SELECT created_ms, order_id, intent, amount_cents FROM payments WHERE id = ?1",
        Kind::Points => "SELECT created_ms, customer, points FROM points WHERE id = ?1",
    };
    let read = |row: &rusqlite::Row<'_>| {
        let fields = match kind {
            Kind::Order => Fields::Order {
                customer: row.get(1)?,
                client_order_id: row.get(2)?,
                item: row.get(3)?,
                quantity: row.get(4)?,
            },
            Kind::Payment => Fields::Payment {
                order_id: row.get(1)?,
                intent: row.get(2)?,
                amount_cents: row.get(3)?,
            },
            Kind::Points => Fields::Points {
                customer: row.get(1)?,
                points: row.get(2)?,
            },
        };
        Ok(Row {
            kind,
            id,
            created_ms: row.get(0)?,
            fields,
        })
    };
    conn.prepare_cached(sql)?.query_row([id], read).optional()
}
