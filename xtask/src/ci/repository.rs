//! House rules that a command can hold: layout, size of files, paths of this
//! machine, dead links.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Failure, Outcome, output, root};

/// A person should be able to hold a file in mind; this is where one no longer
/// can.
const MOST_LINES: usize = 600;

/// The check.
pub(super) fn check() -> Outcome {
    let files = files()?;
    let private = private_paths();
    let mut complaints = Vec::new();
    for file in &files {
        let shown = file.display();
        if file.file_name().is_some_and(|name| name == "mod.rs") {
            complaints.push(format!("{shown}: name it after its module, beside the folder"));
        }
        // What is no text has no lines and no words.
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            continue;
        };
        complaints.extend(text_complaints(file, &text, &private));
        if file.extension().is_some_and(|extension| extension == "md") {
            complaints.extend(dead_links(file, &text));
        }
    }
    let script = root().join(".ci/run");
    let mode = fs::metadata(&script).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o111 == 0 {
        complaints.push(".ci/run: is not there or not executable".to_owned());
    }
    println!("{} files", files.len());
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(complaints.join("\n")))
    }
}

/// Files under version control, and those that will be.
fn files() -> Outcome<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let listed = output(&mut git)?;
    let files: Vec<PathBuf> = listed
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect();
    if files.is_empty() {
        return Err(Failure::Failed("git lists no files".to_owned()));
    }
    Ok(files)
}

/// Where this checkout and this user's files are: nobody else's business.
fn private_paths() -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let checkout = root().display().to_string();
    [home, checkout]
        .into_iter()
        .filter(|path| path.len() > 1)
        .map(|path| path + "/")
        .collect()
}

fn text_complaints(file: &Path, text: &str, private: &[String]) -> Vec<String> {
    let shown = file.display();
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if file.extension().is_some_and(|extension| extension == "rs") && lines > MOST_LINES {
        complaints.push(format!(
            "{shown}: {lines} lines; split it by meaning ({MOST_LINES} at most)"
        ));
    }
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(path) = private.iter().find(|path| content.contains(path.as_str())) {
            complaints.push(format!("{shown}:{line}: {path} exists on this machine only"));
        }
        if content.starts_with("<<<<<<< ") || content.starts_with(">>>>>>> ") {
            complaints.push(format!("{shown}:{line}: a conflict left from a merge"));
        }
    }
    complaints
}

/// Links of a page to files that are not there.
fn dead_links(file: &Path, text: &str) -> Vec<String> {
    let page = root().join(file);
    let folder = page.parent().unwrap_or(&page);
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ', '\n']).next());
    targets
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("{}: links to {target}, which is not there", file.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, text: &str) -> Vec<String> {
        text_complaints(Path::new(name), text, &["/home/me/".to_owned()])
    }

    #[test]
    fn long_sources_private_paths_and_conflicts_are_found() {
        assert!(complaints("a.rs", &"x\n".repeat(MOST_LINES)).is_empty());
        assert!(complaints("a.rs", &"x\n".repeat(MOST_LINES + 1))[0].contains("601 lines"));
        assert!(complaints("a.lock", &"x\n".repeat(MOST_LINES + 1)).is_empty());
        assert_eq!(complaints("a.md", "one\nsee /home/me/x").len(), 1);
        let conflict = format!("{} HEAD\n", "<".repeat(7));
        assert_eq!(complaints("a.md", &conflict).len(), 1);
    }

    #[test]
    fn links_to_files_that_are_not_there_are_found() {
        let page = Path::new("CONTRIBUTING.md");
        assert!(dead_links(page, "[a](Cargo.toml#x) [b](https://x.org/y) [c](#here)").is_empty());
        assert_eq!(dead_links(page, "[a](nowhere.md)").len(), 1);
    }
}
