//! Mistakes in routes.

use super::{Mistakes, Times, positive};
use crate::config::source::Step::{self, Index, Key};
use crate::config::{Config, Route};

/// Finds routes that make no sense, or match the same requests.
pub(super) fn routes(config: &Config, mistakes: &mut Mistakes) {
    for (index, route) in config.routes.iter().enumerate() {
        let at = [Key("route"), Index(index)];
        one_route(config, route, &at, mistakes);
        let earlier = config.routes[..index]
            .iter()
            .find(|earlier| same_requests(earlier, route));
        if let Some(earlier) = earlier {
            mistakes.add(
                &[Key("route"), Index(index), Key("path")],
                format!(
                    "the routes {:?} and {:?} match the same requests ({})",
                    earlier.name.to_string(),
                    route.name.to_string(),
                    route.path
                ),
                "keep one of them, or give them different methods",
            );
        }
    }
}

fn one_route(config: &Config, route: &Route, at: &[Step], mistakes: &mut Mistakes) {
    let path = |key| [at, &[Key(key)]].concat();
    if let Err((problem, help)) = pattern(&route.path) {
        mistakes.add(&path("path"), problem, help);
    }
    if route.methods.is_empty() {
        mistakes.add(
            &path("methods"),
            "a route without methods protects nothing",
            "write methods = [\"POST\"]",
        );
    }
    if !route.ignore.is_empty() && !route.select.is_empty() {
        mistakes.add(
            &path("select"),
            "ignore and select are both given",
            "keep ignore (all but these parts count) or select (only these parts count)",
        );
    }
    for (key, period) in [
        ("lease", route.lease),
        ("max_run", route.max_run),
        ("replay_for", route.replay_for),
        ("remember_for", route.remember_for),
        ("client_retries_for", route.client_retries_for),
        ("redrive_for", route.redrive_for),
        ("settle", route.settle),
    ] {
        if let Some(period) = period {
            positive(&path(key), key, period, mistakes);
        }
    }
    let own = [
        route.wait,
        route.lease,
        route.max_run,
        route.replay_for,
        route.remember_for,
    ];
    if own.iter().any(Option::is_some) {
        let times = Times {
            wait: route.wait.unwrap_or(config.wait),
            lease: route.lease.unwrap_or(config.lease),
            max_run: route.max_run.unwrap_or(config.max_run),
            replay_for: route.replay_for.unwrap_or(config.replay_for),
            remember_for: route.remember_for.unwrap_or(config.remember_for),
        };
        times.check(at, config.max_wait, mistakes);
    }
}

/// Whether a path pattern makes sense: `/a/{b}/c`, `/a/{*rest}`.
fn pattern(path: &str) -> Result<(), (String, String)> {
    let help = "write a path such as /orders, /orders/{id}/pay or /files/{*rest}".to_owned();
    if !path.starts_with('/') {
        return Err((format!("the path {path:?} does not begin with a slash"), help));
    }
    if path.contains(['?', '#']) {
        return Err((format!("the path {path:?} has a query: only the path is matched"), help));
    }
    let segments: Vec<&str> = path[1..].split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let literal = !segment.contains(['{', '}', '*']);
        let fine = match inner {
            Some(name) => {
                let rest = name.strip_prefix('*');
                let name = rest.unwrap_or(name);
                !name.is_empty() && !name.contains(['{', '}', '*']) && (rest.is_none() || index + 1 == segments.len())
            }
            None => literal,
        };
        if !fine {
            return Err((format!("{segment:?} in the path {path:?} makes no sense"), help));
        }
    }
    Ok(())
}

/// Whether two routes match the same requests: the same pattern, whatever its parts are called, and a method in
/// common.
fn same_requests(one: &Route, other: &Route) -> bool {
    let shape = |path: &str| -> Vec<String> {
        path.split('/')
            .map(|segment| match segment.strip_prefix('{') {
                Some(rest) if rest.starts_with('*') => "{*}".to_owned(),
                Some(_) => "{}".to_owned(),
                None => segment.to_owned(),
            })
            .collect()
    };
    shape(&one.path) == shape(&other.path) && one.methods.iter().any(|method| other.methods.contains(method))
}
