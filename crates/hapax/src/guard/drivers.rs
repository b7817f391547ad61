//! Guards on connections of each driver, with the driver's own values and rows.

#[cfg(feature = "rusqlite")]
mod rusqlite;
#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
mod sqlx;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;
