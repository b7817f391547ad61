//! Routes of one name: what is stored, or resolved, is known by its name alone.

use super::Mistakes;
use crate::config::retention::settle;
use crate::config::source::Step::{Index, Key};
use crate::config::{Config, Route};

/// The name of what no route matches.
const REST: &str = "default";

/// Finds routes that share a name, but not what a runner goes by when it runs or resolves an operation of that name.
pub(super) fn names(config: &Config, mistakes: &mut Mistakes) {
    for (index, route) in config.routes.iter().enumerate() {
        let name = route.name.to_string();
        let earlier = config.routes[..index].iter().find(|other| other.name == route.name);
        if (earlier.is_none() && name != REST) || !is_run(config, &name) {
            continue;
        }
        let differences = differences(config, earlier, route);
        let Some(first) = differences.first() else { continue };
        let at = [
            Key("route"),
            Index(index),
            Key(if first.own { first.key } else { "name" }),
        ];
        let keys: Vec<&str> = differences.iter().map(|difference| difference.key).collect();
        let keys = keys.join(", ");
        let other = match earlier {
            Some(earlier) => format!("the route {}", earlier.path),
            None => "what no route matches".to_owned(),
        };
        mistakes.add(
            &at,
            format!(
                "the route {} shares the name {name:?} with {other}, but differs in: {keys}. What the runner runs or \
                 asks about is known by its name alone, so that one of them would be run as the other",
                route.path
            ),
            format!("write the same {keys} for both, or give this route a name of its own"),
        );
    }
}

/// Whether a runner has to do with operations of a name.
fn is_run(config: &Config, name: &str) -> bool {
    let rest = (name == REST).then_some(None);
    let named = config.routes.iter().filter(|route| route.name.to_string() == name);
    rest.into_iter().chain(named.map(Some)).any(|route| {
        let accepts = route.and_then(|route| route.respond_async);
        accepts.unwrap_or(config.respond_async) || probe(config, route).is_some()
    })
}

fn probe<'a>(config: &'a Config, route: Option<&'a Route>) -> Option<&'a crate::config::probe::Probe> {
    route.and_then(|route| route.probe.as_ref()).or(config.probe.as_ref())
}

/// Something in which two routes differ.
struct Difference {
    key: &'static str,
    /// Whether the route itself says so.
    own: bool,
}

/// In what `route` is not run as `other` is, or as what no route matches.
fn differences(config: &Config, other: Option<&Route>, route: &Route) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |key, own, differ| {
        if differ {
            found.push(Difference { key, own });
        }
    };
    macro_rules! compare {
        ($(($key:literal, $field:ident, $usual:expr)),+ $(,)?) => {
            $(
                let usual = &$usual;
                let there = other.and_then(|other| other.$field.as_ref()).unwrap_or(usual);
                let here = route.$field.as_ref().unwrap_or(usual);
                differ($key, route.$field.is_some(), here != there);
            )+
        };
    }
    compare!(
        ("lease", lease, config.lease),
        ("max_run", max_run, config.max_run),
        ("after_failure", after_failure, config.after_failure),
        ("no_effect", no_effect, config.no_effect),
        ("final", final_statuses, config.final_statuses),
        ("replay_for", replay_for, config.replay_for),
        ("remember_for", remember_for, config.remember_for),
        ("settle", settle, settle(config, None)),
        ("answer", answer, config.limits.answer),
    );
    let headers = |route: Option<&Route>| route.map(|route| route.keep_headers.clone()).unwrap_or_default();
    let keep = headers(Some(route)) != headers(other);
    differ("keep_headers", !route.keep_headers.is_empty(), keep);
    let retry = route.retry.as_ref() != other.and_then(|other| other.retry.as_ref());
    differ("retry", route.retry.is_some(), retry);
    let probes = probe(config, Some(route)) != probe(config, other);
    differ("probe", route.probe.is_some(), probes);
    found
}
