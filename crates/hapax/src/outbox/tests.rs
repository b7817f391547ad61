#[cfg(feature = "sqlite")]
mod joint;
mod order;
