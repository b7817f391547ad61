//! Files beside the endpoints, so that a page and the shop have one origin.

use std::path::{Component, Path, PathBuf};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Uri};

use crate::input::Problem;
use crate::shop::Shop;

/// The file that the path names, in the first folder that has it.
pub(crate) async fn find(State(shop): State<Shop>, method: Method, uri: Uri) -> Response {
    let none = || Problem::new(404, "not-found", "no such path").into_response();
    let Some(name) = relative(uri.path()).filter(|_| method == Method::GET) else {
        return none();
    };
    let kind = content_type(&name);
    let read = move || {
        shop.options
            .pages
            .iter()
            .find_map(|folder| std::fs::read(folder.join(&name)).ok())
    };
    // A task that cannot run is a shop that ends.
    match tokio::task::spawn_blocking(read).await.ok().flatten() {
        Some(bytes) => ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], bytes).into_response(),
        None => none(),
    }
}

/// The path below a folder; `None` if it could lead out of it.
fn relative(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix('/')?;
    let path = if path.is_empty() { "index.html" } else { path };
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    inside.then(|| path.into())
}

fn content_type(name: &Path) -> &'static str {
    match name.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_a_folder() {
        for (path, file) in [
            ("/", Some("index.html")),
            ("/a.js", Some("a.js")),
            ("/a/b.js", Some("a/b.js")),
            ("//etc/passwd", None),
            ("/../a", None),
            ("/a/../../b", None),
            ("a", None),
        ] {
            assert_eq!(relative(path), file.map(PathBuf::from), "{path}");
        }
    }
}
