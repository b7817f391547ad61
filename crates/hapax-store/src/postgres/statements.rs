//! Every statement that the store runs, with the types of its parameters: given rather than asked for, so that a
//! statement needs no extra round trip and works through a pooler that knows no prepared statements.
//!
//! A plan is made once a connection, perhaps while there are no records. So records are joined by
//! `r.id = ANY (ARRAY[i.id])`: for an equality, which it could merge by, the planner would then rather read the whole
//! index than look up each identity. And `(r.wake_at > r.due) IS TRUE` does not let it see that a partial index would do.

use hapax_core::Claim;
use hapax_core::time::millis;
use tokio_postgres::types::Type;

/// A statement.
#[derive(Debug)]
pub struct Sql {
    /// Its file's name without `.sql`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The types of its parameters.
    pub types: &'static [Type],
}

macro_rules! sql {
    ($const:ident, $name:literal, clock, $from:literal, [$($type:ident),*]) => {
        pub(crate) static $const: Sql = Sql {
            name: $from,
            text: concat!(
                include_str!("clock.sql"),
                include_str!(concat!($from, ".sql")),
                include_str!(concat!($name, ".sql"))
            ),
            types: &[Type::INT8, Type::INT8, Type::INT8, Type::INT8, $(Type::$type),*],
        };
    };
    ($const:ident, $name:literal, clock, [$($type:ident),*]) => {
        pub(crate) static $const: Sql = Sql {
            name: $name,
            text: concat!(include_str!("clock.sql"), include_str!(concat!($name, ".sql"))),
            types: &[Type::INT8, Type::INT8, Type::INT8, Type::INT8, $(Type::$type),*],
        };
    };
    ($const:ident, $name:literal, [$($type:ident),*]) => {
        pub(crate) static $const: Sql = Sql {
            name: $name,
            text: include_str!(concat!($name, ".sql")),
            types: &[$(Type::$type),*],
        };
    };
}

/// The same of several statements with the same parameters.
macro_rules! sqls {
    ($types:tt, $($const:ident = $name:literal),+) => {
        $(sql!($const, $name, clock, $types);)+
    };
}

