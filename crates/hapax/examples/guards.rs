//! Messages that come twice, late and out of order, and a shop that is none the worse for it.
//!
//! ```text
//! cargo run -p hapax --example guards --features rusqlite
//! ```
//!
//! Each message is handled in a transaction: the guard first, then what has to happen once (here: a line in `letters`),
//! then the commit, then the acknowledgement.

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::error::Error;

use hapax::guard::{Guard, Guarded};
use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

/// The natural key of an order: its customer, and the number that the customer gave it.
const PLACE: Guard<'_> = Guard::insert_or_get("orders", &["customer", "number"])
    .set(&["amount", "state"])
    .same(&["amount"])
    .returning(&["id"]);
/// An order that was delivered was shipped before.
const SHIP: Guard<'_> = Guard::transition("orders", &["id"], "state").set(&["tracking"]).past(1);
const DELIVER: Guard<'_> = Guard::transition("orders", &["id"], "state");
const PRICE: Guard<'_> = Guard::upsert_if_newer("prices", &["item"], "version").set(&["price"]);

enum Message {
    Order {
        number: i64,
        amount: i64,
    },
    Shipped {
        id: i64,
        tracking: &'static str,
    },
    Delivered {
        id: i64,
    },
    Price {
        item: &'static str,
        version: i64,
        price: i64,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut shop = Connection::open_in_memory()?;
    shop.execute_batch(
        "CREATE TABLE orders (
            id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, number INTEGER NOT NULL, amount INTEGER NOT NULL,
            state TEXT NOT NULL, tracking TEXT, UNIQUE (customer, number));
         CREATE TABLE prices (item TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL, price INTEGER NOT NULL);
         CREATE TABLE letters (text TEXT NOT NULL);",
    )?;
    let shipped = || Message::Shipped { id: 1, tracking: "T-1" };
    for (what, message) in [
        ("an order", Message::Order { number: 5, amount: 20 }),
        ("the same again", Message::Order { number: 5, amount: 20 }),
        ("another under its number", Message::Order { number: 5, amount: 99 }),
        ("delivered, before it is shipped", Message::Delivered { id: 1 }),
        ("shipped", shipped()),
        ("shipped, redelivered", shipped()),
        ("delivered", Message::Delivered { id: 1 }),
        ("shipped, a day late", shipped()),
        ("shipped, of no order", Message::Shipped { id: 7, tracking: "T-7" }),
        (
            "the second price",
            Message::Price {
                item: "tea",
                version: 2,
                price: 3,
            },
        ),
        (
            "the first price",
            Message::Price {
                item: "tea",
                version: 1,
                price: 4,
            },
        ),
    ] {
        // Dropped without a commit, it is rolled back.
        let transaction = shop.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (answer, row) = handle(&transaction, &message)?;
        if answer == Guarded::Applied {
            transaction.execute("INSERT INTO letters VALUES (?1)", [what])?;
        }
        transaction.commit()?;
        match row {
            Some(row) => println!("{what}: {answer:?} {row:?}"),
            None => println!("{what}: {answer:?}, there is no such row"),
        }
    }
    let letters: i64 = shop.query_row("SELECT count(*) FROM letters", [], |row| row.get(0))?;
    println!("{letters} letters");
    Ok(())
}

/// What the guard answers, and the row as it is: the first column of it, by which the message can be judged.
fn handle(transaction: &Transaction<'_>, message: &Message) -> Result<(Guarded, Option<Value>), Box<dyn Error>> {
    let told = match message {
        Message::Order { number, amount } => PLACE.rusqlite(transaction, params![1, number, amount, "paid"])?,
        Message::Shipped { id, tracking } => {
            SHIP.rusqlite(transaction, params![id, "paid", "shipped", tracking, "delivered"])?
        }
        Message::Delivered { id } => DELIVER.rusqlite(transaction, params![id, "shipped", "delivered"])?,
        Message::Price { item, version, price } => PRICE.rusqlite(transaction, params![item, version, price])?,
    };
    Ok((told.answer, told.row.map(|mut row| row.swap_remove(0))))
}
