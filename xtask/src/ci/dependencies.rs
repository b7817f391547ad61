//! What the workspace may depend on: which crate may import which, licences,
//! and versions that come twice.
//!
//! Asked of `cargo tree`, so it needs nothing installed and no network. It
//! knows no security advisories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::step::{Failure, Outcome, cargo, locked, output, root};

/// Imports go one way: each of our crates, and which others of them it may
/// import outside its tests.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("hapax-core", &[]),
    ("hapax-store", &["hapax-core"]),
    ("hapax", &["hapax-core", "hapax-store"]),
    ("hapax-check", &["hapax-core", "hapax-store", "hapax"]),
    ("hapax-server", &["hapax-core", "hapax-store", "hapax", "hapax-shop"]),
    ("hapax-consumers", &["hapax", "hapax-testbed"]),
    ("hapax-shop", &[]),
    ("hapax-testbed", &[]),
    ("hapax-bench", &["hapax", "hapax-testbed"]),
];

/// The protocol compiles no runtime and no driver: this is all it may use.
const CORE_MAY_USE: &[&str] = &["blake3", "bytes", "thiserror"];

/// Licences under which whoever installs hapax may use it freely.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that come in two versions because others have not moved on. Each
/// costs build time and size only.
const MAY_COME_TWICE: &[&str] = &[
    "base64",            // lettre 0.23, the rest 0.22
    "block-buffer",      // with sha2
    "cpufeatures",       // with sha2
    "cipher",            // PKCS#12 of lapin's TLS 0.4, chacha20poly1305 0.5
    "const-oid",         // x509-cert (for channel binding) 0.9, digest 0.10
    "crypto-common",     // with sha2
    "digest",            // with sha2
    "fallible-iterator", // rusqlite 0.3, postgres-protocol 0.2
    "getrandom",         // ring 0.2, the rest 0.4
    "hashbrown",         // hashlink 0.16, the rest 0.17
    "hmac",              // PKCS#12 of lapin's TLS 0.12, the rest 0.13
    "inout",             // with cipher
    "nom",               // certificates of lapin's TLS 7, the rest 8
    "rand",              // nkeys (logins of NATS) 0.8, the rest 0.10
    "rand_core",         // with rand
    "sha1",              // PKCS#12 of lapin's TLS 0.10, the rest 0.11
    "sha2",              // sqlx-core 0.10, the rest 0.11
    "syn",               // derive macros, at build time: some 2, the rest 3
    "synstructure",      // with syn
];

const SHIPPED: &[&str] = &["--all-features", "--edges", "normal,build", "--prefix", "none"];

/// The check.
pub(super) fn check() -> Outcome {
    let mut complaints = imports()?;
    complaints.extend(core()?);
    complaints.extend(licences()?);
    complaints.extend(duplicates()?);
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(complaints.join("\n")))
    }
}

fn tree(arguments: &[&str]) -> Outcome<Vec<String>> {
    let text = output(cargo(&["tree"]).args(locked()).args(SHIPPED).args(arguments))?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The names of what a crate depends on directly, outside its tests.
fn direct(package: &str) -> Outcome<BTreeSet<String>> {
    let lines = tree(&["--package", package, "--depth", "1", "--format", "{p}"])?;
    Ok(lines
        .iter()
        .skip(1)
        .filter_map(|line| name(line))
        .map(str::to_owned)
        .collect())
}

fn name(package: &str) -> Option<&str> {
    package.split(' ').next()
}

fn imports() -> Outcome<Vec<String>> {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut complaints = Vec::new();
    for package in ours()? {
        let Some(allowed) = rules.get(package.as_str()) else {
            complaints.push(format!("{package}: no rule says what it may import (MAY_IMPORT)"));
            continue;
        };
        for import in direct(&package)? {
            if rules.contains_key(import.as_str()) && !allowed.contains(&import.as_str()) {
                complaints.push(format!("{package} may not import {import}: imports go one way"));
            }
        }
    }
    Ok(complaints)
}

/// Our crates but for this one, which may import any of them.
fn ours() -> Outcome<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for line in tree(&["--workspace", "--depth", "0", "--format", "{p}"])? {
        if let Some(name) = name(&line)
            && name != env!("CARGO_PKG_NAME")
        {
            names.insert(name.to_owned());
        }
    }
    // A tree that lists nothing would let everything pass.
    let folders = fs::read_dir(root().join("crates")).map_or(0, Iterator::count);
    if names.len() < folders || folders == 0 {
        return Err(Failure::Failed(format!(
            "cargo tree lists {} crates, but crates/ has {folders}",
            names.len()
        )));
    }
    Ok(names)
}

fn core() -> Outcome<Vec<String>> {
    let used = direct("hapax-core")?;
    let foreign = used.iter().filter(|name| !CORE_MAY_USE.contains(&name.as_str()));
    Ok(foreign
        .map(|name| format!("hapax-core may not use {name}: it compiles no runtime and no driver"))
        .collect())
}

fn licences() -> Outcome<Vec<String>> {
    let lines: BTreeSet<String> = tree(&["--workspace", "--format", "{p}\t{l}"])?.into_iter().collect();
    let mut complaints = Vec::new();
    for line in lines {
        // Lines end with "(*)" where the tree was shown before.
        let line = line.trim_end_matches(" (*)");
        let (package, licence) = line.split_once('\t').unwrap_or((line, ""));
        if !is_free(licence) {
            complaints.push(format!("{package}: the licence `{licence}` is not in LICENCES"));
        }
    }
    Ok(complaints)
}

/// Whether one of the ways to read an SPDX expression is in the list. Brackets
/// are opened by asking for each part, which is stricter than they say.
fn is_free(licence: &str) -> bool {
    let listed = |one: &str| LICENCES.contains(&one.trim_matches(['(', ')', ' ']));
    let all = |part: &str| part.split(" AND ").all(listed);
    let or = licence.replace('/', " OR ");
    if licence.contains('(') {
        or.split(" OR ").all(all)
    } else {
        or.split(" OR ").any(all)
    }
}

fn duplicates() -> Outcome<Vec<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in tree(&["--workspace", "--duplicates", "--depth", "0", "--format", "{p}"])? {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    let unneeded = MAY_COME_TWICE.iter().filter(|name| !versions.contains_key(**name));
    let unneeded = unneeded.map(|name| format!("{name} is in MAY_COME_TWICE, but comes once"));
    let unexplained = versions
        .iter()
        .filter(|(name, _)| !MAY_COME_TWICE.contains(&name.as_str()));
    let unexplained = unexplained.map(|(name, versions)| {
        let versions = versions.iter().cloned().collect::<Vec<_>>().join(", ");
        format!("{name} comes in versions {versions}: use one, or say why in MAY_COME_TWICE")
    });
    Ok(unneeded.chain(unexplained).collect())
}

#[cfg(test)]
mod tests {
    use super::is_free;

    #[test]
    fn a_licence_is_free_if_one_reading_of_it_is() {
        for free in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "Apache-2.0 AND ISC",
        ] {
            assert!(is_free(free), "{free}");
        }
        let exception = "Apache-2.0 WITH LLVM-exception OR GPL-2.0";
        assert!(is_free(exception) && is_free("(MIT OR Apache-2.0) AND Unicode-3.0"));
        for other in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND ISC", "MPL-2.0"] {
            assert!(!is_free(other), "{other}");
        }
    }
}