sqls!(
    [
        BYTEA_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        BOOL_ARRAY
    ],
    CLAIM_PLAIN = "claim_plain",
    CLAIM_FRESH = "claim_fresh"
);
sqls!(
    [
        BYTEA_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        BOOL_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY
    ],
    CLAIM_CARRYING = "claim_carrying",
    CLAIM = "claim"
);
sql!(LAPSE, "lapse", clock, [BYTEA_ARRAY, INT8_ARRAY]);
sql!(
    FINISH,
    "finish",
    clock,
    [
        BYTEA_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT4_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY,
        TEXT_ARRAY,
        BOOL_ARRAY
    ]
);
sql!(
    FINISH_DONE,
    "finish_done",
    clock,
    [
        BYTEA_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT4_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY
    ]
);
sql!(
    ENTER,
    "enter",
    clock,
    [
        BYTEA, TEXT, TEXT, TEXT, INT8, INT8, INT8, INT8, BYTEA, BYTEA, TEXT, TEXT, TEXT
    ]
);
sql!(RENEW, "renew", clock, [BYTEA_ARRAY, INT8_ARRAY, INT8_ARRAY]);
sql!(READ, "read", clock, [BYTEA_ARRAY]);
sql!(
    ENQUEUE,
    "enqueue",
    clock,
    [
        BYTEA_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY
    ]
);
sql!(
    TAKE,
    "take",
    clock,
    [
        INT8, INT8, TEXT_ARRAY, BOOL, INT8, INT8_ARRAY, INT8_ARRAY, TEXT_ARRAY, INT8_ARRAY, BYTEA
    ]
);
sql!(
    TAKE_ORDERED,
    "take_ordered",
    clock,
    [
        INT8, INT8, TEXT_ARRAY, BOOL, INT8, INT8_ARRAY, INT8_ARRAY, TEXT_ARRAY, INT8_ARRAY, BYTEA, BOOL_ARRAY, INT8,
        INT8
    ]
);
sql!(LINE, "line", [BYTEA_ARRAY]);
sql!(TURNED, "turned", [BYTEA_ARRAY]);
sql!(PASS_TURN, "pass_turn", clock, [BYTEA_ARRAY]);
sql!(TAKEN, "taken", clock, [BYTEA]);
sql!(
    WRITE,
    "write",
    [
        BYTEA_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        BOOL_ARRAY,
        BYTEA_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        INT4_ARRAY,
        BYTEA_ARRAY,
        BYTEA_ARRAY,
        TEXT_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        INT8_ARRAY,
        BOOL_ARRAY,
        BYTEA_ARRAY,
        INT8_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY,
        TEXT_ARRAY
    ]
);
sql!(
    LIST,
    "list",
    clock,
    "list_all",
    [INT8, BYTEA, TEXT, TEXT, TEXT, TEXT, TEXT, INT8, INT8, INT8]
);
sql!(
    LIST_DEAD,
    "list",
    clock,
    "list_dead",
    [INT8, BYTEA, TEXT, TEXT, TEXT, TEXT, TEXT, INT8, INT8, INT8]
);
sql!(
    LIST_WAITING,
    "list",
    clock,
    "list_waiting",
    [INT8, BYTEA, TEXT, TEXT, TEXT, TEXT, TEXT, INT8, INT8, INT8]
);
sql!(
    LIST_GROUP,
    "list",
    clock,
    "list_group",
    [INT8, BYTEA, TEXT, TEXT, TEXT, TEXT, TEXT, INT8, INT8, INT8, BYTEA]
);
sql!(
    FORGET,
    "forget",
    [BYTEA, INT8, TEXT, INT8, INT8, INT8, TEXT, TEXT, TEXT, TEXT]
);
sql!(AUDIT, "audit", [BYTEA, INT8, INT8]);
sql!(CENSUS, "census", clock, []);
sql!(SCOPES, "scopes", []);
sql!(SWEEP, "sweep", clock, [INT8]);
sql!(RECIPE, "recipe", [BYTEA, TEXT]);
sql!(RECIPE_TEXT, "recipe_text", [INT8]);
sql!(RAISE_FENCE, "raise_fence", [INT8]);
sql!(SECRET, "secret", [BYTEA]);
sql!(SERVER, "server", []);

/// Whether a claim has what only `claim_carrying.sql` writes to a new record.
pub(crate) fn carries(claim: &Claim) -> bool {
    claim.input.is_some() || claim.group.is_some()
}

/// Whether `claim_plain.sql` makes of a claim what `claim_fresh.sql` would.
pub(crate) fn is_plain(claim: &Claim) -> bool {
    /// More than a hundred million years; twice that, added to the time, is not the end of time.
    const FAR: i64 = i64::MAX / 4;
    let Claim {
        lease,
        max_run,
        retention,
        ..
    } = claim;
    lease <= max_run && millis(*max_run) < FAR && millis(retention.replay_for) < FAR
}

/// All of them.
pub(super) static ALL: [&Sql; 32] = [
    &CLAIM_PLAIN,
    &CLAIM_FRESH,
    &CLAIM_CARRYING,
    &CLAIM,
    &LAPSE,
    &ENTER,
    &FINISH_DONE,
    &FINISH,
    &RENEW,
    &READ,
    &ENQUEUE,
    &TAKE,
    &TAKE_ORDERED,
    &LINE,
    &TURNED,
    &PASS_TURN,
    &TAKEN,
    &WRITE,
    &LIST,
    &LIST_DEAD,
    &LIST_WAITING,
    &LIST_GROUP,
    &FORGET,
    &AUDIT,
    &CENSUS,
    &SCOPES,
    &SWEEP,
    &RECIPE,
    &RECIPE_TEXT,
    &RAISE_FENCE,
    &SECRET,
    &SERVER,
];
