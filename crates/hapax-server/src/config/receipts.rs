//! `[receipts]`: the database in which the backend proves what it committed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Mistakes;
use super::outbox::DatabaseUrl;
use super::source::Step::{Index, Key};
use super::{AfterFailure, Config, Route};

/// Where the backend writes receipts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Receipts {
    /// The backend's own database, where `hapax receipts install` was run. Nothing rests on receipts if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<DatabaseUrl>,
    /// Look for a receipt before any run: after the store was restored or failed over, and may have lost records.
    pub(crate) recovering: bool,
    /// Whether the backend writes one for each operation that has an effect, where a route says nothing.
    pub(crate) written: Written,
}

/// Whether the backend writes receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Written {
    /// For each operation that has an effect: what is without one did not happen, and is run again.
    Required,
    /// Once one of the same name was seen, as long as none that was answered is without: until then, what is unknown
    /// stays so.
    #[default]
    IfSeen,
    /// Nowhere: nothing rests on them.
    Never,
}

impl Receipts {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What holds for a route, or for what no route matches.
pub(crate) fn written(config: &Config, route: Option<&Route>) -> Written {
    match config.receipts.database {
        None => Written::Never,
        Some(_) => route
            .and_then(|route| route.receipts)
            .unwrap_or(config.receipts.written),
    }
}

/// Finds what contradicts receipts.
pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    let mut known = vec![("default".to_owned(), written(config, None))];
    let both = |route: Option<&Route>| {
        let after_failure = route
            .and_then(|route| route.after_failure)
            .unwrap_or(config.after_failure);
        written(config, route) != Written::Never && after_failure == AfterFailure::Retry
    };
    let help =
        "leave out after_failure = \"retry\", or write receipts = \"never\" for routes whose backend writes none";
    let problem = "receipts say what happened, so that nothing is run again by guess";
    if both(None) {
        mistakes.add(&[Key("after_failure")], problem, help);
    }
    for (index, route) in config.routes.iter().enumerate() {
        let (name, own) = (route.name.to_string(), written(config, Some(route)));
        if both(Some(route)) {
            mistakes.add(&[Key("route"), Index(index), Key("after_failure")], problem, help);
        }
        match known.iter().find(|(other, _)| *other == name) {
            // An operation is known by its name alone when somebody asks what became of it.
            Some((_, other)) if *other != own => mistakes.add(
                &[Key("route"), Index(index), Key("receipts")],
                format!("another route of the name {name} says otherwise of its receipts"),
                "say the same, or give this route a name of its own",
            ),
            _ => known.push((name, own)),
        }
    }
}
