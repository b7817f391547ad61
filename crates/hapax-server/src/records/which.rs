//! Which record is meant.

use clap::Args;
use hapax::core::{Filter, Store, Summary};

use crate::exit::{Exit, Failure};

/// Which record. The key alone will do where one scope has it under one name.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The idempotency key (after `--` if it begins with a dash)
    pub(super) key: String,
    /// The scope, as `hapax records ls` shows it
    #[arg(long)]
    scope: Option<String>,
    /// The name of the route
    #[arg(long, visible_alias = "route")]
    name: Option<String>,
}

impl Which {
    /// # Errors
    /// If no record is meant, or several.
    pub(crate) async fn find(&self, store: &dyn Store) -> Result<Summary, Failure> {
        find(store, &self.key, self.scope.as_deref(), self.name.as_deref()).await
    }

    pub(crate) fn absent(&self) -> Failure {
        absent(&self.key, self.scope.is_some() || self.name.is_some())
    }
}

/// The one record with this key in this scope and under this name, as far as they are given.
///
/// # Errors
/// If there is none, or several.
pub(crate) async fn find(
    store: &dyn Store,
    key: &str,
    scope: Option<&str>,
    name: Option<&str>,
) -> Result<Summary, Failure> {
    let filter = Filter {
        scope: scope.map(str::to_owned),
        name: name.map(str::to_owned),
        key: Some(key.to_owned()),
        ..Filter::default()
    };
    let mut found = store.list(filter, None, 50).await?.records;
    match found.len() {
        0 => Err(absent(key, scope.is_some() || name.is_some())),
        1 => Ok(found.remove(0)),
        _ => {
            let lines: Vec<String> = found
                .iter()
                .map(|summary| {
                    let operation = &summary.operation;
                    format!("  --scope {} --name {}", operation.scope(), operation.name())
                })
                .collect();
            let message = format!("several records have the key {key}; say which:\n{}", lines.join("\n"));
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn absent(key: &str, is_narrowed: bool) -> Failure {
    let narrowed = if is_narrowed {
        " in this scope and under this name"
    } else {
        ""
    };
    Failure::new(
        Exit::Failed,
        format!(
            "there is no record with the key {key}{narrowed}: never asked for, or forgotten since; \
             hapax audit {key} tells if somebody forgot it"
        ),
    )
}
