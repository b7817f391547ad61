-- What the consumers write. Tables without a key of their own would show what is done twice.
CREATE TABLE IF NOT EXISTS points (
    "order"  text   NOT NULL,
    customer text   NOT NULL,
    points   bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS balances (
    customer text   PRIMARY KEY,
    points   bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS orders (
    id    text PRIMARY KEY,
    state text NOT NULL
);
CREATE TABLE IF NOT EXISTS stock (
    item    text   PRIMARY KEY,
    version bigint NOT NULL,
    pieces  bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS stock_log (
    event text NOT NULL
);
CREATE TABLE IF NOT EXISTS letters (
    "order" text NOT NULL,
    about   text NOT NULL
);
