//! What each consumer does with an event, in the transaction that also records that it is done.

use deadpool_postgres::Object;
use hapax::atomic::PostgresTransaction;
use hapax::consume::{Handled, Message};
use hapax::guard::{Guard, Guarded};
use hapax::outbox::{Effect, Outbox};
use hapax::store::joined::Joint;
use tokio_postgres::types::Type;

use crate::Event;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Transaction = PostgresTransaction<Object>;

/// An order, once: further on it is moved by transitions.
const PLACE: Guard<'_> = Guard::insert_or_get("orders", &["id"]).set(&["state"]);
const SHIP: Guard<'_> = Guard::transition("orders", &["id"], "state");
/// An older count than the one that is there changes nothing.
const COUNT: Guard<'_> = Guard::upsert_if_newer("stock", &["item"], "version").set(&["pieces"]);

/// Points for what was paid. Adding is not idempotent by nature: it relies on being done once.
pub(crate) async fn points(transaction: &mut Transaction, message: &Message) -> Result<Handled, BoxError> {
    let event = match Event::of(message) {
        Ok(event) => event,
        Err(why) => return Ok(Handled::Dead(why)),
    };
    if let Event::Paid {
        order,
        customer,
        amount,
    } = event
    {
        transaction
            .execute("INSERT INTO points VALUES ($1, $2, $3)", &[&order, &customer, &amount])
            .await?;
        let add = "INSERT INTO balances AS b VALUES ($1, $2) \
                   ON CONFLICT (customer) DO UPDATE SET points = b.points + excluded.points";
        transaction.execute(add, &[&customer, &amount]).await?;
    }
    Ok(Handled::Done)
}

/// Orders and what is left of each item. Events come out of order: guards say what is late, and what is early.
pub(crate) async fn stock(transaction: &mut Transaction, message: &Message) -> Result<Handled, BoxError> {
    let event = match Event::of(message) {
        Ok(event) => event,
        Err(why) => return Ok(Handled::Dead(why)),
    };
    let client: &tokio_postgres::Client = transaction;
    match &event {
        Event::Paid { order, .. } => {
            let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                [(order, Type::TEXT), (&"paid", Type::TEXT)];
            PLACE.tokio_postgres(client, &values).await?;
        }
        Event::Shipped { order } => {
            let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
                [(order, Type::TEXT), (&"paid", Type::TEXT), (&"shipped", Type::TEXT)];
            if SHIP.tokio_postgres(client, &values).await?.answer == Guarded::Rejected {
                // It waits in its record and is tried again: what it follows upon is on its way.
                return Ok(Handled::Early(format!("{order} is not paid")));
            }
        }
        Event::Stock { item, version, pieces } => {
            let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
                [(item, Type::TEXT), (version, Type::INT8), (pieces, Type::INT8)];
            COUNT.tokio_postgres(client, &values).await?;
        }
    }
    let event = serde_json::to_string(&event)?;
    transaction
        .execute("INSERT INTO stock_log VALUES ($1)", &[&event])
        .await?;
    Ok(Handled::Done)
}

/// A letter for each step of an order: an effect outside, so it is enqueued, to be delivered once this has committed.
pub(crate) async fn email(
    transaction: &mut Transaction,
    message: &Message,
    outbox: &Outbox,
    joint: &Joint,
) -> Result<Handled, BoxError> {
    let event = match Event::of(message) {
        Ok(event) => event,
        Err(why) => return Ok(Handled::Dead(why)),
    };
    let (order, about) = match event {
        Event::Paid { order, .. } => (order, "paid"),
        Event::Shipped { order } => (order, "shipped"),
        Event::Stock { .. } => return Ok(Handled::Done),
    };
    transaction
        .execute("INSERT INTO letters VALUES ($1, $2)", &[&order, &about])
        .await?;
    let letter = format!("Your order {order} is {about}.");
    let effect = Effect::new(OUTBOX, &format!("{order}-{about}"), letter)?.aggregate(&order)?;
    outbox.enqueue(joint, transaction, &effect).await?;
    Ok(Handled::Done)
}

/// The outbox that letters go into.
pub(crate) const OUTBOX: &str = "letters";
